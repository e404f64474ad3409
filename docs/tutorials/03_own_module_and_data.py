# %% [markdown]
# # Your own module and data
#
# **What you will learn:** how to train an `nn.Module` of your own on arrays of your own, in one call or in a loop
# that you write, and how to look at what it has learned. Ten minutes to read.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import spiking_lfp as lfp

torch.manual_seed(0)
plt.style.use("spiking_lfp.plots.notebook")

# %% [markdown]
# ## Data of your own
#
# Any arrays will do. Here they are points of the plane on three arms of a spiral, which no straight line can tell
# apart.


# %%
def spiral(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points `[N, 2]` from 0 to 1, and which of three arms each is on."""
    random = np.random.default_rng(seed)
    arm, along = random.integers(3, size=samples), np.sqrt(random.random(samples))
    angle = 2 * np.pi * arm / 3 + 4 * along + 0.45 * random.standard_normal(samples)
    points = 0.5 + 0.5 * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points.clip(0, 1).astype(np.float32), arm


train, test = spiral(3000, seed=1), spiral(600, seed=2)

# %% alt="Points of three classes on the arms of a spiral"
figure, axes = plt.subplots(figsize=(3.6, 3.4))
for arm in range(3):
    axes.plot(*train[0][train[1] == arm].T, ".", markersize=3, label=f"arm {arm}")
axes.set(xticks=[], yticks=[], aspect="equal")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=3)
plt.show()

# %% [markdown]
# ## From numbers to inputs
#
# Two numbers are few for a network of spikes. Receptive fields make eight of each, Gaussian bumps whose activities
# say where the number lies. `population` draws them here; in training it is the setting `encoding_neurons`.

# %% alt="Eight Gaussian receptive fields between 0 and 1"
grid = torch.linspace(0, 1, 200)
figure, axes = plt.subplots(figsize=(7.5, 1.8))
axes.plot(grid, lfp.population(grid, neurons=8), color="C0")
axes.set(xlabel="value", ylabel="activity")
plt.show()

# %% [markdown]
# ## A module of your own
#
# Layers are `nn.Module`s, so a network is any module that takes `[T, B, ...]` and returns `[T, B, classes]`. Where
# two paths meet, `lfp.add` divides the feedback between them; a plain `+` would give all of it to both.


# %%
class Skip(nn.Module):
    """Two hidden layers, around the second of which the spikes skip."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.flatten = lfp.Flatten()
        self.first = lfp.LIF(nn.Linear(inputs, hidden), threshold=0.5)
        self.second = lfp.LIF(nn.Linear(hidden, hidden), threshold=0.5)
        self.last = lfp.LIF(nn.Linear(hidden, classes), threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map values `[T, B, 2, 8]` to spikes `[T, B, classes]`."""
        spikes = self.first(self.flatten(x))
        return self.last(lfp.add(spikes, self.second(spikes)))


network = Skip(inputs=2 * 8, hidden=100, classes=3)

# %% [markdown]
# ## One call
#
# `fit` takes arrays, tensors, lists, data sets and data loaders of torch, or the path of a folder.

# %%
run = lfp.fit(
    network, train, test, steps=12, epochs=6, lr=5e-3, encoding_neurons=8, class_names=["first", "second", "third"],
    progress=False,
)  # fmt: skip
print(f"test accuracy: {run.history[-1]['test']['accuracy']:.1%}")
run.predict(test[0][:4]).names

# %% [markdown]
# The answers for all points of the plane show what it learned.

# %% alt="The plane in three colours, divided along the arms of the spiral, with the test points on it"
side = np.linspace(0, 1, 80, dtype=np.float32)
plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
answers = run.predict(plane).labels.reshape(80, 80)

from matplotlib.colors import ListedColormap

colours = [f"C{arm}" for arm in range(3)]
figure, axes = plt.subplots(figsize=(3.4, 3.4))
axes.imshow(answers, origin="lower", extent=(0, 1, 0, 1), cmap=ListedColormap(colours), alpha=0.35)
for arm in range(3):
    axes.plot(*test[0][test[1] == arm].T, ".", markersize=3, color=colours[arm])
axes.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Killed?
#
# Everything is in the run's folder. The same call with `resume=True` goes on at the last checkpoint; later,
# `load_run` needs nothing but the folder, if your module can be imported.

# %%
sorted(path.name for path in run.folder.iterdir())

# %%
lfp.load_run(run.folder, network=Skip(2 * 8, 100, 3)).evaluate(test).accuracy

# %% [markdown]
# ## A loop of your own
#
# The loop inside `fit` is short. `propagate` stands where `loss.backward()` was; optimisers, schedulers and
# `clip_grad_norm_` are torch's. Calling `backward` on a loss would teach the opposite, and warns.

# %%
values, labels = torch.from_numpy(train[0]), torch.from_numpy(train[1])
network = Skip(2 * 8, 100, 3)
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
clip = lfp.AdaptiveClip(network.parameters())

for epoch in range(4):
    for batch in torch.randperm(len(labels)).split(100):
        optimizer.zero_grad()
        spikes = network(lfp.constant(lfp.population(values[batch], neurons=8), steps=12))
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
        clip()
        optimizer.step()
    with torch.no_grad():
        counts = network(lfp.constant(lfp.population(test[0], neurons=8), steps=12)).sum(0)
    print(f"epoch {epoch + 1}: {(counts.argmax(-1).numpy() == test[1]).mean():.1%}")

# %% [markdown]
# ## Where to go on
#
# - [Your own data](../own_data.md): folders of images, recordings and sounds, sequences of different lengths,
#   callbacks
# - [Rewards and readouts](../rewards.md): several labels, numbers, any loss by `propagate(-loss)`
# - [Coming from snnTorch](04_from_snntorch.py), or [on to hardware](07_hardware.py)
