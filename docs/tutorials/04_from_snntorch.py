# %% [markdown]
# # Coming from snnTorch
#
# **What you will learn:** what of snnTorch is called what here, how a network comes over, learns by LFP, and goes
# back with the same spikes. Ten minutes to read. Needs `pip install 'spiking-lfp[interop]'`.
#
# | snnTorch | here |
# |---|---|
# | `nn.Linear(...)`, `snn.Leaky(beta=0.9)` | `LIF(nn.Linear(...), beta=0.9)` |
# | `snn.Synaptic(alpha, beta)` | `CubaLIF(nn.Linear(...), alpha, beta)` |
# | `snn.RLeaky(...)` | `RecurrentLIF(nn.Linear(...), ...)` |
# | `reset_mechanism="subtract"`, `"zero"`, `"none"` | `reset="subtract"`, `"zero"`, `"none"` |
# | `for step in range(T): spk, mem = lif(fc(x[step]), mem)` | `spikes = net(x)` |
# | `spike_grad=surrogate.fast_sigmoid()` | nothing |
# | `spikegen.rate(x, num_steps=25)` | `rate(x, steps=25)` |
# | `SF.ce_count_loss()(spk, y).backward()` | `propagate(spk, spike_count_reward(spk, y))` |
# | `SF.accuracy_rate(spk, y)` | `(spk.sum(0).argmax(-1) == y).float().mean()` |

# %%
import matplotlib.pyplot as plt
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import utils
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.deploy.interop import from_snntorch, to_snntorch

plt.style.use("spiking_lfp.plots.notebook")
torch.manual_seed(0)
STEPS = 8
digits = lfp.load_dataset("mnist-subset")
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
test_images, test_labels = digits.test_images.flatten(1) / 255, digits.test_labels

# %% [markdown]
# ## A network of snnTorch
#
# As one would write it there: layers and neurons in turn, each step by itself.

# %%
theirs = nn.Sequential(
    nn.Linear(784, 200),
    snn.Leaky(beta=0.9, init_hidden=True),
    nn.Linear(200, 10),
    snn.Leaky(beta=0.9, init_hidden=True, output=True),
)


@torch.no_grad()
def run_theirs(network, images):
    """Return the spikes `[T, B, 10]` of an snnTorch network, which with `output=True` returns membranes, too."""
    utils.reset(network)
    outputs = [network(images) for _ in range(STEPS)]
    return torch.stack([each[0] if isinstance(each, tuple) else each for each in outputs])


untrained = run_theirs(theirs, test_images)
print(f"snnTorch, untrained: {SF.accuracy_rate(untrained, test_labels):.1%}")

# %% [markdown]
# ## It comes over
#
# `from_snntorch` reads layers, weights and constants. The network takes all steps at once, and its spikes are the
# same to the bit.

# %%
network = from_snntorch(theirs)
network

# %%
with torch.no_grad():
    ours = network(lfp.constant(test_images, STEPS))
f"{int((ours != untrained).sum())} of {ours.numel():,} spikes differ"

# %% [markdown]
# ## It learns by LFP
#
# One pass over 10,000 digits. There is no `spike_grad` and no loss: the reward goes in by `propagate`.

# %%
optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
clip = lfp.AdaptiveClip(network.parameters())
accuracies = []
for batch in torch.randperm(len(labels)).split(100):
    optimizer.zero_grad()
    spikes = network(lfp.constant(images[batch], STEPS))
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
    clip()
    optimizer.step()
    accuracies.append(float(SF.accuracy_rate(spikes, labels[batch])))

# %% alt="Accuracy of each batch, which rises from a tenth to more than nine tenths within forty batches"
figure, axes = plt.subplots(figsize=(7.5, 2.4))
axes.plot(accuracies)
axes.set(xlabel="batch of 100 digits", ylabel="accuracy", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## And goes back
#
# `to_snntorch` returns an `nn.Sequential` of snnTorch's own modules. Read there, the accuracy is the same, since
# every spike is.

# %%
with torch.no_grad():
    spikes = network(lfp.constant(test_images, STEPS))
back = to_snntorch(network)
spikes_back = run_theirs(back, test_images)

print(f"here:         {(spikes.sum(0).argmax(-1) == test_labels).float().mean():.2%}")
print(f"in snnTorch:  {SF.accuracy_rate(spikes_back, test_labels):.2%}")
print(f"{int((spikes != spikes_back).sum())} of {spikes.numel():,} spikes differ")
back

# %% alt="The spikes of the ten outputs for one digit, here and in snnTorch, which are the same"
figure, panels = plt.subplots(1, 2, figsize=(7.5, 2.2), sharey=True)
for axes, found, title in zip(panels, (spikes, spikes_back), ("spiking_lfp", "snnTorch"), strict=True):
    axes.imshow(found[:, 0].T, aspect="auto", vmin=0, vmax=1)
    axes.set(title=title, xlabel="step", yticks=range(0, 10, 3))
panels[0].set_ylabel("class")
plt.show()

# %% [markdown]
# ## What else to know
#
# - Convolutions, pooling, `nn.Flatten`, recurrent and synaptic neurons, and batch normalisation between a synapse and
#   its neurons come over, too; what has no counterpart is refused by its name.
# - `loss.backward()` on such a network would run, and teach the opposite, because optimisers descend while rewards
#   are to grow: it warns. Any loss teaches by `propagate(-loss)`.
# - For norse there are `from_norse` and `to_norse`, for other packages [NIR](../nir.md).
#
# ## Where to go on
#
# - [Your own PyTorch or snnTorch project](../own_project.md): all of the table, and what to watch for
# - [Events from a camera](05_events.py)
# - [On to hardware](07_hardware.py)
