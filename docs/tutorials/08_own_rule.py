# %% [markdown]
# # A rule of your own
#
# **What you will learn:** what a rule is, how to write one in three lines, where it matters, and how to give each
# layer its own. Ten minutes to read.
#
# A neuron adds up contributions `z_i = w_i x_i` to `z`. When it gets feedback `r`, it hands each contribution the
# share `z_i / N` of it. A *rule* is nothing but the normaliser `N`: everything else, synapses, time and updates, is
# the same for all.

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import nn

import spiking_lfp as lfp

torch.manual_seed(0)
plt.style.use("spiking_lfp.plots.notebook")

# %% [markdown]
# ## The problem
#
# LFP-epsilon takes `N = |z| + epsilon`. Where contributions nearly cancel, `z` is close to 0 and a share of far more
# than all there is goes back. Ours shall have a floor: `N = |z|`, but never less than `least`.


# %%
@dataclass(frozen=True)
class Floor(lfp.Rule):
    """N = max(|z|, least)."""

    least: float = 0.3

    def gain(self, contributions: lfp.Contributions) -> torch.Tensor:
        """Return 1 / N."""
        return 1 / contributions.size().clamp(min=self.least)


# %% [markdown]
# `gain` returns `1 / N` for any shape. `contributions.size()` is `|z|`, where a neuron has a memory that of its two
# parts, what was there and what came.

# %% alt="Gain over the sum of contributions: epsilon's goes to infinity at 0, the floor's stays below a bound"
z = torch.linspace(-2, 2, 801)
figure, axes = plt.subplots(figsize=(7.5, 2.6))
axes.plot(z, lfp.Epsilon().gain(lfp.Contributions(z)), label="Epsilon")
axes.plot(z, Floor().gain(lfp.Contributions(z)), label="Floor(0.3)")
axes.set(xlabel="z", ylabel="gain 1 / N", ylim=(0, 12))
axes.legend()
plt.show()

# %% [markdown]
# ## Checked by hand
#
# One neuron without memory, two contributions: `2.0 * 1.0 = 2` and `-1.9 * 1.0 = -1.9`, so `z = 0.1`. It gets
# feedback 1.

# %%
for rule in (lfp.Epsilon(), Floor()):
    neuron = lfp.Affine(nn.Linear(2, 1, bias=False), rule=rule)
    with torch.no_grad():
        neuron.synapse.weight.copy_(torch.tensor([[2.0, -1.9]]))
    x = torch.ones(1, 1, 2, requires_grad=True)
    lfp.propagate(neuron(x), torch.ones(1, 1, 1))
    print(f"{rule}: feedback {[round(each, 2) for each in x.grad.flatten().tolist()]}")

# %% [markdown]
# `2 / 0.1` and `-1.9 / 0.1` by the one, `2 / 0.3` and `-1.9 / 0.3` by the other.

# %% [markdown]
# ## Where it matters: depth
#
# Nine layers of ReLUs, untrained. A composite lets any model of torch run by a rule; hooks watch the feedback on its
# way back.

# %%
deep = nn.Sequential(*[part for _ in range(9) for part in (nn.Linear(100, 100), nn.ReLU())], nn.Linear(100, 10))
for layer in deep:
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # sums keep their size from layer to layer
        nn.init.zeros_(layer.bias)
samples = torch.randn(50, 100)


def feedback_by_layer(rule: lfp.Rule) -> list[float]:
    """Return the mean size of a sample's feedback at the inputs of each dense layer."""
    sizes, x = [], samples.clone().requires_grad_()

    def watch(layer: nn.Module, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> None:
        inputs[0].register_hook(lambda feedback: sizes.append(float(feedback.abs().sum(1).mean())))

    hooks = [layer.register_forward_hook(watch) for layer in deep if isinstance(layer, nn.Linear)]
    with lfp.Composite(rule).applied(deep):
        logits = deep(x)
    lfp.propagate(logits, torch.ones_like(logits) / 10)
    for hook in hooks:
        hook.remove()
    return sizes


# %% alt="Size of feedback by layer on a logarithmic scale: with epsilon it stays far above what was given, with the floor a little above, with z-plus-z-minus it fades"
figure, axes = plt.subplots(figsize=(7.5, 2.8))
for rule in (lfp.Epsilon(), Floor(), lfp.ZPlusZMinus()):
    axes.semilogy(range(1, 11), feedback_by_layer(rule), "o-", markersize=4, label=type(rule).__name__)
axes.set(xlabel="layers back from the output", ylabel="sum of |feedback|")
axes.legend()
plt.show()

# %% [markdown]
# Each output was given a tenth, ten of them 1 together. `Epsilon` hands on many times of that, since some sums nearly
# cancel, and rare samples dominate a batch. `ZPlusZMinus` divides by all contributions, of either sign, so that
# feedback never grows, and fades with depth. The floor lies between: it takes the peaks away, and hands the rest on
# as it is.
#
# ## It trains
#
# The rule is an argument of every layer. Three networks of spikes, the same start, the same batches.

# %%
digits = lfp.load_dataset("mnist-subset")
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
test_images = lfp.constant(digits.test_images.flatten(1) / 255, steps=8)


def course(rule: lfp.Rule) -> list[float]:
    """Train a network for a pass, and return its test accuracy after every tenth batch."""
    torch.manual_seed(1)
    network = nn.Sequential(*[lfp.LIF(nn.Linear(*size), rule=rule) for size in ((784, 80), (80, 80), (80, 10))])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    clip, accuracies = lfp.AdaptiveClip(network.parameters()), []
    for number, batch in enumerate(torch.randperm(len(labels)).split(100)):
        optimizer.zero_grad()
        spikes = network(lfp.constant(images[batch], steps=8))
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
        clip()
        optimizer.step()
        if number % 10 == 9:
            with torch.no_grad():
                right = network(test_images).sum(0).argmax(-1) == digits.test_labels
            accuracies.append(float(right.float().mean()))
    return accuracies


# %% alt="Test accuracy over batches for three rules"
figure, axes = plt.subplots(figsize=(7.5, 2.6))
for rule in (lfp.Epsilon(), Floor(), lfp.ZPlusZMinus()):
    accuracies = course(rule)
    axes.plot(range(10, 101, 10), accuracies, "o-", markersize=3, label=f"{type(rule).__name__}, {accuracies[-1]:.1%}")
axes.set(xlabel="batch", ylabel="test accuracy", ylim=(0, 1))
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# One seed and one pass say little about which rule is best; they say that yours works.

# %% [markdown]
# ## Each layer its own
#
# A composite gives rules by name, place and type, and on the command line `--set rule=NAME` takes those of the paper.

# %%
model = nn.Sequential(
    nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 24 * 24, 50), nn.ReLU(), nn.Linear(50, 10)
)
rules = lfp.Composite(Floor(), types={nn.Conv2d: lfp.ZPlusZMinus()}, names={"5": lfp.Epsilon()})
rules.rules(model)

# %% [markdown]
# ## Where to go on
#
# - [Rules](../rules.md): the equations of all rules, and rules that treat positive and negative contributions apart
# - [The LFP paper, reproduced](../reproducing_lfp.md): which rule wins where
# - [Mono-nets](09_mono_nets.py), whose errors need no way back at all
