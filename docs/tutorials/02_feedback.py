# %% [markdown]
# # What feedback does, in pictures
#
# **What you will learn:** what a reward becomes on its way back through one neuron, one layer and a network, and how
# that differs from a gradient. Fifteen minutes to read.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.plots import explanation

torch.manual_seed(3)
plt.style.use("spiking_lfp.plots.notebook")

# %% [markdown]
# ## One neuron
#
# Three inputs spike at random. The first two excite the neuron, the third inhibits it.

# %%
STEPS = 20
neuron = lfp.LIF(nn.Linear(3, 1, bias=False), beta=0.8)
with torch.no_grad():
    neuron.synapse.weight.copy_(torch.tensor([[0.6, 0.4, -0.3]]))
inputs = (torch.rand(STEPS, 1, 3) < 0.5).float()

# %% [markdown]
# `run` goes on from a membrane, so it can be called step by step to record one.

# %%
membrane, membranes = None, []
for step in range(STEPS):
    _, membrane = neuron.run(inputs[step : step + 1], membrane)
    membranes.append(membrane.item())

# %% [markdown]
# Now a reward: *the output should fire more in step 15*. `propagate` hands it back, and what arrives at the inputs is
# their `.grad`.

# %%
x = inputs.clone().requires_grad_()
spikes = neuron(x)
reward = torch.zeros_like(spikes)
reward[15] = 1
lfp.propagate(spikes, reward)
feedback = x.grad[:, 0]

# %% alt="Input spikes, the membrane with its threshold, and the feedback of each input in each step, which fades into the past from step 15"
figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(7.5, 5), sharex=True, height_ratios=[1, 1.6, 1])
top.eventplot([inputs[:, 0, each].nonzero().flatten().numpy() for each in range(3)], linelengths=0.7, colors="black")
top.set(yticks=range(3), yticklabels=["+0.6", "+0.4", "-0.3"], ylabel="inputs", ylim=(2.6, -0.6))
middle.plot(membranes)
middle.axhline(1, color="0.5", linestyle="--", linewidth=1)
fired = spikes[:, 0, 0].detach().nonzero().flatten()
middle.plot(fired, [1.6] * len(fired), "k|", markersize=12)
middle.set(ylabel="membrane")
middle.text(STEPS - 0.6, 1.05, "threshold", ha="right", fontsize=8, color="0.4")
picture = bottom.imshow(feedback.T, cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect="auto")
bottom.set(yticks=range(3), yticklabels=["+0.6", "+0.4", "-0.3"], ylabel="inputs", xlabel="step")
figure.colorbar(picture, ax=bottom, label="feedback")
bottom.set_xticks(range(0, STEPS, 5))
for axes in (top, middle, bottom):
    axes.axvline(15, color="C1", linewidth=1)
middle.text(15.2, -0.2, "reward", fontsize=8, color="C1")
plt.show()

# %% [markdown]
# Three things are to be seen.
#
# - **Only inputs that spiked get feedback.** It is a share of credit, *contribution over sum*: an input that was
#   silent contributed nothing.
# - **What excited is rewarded (red), what inhibited is blamed (blue).**
# - **It goes back in time**, since the membrane of the step before is one more contribution, and fades there.
#
# Whether the neuron fired in step 15 does not matter: no derivative of the spike is asked for. The shares are those
# of the [rule](../rules.md), here LFP-epsilon.

# %% [markdown]
# ## The same neuron and a surrogate gradient
#
# A surrogate takes the step for a smooth function, here the fast sigmoid, and descends on a loss. Written out, a
# neuron for it is this:


# %%
class Surrogate(torch.autograd.Function):
    """A step forwards, the derivative of a fast sigmoid backwards."""

    @staticmethod
    def forward(ctx, over):
        ctx.save_for_backward(over)
        return (over > 0).float()

    @staticmethod
    def backward(ctx, gradient):
        (over,) = ctx.saved_tensors
        return gradient / (1 + 25 * over.abs()) ** 2


y = inputs.clone().requires_grad_()
u, s, outputs = torch.zeros(1, 1), torch.zeros(1, 1), []
for step in range(STEPS):
    u = 0.8 * u + y[step] @ neuron.synapse.weight.detach().T - s.detach()
    s = Surrogate.apply(u - 1)
    outputs.append(s)
