# %% [markdown]
# # Sound and touch
#
# **What you will learn:** how sound becomes the input of a network, how a folder of recordings is learned, and what
# the skin of a robot says. Ten minutes to read.
#
# There is no recorded sound in the package, so we make some: four calls of an imaginary bird. They are synthetic, and
# easier than speech; with `data="spoken-digits"` the same lines learn recorded digits.

# %%
import wave
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.data.signals import read_signal
from spiking_lfp.data.sound import mel_bands
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.plots import confusion, spike_raster

plt.style.use("spiking_lfp.plots.notebook")
torch.manual_seed(0)
RATE = 8000

# %% [markdown]
# ## Four calls
#
# Half a second each: rising, falling, steady, and a trill. Pitch, range, loudness and noise are random, so that no
# single frequency gives a call away: what counts is how it changes.


# %%
def call(kind: str, random: np.random.Generator) -> np.ndarray:
    """Return the samples of a call, from -1 to 1."""
    t = np.arange(RATE // 2) / RATE
    low, factor = random.uniform(400, 900), random.uniform(1.8, 2.6)
    shape = {
        "rising": 2 * t,
        "falling": 1 - 2 * t,
        "steady": np.full_like(t, random.uniform()),
        "trill": 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(6, 10) * t),
    }[kind]
    phase = 2 * np.pi * np.cumsum(low * factor**shape) / RATE
    return random.uniform(0.2, 0.8) * np.sin(phase) + 0.05 * random.standard_normal(len(t))


CALLS = ("falling", "rising", "steady", "trill")
random = np.random.default_rng(1)
for kind in CALLS:
    folder = Path("calls", kind)
    folder.mkdir(parents=True)
    for number in range(100):
        with wave.open(str(folder / f"{number:03}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((32767 * call(kind, random).clip(-1, 1)).astype("<i2").tobytes())

# %% [markdown]
# ## What an ear makes of it
#
# `mel_bands` divides the frequencies as ears do, narrow bands below and wide ones above, and gives the energy of each
# band every 10 ms.

# %% alt="Energies of 24 mel bands over time: a rising line, a falling one, a flat one, and a wave"
figure, panels = plt.subplots(1, 4, figsize=(7.5, 2.1), sharey=True)
for axes, kind in zip(panels, CALLS, strict=True):
    bands = mel_bands(read_signal(f"calls/{kind}/000.wav"), bands=24)
    axes.imshow(bands.values.T, aspect="auto", origin="lower", extent=(0, 500, 0, 24), cmap="cividis")
    axes.set(title=kind, xlabel="time [ms]")
panels[0].set_ylabel("mel band")
plt.show()

# %% [markdown]
# ## From a folder to a network
#
# `fit` takes the folder: its folders are the classes, and every fifth file is for testing. Recurrent neurons remember
# what was before, and `LI`, leaky integrators that do not fire, give scores.

# %%
network = nn.Sequential(
    lfp.RecurrentLIF(nn.Linear(24, 120), beta=0.8, threshold=0.5),
    lfp.LI(nn.Linear(120, 4), beta=1.0),
)
run = lfp.fit(
    network, "calls", encoding="sequence", mel_bands=24, normalize=True, steps=25, epochs=25, batch_size=20, lr=5e-3,
    schedule="one-cycle", progress=False,
)  # fmt: skip
print(f"test accuracy: {run.history[-1]['test']['accuracy']:.1%}")

# %% alt="Confusion matrix of the four calls"
outcome = run.evaluate()
confusion(outcome.confusion, run.class_names, "which call is taken for which")

# %% [markdown]
# New files get their answers by `predict_files`, or by `spiking-lfp predict RUN file.wav`.

# %%
names, answers = run.predict_files(["calls/trill/004.wav", "calls/rising/009.wav"])
dict(zip(names, answers.names, strict=True))

# %% [markdown]
# ## Spikes instead of numbers
#
# Neuromorphic ears send spikes. `delta` makes them: an *on* spike where a band has risen by a threshold, an *off*
# spike where it has fallen. The setting `encoding="delta"` trains on these, and such a network also fits hardware
# that takes spikes only.

# %% alt="On and off spikes of 24 bands for a trill: bands turn on one after the other, upwards, then downwards"
bands = torch.from_numpy(mel_bands(read_signal("calls/trill/000.wav"), bands=24).values)
spikes = lfp.delta(bands[:, None], threshold=1.3)  # [T, 1, 2, 24]: on, then off

figure, axes = plt.subplots(figsize=(7.5, 2.3))
for channel, (colour, name) in enumerate((("C0", "on"), ("C1", "off"))):
    step, band = spikes[:, 0, channel].nonzero(as_tuple=True)
    axes.plot(10 * step, band, "|", color=colour, markersize=6, label=name)
axes.set(xlabel="time [ms]", ylabel="mel band", ylim=(-0.5, 23.5))
axes.legend(loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# ## Touch
#
# One real recording of touch *is* in the package: a robot's fingertip slid over Braille, and four of its pressure
# sensors became spikes wherever they crossed a level. It comes with the trained network that reads it, as the run by
# which copies of the network on chips are checked.

# %%
reader = lfp.load("braille-mlp-int8")
touch = reader.golden.inputs
print(f"{touch.shape}: steps, samples, polarities, levels, sensors; {int(touch.sum()):,} spikes")
print("it knows", " ".join(reader.class_names))

# %% [markdown]
# It is a network in integers of 8 bits, so the integer simulator runs it.

# %% alt="Spikes of the fingertip, of 60 hidden neurons and of 27 outputs"
found = simulate(reader, touch, record=True)
letter = reader.class_names[found.predictions[0]]
first, last = found.spikes.values()
spike_raster(touch[:, 0], {"hidden": first[:, 0], "output": last[:, 0]}, f"read as {letter}")

# %% [markdown]
# The recording is of a space, a cell without dots, which the fingertip hardly feels; the letters are in the data set
# `braille`.
#
# ## Where to go on
#
# - [Event cameras, ears and skins](../events.md): spoken digits, SHD, Braille
# - [Rewards and readouts](../rewards.md): membranes as outputs, and rewards for them
# - [Quantise, simulate, C and Verilog](07_hardware.py)
