# %% [markdown]
# # Events from a camera
#
# **What you will learn:** what an event camera records, how its events become the input of a network, and how a
# trained network watches a stream, window by window. Fifteen minutes to read.
#
# An event camera has no frames. Each pixel says, by itself and at once, that it has become brighter (*on*) or darker
# (*off*). Recordings of cameras are large, so here we make them from the digits in the package as the makers of
# N-MNIST did: the image moves in front of a sensor, which is simulated.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.plots import explanation, frame_strip

plt.style.use("spiking_lfp.plots.notebook")
torch.manual_seed(0)
digits = lfp.load_dataset("mnist-subset")

# %% [markdown]
# ## One recording
#
# The image moves along the three sides of a triangle, 100 ms each. An event is a place, a time in microseconds and a
# polarity.

# %%
recording = lfp.saccade_events(digits.train_images[3, 0].numpy())
events = recording.events
print(f"{len(events):,} events, sensor {recording.sensor}")
events[:3]

# %% alt="Events over time, by row and by column of the sensor: slanted lines, on and off, in three bursts"
figure, panels = plt.subplots(2, 1, figsize=(7.5, 4), sharex=True)
for polarity, name in ((True, "on"), (False, "off")):
    some = events[events["p"] == polarity]
    for axes, place in zip(panels, ("y", "x"), strict=True):
        axes.plot(some["t"] / 1000, some[place], ".", markersize=1.5, label=name)
panels[0].set(ylabel="row", ylim=(33, 0))
panels[1].set(ylabel="column", ylim=(0, 33), xlabel="time [ms]")
panels[0].legend(markerscale=5, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Frames
#
# A network takes steps, so time is cut into bins: all events of a bin make one frame `[2, H, W]`, 0 or 1. Ten steps
# for 300 ms keep enough of the motion.

# %% alt="The recording, two steps in each picture: the outline of a digit, which moves"
STEPS = 10
frames = lfp.event_frames(events, recording.sensor, STEPS)
frame_strip(frames, f"a {digits.train_labels[3]}", frames=5)


# %%
def sequences(images: torch.Tensor) -> torch.Tensor:
    """Return the events of each image as spikes `[T, B, 2, 34, 34]`."""
    recordings = [lfp.saccade_events(image.numpy()) for image in images]
    frames = [lfp.event_frames(each.events, each.sensor, STEPS) for each in recordings]
    return torch.from_numpy(np.stack(frames, axis=1)).float()


train, labels = sequences(digits.train_images[:1500]), digits.train_labels[:1500]
test, test_labels = sequences(digits.test_images[:300]), digits.test_labels[:300]
train.shape

# %% [markdown]
# ## A recurrent network
#
# The neurons of a `RecurrentLIF` see the spikes of their layer in the step before, one more input to which LFP hands
# feedback.

# %%
network = nn.Sequential(
    lfp.Flatten(),
    lfp.RecurrentLIF(nn.Linear(2 * 34 * 34, 150), threshold=0.3),
    lfp.LIF(nn.Linear(150, 10), threshold=0.3),
)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
clip = lfp.AdaptiveClip(network.parameters())

for epoch in range(4):
    for batch in torch.randperm(len(labels)).split(50):
        optimizer.zero_grad()
        spikes = network(train[:, batch])
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels[batch]) / STEPS)
        clip()
        optimizer.step()
    with torch.no_grad():
        right = network(test).sum(0).argmax(-1) == test_labels
    print(f"epoch {epoch + 1}: test accuracy {right.float().mean():.1%}")

# %% [markdown]
# ## Why?
#
# Feedback at the inputs says which events spoke for the class that was predicted, and which against it.

# %% alt="Four recordings, and beneath them in red the events that spoke for the predicted class, in blue those against it"
network.eval()
with torch.no_grad():
    predicted = network(test[:, :4]).sum(0).argmax(-1)
feedback = lfp.input_feedback(network, test[:, :4], predicted)
explanation(test[:, :4], feedback, [f"taken for {each}" for each in predicted.tolist()])

# %% [markdown]
# ## A stream
#
# A camera does not stop after 300 ms. We write one long recording of twenty digits to a file, and read it again in
# windows of 30 ms, without ever holding more than one. `Stateful` keeps the membranes between them.

# %%
LASTS_US = 300_000
parts = [lfp.saccade_events(image.numpy()).events for image in digits.test_images[:20]]
for number, part in enumerate(parts):
    part["t"] += LASTS_US * number
path = Path("digits.npy")
np.save(path, np.concatenate(parts))

watching = lfp.Stateful(network)
counts = torch.zeros(20, STEPS, 10)
with torch.no_grad():
    for number, window in enumerate(lfp.read_stream(path, 30, sensor=(2, 34, 34))):
        if number % STEPS == 0:  # the next digit
            watching.reset()
        frame = lfp.event_frames(window.events, window.sensor, 1, start=window.start, duration=window.duration)
        counts[number // STEPS, number % STEPS] = watching(torch.from_numpy(frame).float()[:, None])[0, 0]

answers = counts.sum(1).argmax(-1)
f"{int((answers == test_labels[:20]).sum())} of 20 are right"

# %% alt="Spike counts of the ten outputs over the first digits of the stream; the output of the digit shown wins"
SHOWN = 6
figure, axes = plt.subplots(figsize=(7.5, 2.6))
axes.imshow(counts[:SHOWN].cumsum(1).flatten(0, 1).T, aspect="auto", extent=(0, 300 * SHOWN, 9.5, -0.5))
for number in range(SHOWN):
    axes.axvline(300 * number, color="C1", linewidth=1)
    axes.text(300 * number + 150, -0.8, f"a {test_labels[number]}", ha="center", fontsize=9)
axes.set(xlabel="time [ms]", ylabel="class", yticks=range(10))
plt.show()

# %% [markdown]
# A live camera takes the place of the file: `aestream_camera` and `dv_camera` yield the same windows.
#
# ## Where to go on
#
# - [Event cameras, ears and skins](../events.md): the data sets by name, and results beside surrogate gradients
# - [Files of recordings](../recordings.md): every format, and streams longer than memory
# - [Sound and touch](06_sound_and_touch.py)
