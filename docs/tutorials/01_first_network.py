# %% [markdown]
# # A first network
#
# **What you will learn:** how a spiking network is made, how it learns handwritten digits without a gradient, and how
# to look at what it does. Ten minutes to read.
#
# A spiking neuron either fires or does not. That is a step, and a step has no useful derivative, which is why most
# toolkits replace it with a smooth *surrogate* when they train. Here nothing is replaced: a *reward* at the outputs
# goes back through the network as *feedback*, by Layer-wise Feedback Propagation (LFP).

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.plots import confusion, learning_curve, spike_raster
from spiking_lfp.training import read_metrics

torch.manual_seed(0)
plt.style.use("spiking_lfp.plots.notebook")

# %% [markdown]
# ## The data
#
# 10,000 digits to learn from and 2,000 to test are in the package.

# %% alt="Ten handwritten digits, 0 to 9"
digits = lfp.load_dataset("mnist-subset")

figure, panels = plt.subplots(1, 10, figsize=(7.5, 1))
for number, axes in enumerate(panels):
    axes.imshow(digits.train_images[digits.train_labels == number][0, 0])
    axes.axis("off")
plt.show()

# %% [markdown]
# Rows of pixels are joined to one vector of 784 values.

# %%
train = digits.train_images.flatten(1), digits.train_labels
test = digits.test_images.flatten(1), digits.test_labels
train[0].shape, train[0].dtype

# %% [markdown]
# ## The network
#
# A layer is a *synapse*, any `nn.Linear` or convolution, and its neurons. A leaky integrate-and-fire (LIF) neuron
# adds up the current that arrives in its *membrane*, of which each step keeps the part `beta`. Where the membrane
# exceeds the threshold, the neuron fires and the threshold is subtracted.

# %%
network = nn.Sequential(
    lfp.LIF(nn.Linear(784, 200), beta=0.9),
    lfp.LIF(nn.Linear(200, 10), beta=0.9),
)
network

# %% [markdown]
# ## One sample, before learning
#
# Time is the first axis everywhere: `[T, B, ...]`, steps, then samples. `constant` shows an image for so many steps;
# the layers make spikes of it, exactly 0 or 1.

# %%
STEPS = 10
x = lfp.constant(test[0][:1] / 255, STEPS)
hidden = network[0](x)
outputs = network[1](hidden)
x.shape, hidden.shape, outputs.shape, outputs.unique().tolist()

# %% [markdown]
# ## Learning
#
# `fit` is the whole loop: batches, rewards, optimiser, tests, checkpoints. Two passes over the data do.

# %%
run = lfp.fit(network, train, test, steps=STEPS, epochs=2, lr=2e-3, progress=False)
for epoch in run.history:
    print(f"epoch {epoch['epoch']}: test accuracy {epoch['test']['accuracy']:.1%}")

# %% alt="Accuracy on training and test digits over two epochs"
learning_curve(read_metrics(run.folder), title="784-200-10 on 10,000 digits")

# %% [markdown]
# ## The same sample again
#
# Each row is a neuron, each mark a spike. The neuron of the digit's class now fires most: the class is read from
# *spike counts*.

# %% alt="A digit, the spikes of 60 hidden neurons, and those of the ten outputs, of which that of its class fires most"
with torch.no_grad():
    hidden = network[0](x)
    outputs = network[1](hidden)

spike_raster(
    x.reshape(STEPS, 1, 28, 28),
    {"hidden": hidden[:, 0], "output": outputs[:, 0]},
    f"a {test[1][0]}",
    class_names=digits.class_names,
)

# %% [markdown]
# ## What it gets wrong

# %% alt="Confusion matrix of the ten digits: nearly everything is on the diagonal"
outcome = run.evaluate(test)
confusion(outcome.confusion, digits.class_names, f"test accuracy {outcome.accuracy:.1%}")

# %% [markdown]
# New images get their answers by `predict`.

# %%
answers = run.predict(test[0][:5])
answers.names, test[1][:5].tolist()

# %% [markdown]
# ## What happened in a step
#
# `fit` repeats four lines, which you may write yourself:
#
# ```python
# spikes = network(lfp.constant(images, STEPS))
# lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels))  # reward in, updates in every .grad
# optimizer.step()
# optimizer.zero_grad()
# ```
#
# The reward is positive for the true class and negative for the others where they fired. What it becomes on its way
# back is the subject of the next tutorial.
#
# ## Where to go on
#
# - [What feedback does, in pictures](02_feedback.py)
# - [Your own module and data](03_own_module_and_data.py)
# - the run has a folder, which `lfp.load_run` loads and the command `spiking-lfp evaluate` takes: [runs](../runs.md)