outputs[15].sum().backward()
gradient = y.grad[:, 0]
bool((torch.stack(outputs) == spikes).all())  # the same spikes

# %% alt="Feedback and surrogate gradient of each input in each step, one below the other"
figure, panels = plt.subplots(2, 1, figsize=(7.5, 2.8), sharex=True)
for axes, values, title in zip(panels, (feedback, gradient), ("LFP feedback", "surrogate gradient"), strict=True):
    largest = values.abs().max()
    axes.imshow(values.T, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    axes.set(yticks=range(3), yticklabels=["+0.6", "+0.4", "-0.3"], title=title)
panels[1].set(xlabel="step", xticks=range(0, STEPS, 5))
plt.show()

# %% [markdown]
# The gradient asks what *would* change the output, so it reaches inputs that were silent, and it is the larger the
# closer the membrane was to the threshold. Feedback asks what *did* make the output.

# %% [markdown]
# ## A layer: updates against gradients
#
# A weight's update is `|w|` times its share of the feedback. For a network without spikes that has a precise meaning:
# with the rule LFP-0 and the paper's reward, the update of a ReLU network is `|w|` times minus the gradient of the
# binary cross entropy, exactly. A composite runs LFP on any model of torch, so that can be seen.

# %%
model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)).double()
samples, targets = torch.randn(8, 20).double(), torch.randint(0, 2, (8, 5)).double()

loss = nn.functional.binary_cross_entropy_with_logits(model(samples), targets, reduction="sum")
descent = -torch.autograd.grad(loss, model[0].weight)[0].flatten()

with lfp.Composite(lfp.Zero()).applied(model):
    logits = model(samples)
lfp.propagate(logits, lfp.logit_reward(logits, targets))
update = -model[0].weight.grad.flatten()  # .grad is minus the update, since optimisers descend
weight = model[0].weight.detach().flatten()

# %% alt="Left, updates against minus the gradient: same signs, different sizes. Right, updates over the weight: all on the diagonal"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.2))
left.plot(descent, update, ".", markersize=3)
left.set(xlabel="minus the gradient", ylabel="LFP update", title="same signs")
left.axhline(0, color="0.8", zorder=0)
left.axvline(0, color="0.8", zorder=0)
right.plot(descent, update / weight.abs(), ".", markersize=3, color="C1")
right.set(xlabel="minus the gradient", ylabel="LFP update / |w|", title="over |w|: equal")
plt.show()

# %% [markdown]
# So a small weight learns slowly and hardly crosses zero. Weights gather there, and one of exactly zero never
# changes.

# %% [markdown]
# ## A network
#
# In a network each layer hands on what it got. At the inputs, feedback says what spoke for a class: an explanation
# comes for free. We train for a few seconds first, with a loop of our own.

# %%
digits = lfp.load_dataset("mnist-subset")
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
network = nn.Sequential(lfp.LIF(nn.Linear(784, 100)), lfp.LIF(nn.Linear(100, 10)))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
clip = lfp.AdaptiveClip(network.parameters())  # keeps single updates in bounds
for batch in torch.randperm(len(labels)).split(100)[:60]:
    optimizer.zero_grad()
    spikes = network(lfp.constant(images[batch], steps=10))
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]))
    clip()
    optimizer.step()

# %% [markdown]
# `input_feedback` rewards the output of a class and returns what reaches the inputs. We ask of a four why it is a
# four, and what it would take to be a nine.

# %% alt="A four twice, and beneath it which of its pixels speak for a four and for a nine, red, and which against, blue"
four = digits.test_images[digits.test_labels == 4][2].flatten() / 255
x = lfp.constant(four.repeat(2, 1), steps=10)
feedback = lfp.input_feedback(network.eval(), x, [4, 9])
explanation(x.reshape(10, 2, 1, 28, 28), feedback.reshape(10, 2, 1, 28, 28), ["is it a 4?", "is it a 9?"], about="it")

# %% [markdown]
# ## Where to go on
#
# - [A rule of one's own](08_own_rule.py): other ways to divide feedback
# - [Rules](../rules.md) has the equations, [neurons](../neurons.md) how feedback goes back in time
# - [Your own module and data](03_own_module_and_data.py)
