# %% [markdown]
# # Mono-nets
#
# **What you will learn:** why an error can go straight to every layer if weights are not negative, how to see that,
# and how such a network reads the spikes of another. Ten minutes to read.
#
# Back-propagation sends the error backwards, layer by layer, through the weights. *Direct feedback alignment* (DFA)
# sends it straight to every layer, through fixed random weights; whether that points downhill is a matter of luck and
# of learning. In a **mono-net** all weights from the second layer on are at least 0, so that its output can only grow
# with every hidden unit. Then feedback weights of at least 0 have the right sign, always: mDFA (Lechner, ICLR 2020).

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.data import subset
from spiking_lfp.mono import fully_connected, loss_gradient

plt.style.use("spiking_lfp.plots.notebook")
torch.manual_seed(0)

digits = subset(lfp.load_dataset("mnist-subset"), classes=[4, 9])
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
test_images, test_labels = digits.test_images.flatten(1) / 255, digits.test_labels
len(labels), len(test_labels)

# %% [markdown]
# ## Signs
#
# For one sample at a time we compare the updates of each method with back-propagation: in what share of the weights
# do they have the same sign?


# %%
def agreement(method: str, monotone: str) -> list[float]:
    """Return, by layer, the share of weights whose update has the gradient's sign, over 50 samples."""
    torch.manual_seed(1)
    net = fully_connected(784, (60, 60, 60), monotone=monotone)
    ways = {name: lfp.FeedbackAlignment(net, name, images[:1], seed=1) for name in ("bp", method)}
    shares = torch.zeros(4)
    for sample in range(50):
        activations = net.activations(images[sample : sample + 1])
        error = loss_gradient(activations[-1], labels[sample : sample + 1])
        signs = {}
        for name, way in ways.items():
            way.assign(activations, error)
            signs[name] = [net.parameters_of(layer)[0].grad.sign() for layer in range(4)]
        for layer, (true, found) in enumerate(zip(signs["bp"], signs[method], strict=True)):
            moved = true != 0
            shares[layer] += (true == found)[moved].float().mean()
    return (shares / 50).tolist()


# %% alt="Share of equal signs by layer: 100 % in every layer with mDFA, about a half in hidden layers with DFA"
figure, axes = plt.subplots(figsize=(7.5, 2.6))
for place, (name, method, monotone) in enumerate(
    (("DFA, any network", "dfa", "no"), ("mDFA, mono-net", "mdfa", "later"))
):
    shares = agreement(method, monotone)
    axes.bar([layer + 0.38 * place for layer in range(4)], [100 * share for share in shares], 0.36, label=name)
axes.axhline(50, color="0.5", linestyle="--", linewidth=1)
axes.set(ylabel="equal signs [%]", ylim=(0, 105))
axes.set_xticks([layer + 0.19 for layer in range(4)], ["layer 1", "layer 2", "layer 3", "output"])
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# In a mono-net not a single weight is pushed the wrong way. That is the paper's theorem 2; it holds for one output
# and one sample at a time.

# %% [markdown]
# ## Learning
#
# Fours against nines. `assign` puts minus the updates in every `.grad`, and any optimiser takes it from there;
# `keep_monotone` sets weights that became negative to 0.


# %%
def course(method: str, monotone: str) -> list[float]:
    """Train for three passes, and return the test accuracy after every tenth batch."""
    torch.manual_seed(1)
    net = fully_connected(784, (100, 100), monotone=monotone, initial="zeros" if method == "mdfa" else "uniform")
    way = lfp.FeedbackAlignment(net, method, images[:1], seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.keep_monotone(optimizer)
    accuracies = []
    for _ in range(3):
        for number, batch in enumerate(torch.randperm(len(labels)).split(50)):
            activations = net.activations(images[batch])
            way.assign(activations, loss_gradient(activations[-1], labels[batch]))
            optimizer.step()
            if number % 10 == 9:
                right = (net(test_images)[:, 0] > 0).long() == test_labels
                accuracies.append(float(right.float().mean()))
    return accuracies


# %% alt="Test accuracy over batches by back-propagation, DFA and mDFA"
figure, axes = plt.subplots(figsize=(7.5, 2.8))
for name, method, monotone in (("back-propagation", "bp", "no"), ("DFA", "dfa", "no"), ("mDFA", "mdfa", "later")):
    accuracies = course(method, monotone)
    label = f"{name}, {accuracies[-1]:.1%}"
    axes.plot([10 * number for number in range(1, len(accuracies) + 1)], accuracies, label=label)
axes.set(xlabel="batch of 50", ylabel="test accuracy", ylim=(0.8, 1))
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# All three learn. What differs is the work: the updates of mDFA's layers wait for nothing but the output, so they can
# be computed side by side.

# %% [markdown]
# ## On spikes
#
# A spiking layer needs only the sign, too: should this neuron fire more, or less? `MonoReadout` predicts from spike
# rates, half of its neurons speaking for a class and half against, and rewards each spike accordingly. LFP carries
# that on. No surrogate, and no back-propagation through the readout.

# %%
neurons, readout = lfp.LIF(nn.Linear(784, 200), beta=0.9), lfp.MonoReadout(200, classes=2)
network = nn.Sequential(neurons, readout)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
readout.keep_monotone(optimizer)

for epoch in range(2):
    for batch in torch.randperm(len(labels)).split(50):
        optimizer.zero_grad()
        scores = network(lfp.constant(images[batch], steps=10))  # [1, B, 2]
        lfp.propagate(scores, lfp.cross_entropy_reward(scores, labels[batch]))
        optimizer.step()
    with torch.no_grad():
        right = network(lfp.constant(test_images, steps=10))[0].argmax(-1) == test_labels
    print(f"epoch {epoch + 1}: test accuracy {right.float().mean():.1%}")

# %% [markdown]
# Neurons that speak for nine should fire more for nines, the others for fours. They do:

# %% alt="Difference of the mean rates for nines and fours, neuron by neuron, sorted: positive for the excitatory half, negative for the inhibitory half"
with torch.no_grad():
    rates = neurons(lfp.constant(test_images, steps=10)).mean(0)
difference = rates[test_labels == 1].mean(0) - rates[test_labels == 0].mean(0)

figure, axes = plt.subplots(figsize=(7.5, 2.4))
for sign, name in ((1, "speaks for nine"), (-1, "speaks against nine")):
    axes.plot(difference[readout.polarity == sign].sort().values, label=name)
axes.axhline(0, color="0.8", zorder=0)
axes.set(xlabel="neurons, sorted", ylabel="rate for 9 minus for 4")
axes.legend()
plt.show()

# %% [markdown]
# ## Where to go on
#
# - [Mono-nets and mDFA](../mdfa.md): the paper's tables, more classes, a branch predictor in integers
# - `spiking-lfp train mnist-mlp --readout mono` does it from the command line
# - [Recorded spikes of a chip in the loop](10_chip_in_the_loop.py)
