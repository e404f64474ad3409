# %% [markdown]
# # Recorded spikes of a chip in the loop
#
# **What you will learn:** how to train a network whose spikes are not computed here, but recorded from a chip that is
# not quite what its data sheet says. Ten minutes to read.
#
# The neurons of analogue chips differ from each other: thresholds and leaks vary, and there is noise. A network that
# was trained in software loses accuracy there. LFP needs to know what *happened*, and no derivative of it, so the
# forward pass may happen on the chip: it runs, its spikes are recorded, and feedback is divided over the recording.

# %%
import copy

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import spiking_lfp as lfp

plt.style.use("spiking_lfp.plots.notebook")
STEPS = 8
digits = lfp.load_dataset("mnist-subset")
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
test_images, test_labels = digits.test_images[:1000].flatten(1) / 255, digits.test_labels[:1000]

# %% [markdown]
# ## The chip
#
# We have none here, so a class plays it. It takes weights and inputs and returns spikes, as a chip with a probe does.
# Its thresholds and leaks are drawn once, when it is made, and nobody outside knows them; every step adds noise.


# %%
class Chip:
    """Two layers of analogue neurons that differ from each other."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        self.noise = torch.Generator().manual_seed(seed)
        self.threshold = [torch.exp(0.5 * torch.randn(n, generator=self.noise)) for n in sizes]
        self.beta = [0.5 + 0.49 * torch.rand(n, generator=self.noise) for n in sizes]

    @torch.no_grad()
    def run(self, weights: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
        """Return the spikes `[T, B, n]` of each layer."""
        recorded = []
        for (weight, bias), threshold, beta in zip(weights, self.threshold, self.beta, strict=True):
            current = x @ weight.T + bias
            membrane, fired, spikes = torch.zeros_like(current[0]), torch.zeros_like(current[0]), []
            for now in current:
                noise = 0.2 * torch.randn(now.shape, generator=self.noise)
                membrane = beta * membrane + now + noise - threshold * fired
                fired = (membrane > threshold).float()
                spikes.append(fired)
            x = torch.stack(spikes)
            recorded.append(x)
        return recorded


chip = Chip([150, 10], seed=7)

# %% alt="Histograms of the chip's thresholds and leaks, both wide"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.1))
left.hist(chip.threshold[0].numpy(), 20)
left.axvline(1, color="C1")
left.set(xlabel="threshold", ylabel="neurons", title="what the chip has, and the data sheet (line)")
right.hist(chip.beta[0].numpy(), 20)
right.axvline(0.9, color="C1")
right.set(xlabel="beta")
plt.show()

# %% [markdown]
# ## Trained in software
#
# A network as the data sheet says, for one pass.


# %%
def make() -> nn.Sequential:
    """Return the network, as the data sheet has it."""
    torch.manual_seed(0)
    return nn.Sequential(lfp.LIF(nn.Linear(784, 150), beta=0.9), lfp.LIF(nn.Linear(150, 10), beta=0.9))


def weights_of(network: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return what is written into the chip."""
    return [(layer.synapse.weight, layer.synapse.bias) for layer in network]


def accuracy_on_chip(network: nn.Sequential) -> float:
    """Return the test accuracy of the weights on the chip."""
    counts = chip.run(weights_of(network), lfp.constant(test_images, STEPS))[-1].sum(0)
    return float((counts.argmax(-1) == test_labels).float().mean())


network = make()
optimizer, clip = torch.optim.Adam(network.parameters(), lr=2e-3), lfp.AdaptiveClip(network.parameters())
for batch in torch.randperm(len(labels)).split(100):
    optimizer.zero_grad()
    spikes = network(lfp.constant(images[batch], STEPS))
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
    clip()
    optimizer.step()

with torch.no_grad():
    right = network(lfp.constant(test_images, STEPS)).sum(0).argmax(-1) == test_labels
in_software, on_chip = float(right.float().mean()), accuracy_on_chip(network)
print(f"in software {in_software:.1%}, the same weights on the chip {on_chip:.1%}")

# %% [markdown]
# ## From spikes to membranes
#
# `recorded` takes the membrane of every step, since feedback is divided over it, and spikes follow from it. Our chip
# gives spikes only. So we let the neuron of the data sheet follow the recording, and correct it where it disagrees:
# where the chip fired the membrane must have been above the threshold, elsewhere not.


# %%
@torch.no_grad()
def membranes(layer: lfp.LIF, inputs: Tensor, spikes: Tensor) -> Tensor:
    """Return membranes `[T, B, n]` that make exactly these spikes."""
    current, membrane, fired, found = layer.synapse(inputs), 0.0, 0.0, []
    for now, spiked in zip(current, spikes, strict=True):
        membrane = layer.beta * membrane + now - layer.threshold * fired
        over, under = membrane.clamp(min=1.001 * layer.threshold), membrane.clamp(max=layer.threshold)
        membrane = torch.where(spiked > 0, over, under)
        fired = spiked
        found.append(membrane)
    return torch.stack(found)


# %% alt="Membrane of one neuron by the data sheet alone, and corrected by the chip's spikes, with these spikes above"
x = lfp.constant(test_images[:1], STEPS * 3)
spikes = chip.run(weights_of(network), x)[0]
followed = membranes(network[0], x, spikes)
neuron = int((spikes[:, 0].sum(0) - STEPS).abs().argmin())  # one that fires in about every third step
state, alone = None, []
for step in range(len(x)):
    _, state = network[0].run(x[step : step + 1], state)
    alone.append(state[0, neuron].item())

figure, axes = plt.subplots(figsize=(7.5, 2.5))
axes.plot(alone, color="0.6", label="data sheet alone")
axes.plot(followed[:, 0, neuron], label="corrected by the recording")
axes.axhline(1, color="0.5", linestyle="--", linewidth=1)
fired = spikes[:, 0, neuron].nonzero().flatten()
axes.plot(
    fired, [1.1 * followed[:, 0, neuron].max()] * len(fired), "|", color="C1", markersize=10, label="the chip's spikes"
)
axes.set(xlabel="step", ylabel="membrane")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## The chip in the loop
#
# Inside `recorded` the layers return the recording in place of running; the network's outputs are the chip's own
# spikes.

# %%
x = lfp.constant(images[:100], STEPS)
hidden, outputs = chip.run(weights_of(network), x)
states = {"0": membranes(network[0], x, hidden), "1": membranes(network[1], hidden, outputs)}
with lfp.recorded(network, states):
    spikes = network(x)
torch.equal(spikes, outputs)

# %% [markdown]
# Everything else is the loop as ever: reward, `propagate`, optimiser; then the new weights go to the chip. To be
# fair, we compare with a second pass in software.


# %%
def second_pass(in_the_loop: bool) -> list[float]:
    """Train a copy of the network for another pass, and return its accuracy on the chip after every tenth batch."""
    torch.manual_seed(1)
    trained = copy.deepcopy(network)
    optimizer, clip = torch.optim.Adam(trained.parameters(), lr=2e-3), lfp.AdaptiveClip(trained.parameters())
    course = [accuracy_on_chip(trained)]
    for number, batch in enumerate(torch.randperm(len(labels)).split(100), 1):
        x = lfp.constant(images[batch], STEPS)
        optimizer.zero_grad()
        if in_the_loop:
            hidden, outputs = chip.run(weights_of(trained), x)
            states = {"0": membranes(trained[0], x, hidden), "1": membranes(trained[1], hidden, outputs)}
            with lfp.recorded(trained, states):
                spikes = trained(x)
        else:
            spikes = trained(x)
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
        clip()
        optimizer.step()
        if number % 10 == 0:
            course.append(accuracy_on_chip(trained))
    return course


# %% alt="Accuracy on the chip over the batches of a second pass: with the chip in the loop it rises above that of a pass in software"
figure, axes = plt.subplots(figsize=(7.5, 2.8))
for in_the_loop, name in ((True, "with the chip in the loop"), (False, "in software")):
    course = second_pass(in_the_loop)
    label = f"second pass {name}, {course[-1]:.1%}"
    axes.plot(range(0, 101, 10), [100 * value for value in course], "o-", markersize=4, label=label)
axes.axhline(100 * in_software, color="0.5", linestyle="--", linewidth=1, label="first pass, where it runs in software")
axes.set(xlabel="batch of the second pass", ylabel="accuracy on the chip [%]")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# The network was never told what the thresholds are. It found weights that work with them.
#
# ## With a chip of your own
#
# Only `chip.run` changes: write the weights, send the inputs, return the spikes. If the chip also records its
# membranes, give them to `recorded` as they are, in units of the threshold, and leave the reconstruction out. Digital
# chips are exact, so that [integers in the loop](07_hardware.py) do.
#
# ## Where to go on
#
# - [From int8 to a board](../hardware.md)
# - [How the code works](../how_it_works.md): what a trace is, and why anything that fills one can be trained
