# %% [markdown]
# # Quantise, simulate, C and Verilog
#
# **What you will learn:** how a trained network becomes integers, what fewer bits cost, and how the same network runs
# in a simulator, in C and in Verilog, spike for spike. Fifteen minutes to read. A C compiler and Icarus Verilog are
# used if they are there.

# %%
import shutil
import subprocess

import matplotlib.pyplot as plt
import torch
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.costs import costs
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.deploy.verify import verify

plt.style.use("spiking_lfp.plots.notebook")
torch.manual_seed(0)
digits = lfp.load_dataset("mnist-subset")
train = digits.train_images.flatten(1), digits.train_labels
test = digits.test_images[:1000].flatten(1), digits.test_labels[:1000]

# %% [markdown]
# ## A network of real numbers

# %%
network = nn.Sequential(lfp.LIF(nn.Linear(784, 128)), lfp.LIF(nn.Linear(128, 10)))
run = lfp.fit(network, train, test, steps=8, epochs=3, lr=2e-3, progress=False)
real = run.evaluate(test).accuracy
print(f"real weights: {real:.1%}")

# %% [markdown]
# ## Integers
#
# Chips have no floating point. `export` rounds weights to a few bits, brings thresholds and biases to the same units,
# and makes the leak a truncating product. It searches the scales on training samples.

# %%
exported = lfp.export(run, train, bits=8, out="out", to=["artifact", "c", "verilog"])
{name: str(path) for name, path in exported.files.items()}

# %%
first = exported.network.spiking[0]
print(
    f"weights {first.weight.min()} to {first.weight.max()}, threshold {first.neuron.theta[0]}, T = {exported.network.steps}"
)

# %% [markdown]
# `simulate` runs it in NumPy, bit for bit as hardware would, and counts what happens.

# %%
outcome = simulate(exported.network, test[0].numpy())
eight_bits = float((outcome.predictions == test[1].numpy()).mean())
print(f"8 bits: {eight_bits:.1%}")

# %% [markdown]
# ## How many bits?
#
# Rounding a trained network costs accuracy at few bits. LFP needs no derivative, so training can run *in* the
# integers instead: with `quantize=2` the forward pass is that of the chip, and real-valued master weights learn
# behind it.

# %%
after = {8: eight_bits}
for bits in (4, 3, 2):
    integers = lfp.export(run, train, bits=bits, out=f"out{bits}").network
    after[bits] = float((simulate(integers, test[0].numpy()).predictions == test[1].numpy()).mean())

# %%
torch.manual_seed(0)
small = nn.Sequential(lfp.LIF(nn.Linear(784, 128)), lfp.LIF(nn.Linear(128, 10)))
in_two_bits = lfp.fit(small, train, test, steps=8, epochs=3, lr=2e-3, quantize=2, progress=False)
during = in_two_bits.evaluate(test).accuracy
print(f"2 bits after training: {after[2]:.1%}, in the loop: {during:.1%}")

# %% alt="Accuracy by bits: nearly that of real weights with 8 and 4 bits, lower with 2 unless the network was trained in them"
figure, axes = plt.subplots(figsize=(7.5, 2.6))
axes.axhline(100 * real, color="0.6", linestyle="--", linewidth=1)
axes.text(6, 100 * real + 0.2, "real weights", ha="center", fontsize=8, color="0.4")
axes.plot(list(after), [100 * value for value in after.values()], "o-", label="rounded after training")
axes.plot([2], [100 * during], "s", markersize=8, label="trained in integers")
axes.set(xlabel="bits of a weight", ylabel="test accuracy [%]", xticks=[2, 3, 4, 8], ylim=(None, 100 * real + 1))
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## What it costs
#
# The simulator counts what happens for each digit: spikes, synaptic operations (SynOps, additions of a weight), and
# multiply-accumulates (MACs) where inputs are pixels. `spiking-lfp simulate` and `report` also estimate energy.

# %%
counted = costs(exported.network, outcome)
print(" layer   spikes   SynOps     MACs      KiB")
for layer in (*counted.layers, counted.total):
    kib = layer.footprint.total / 1024
    print(f"{layer.name:>6} {layer.spikes:8.1f} {layer.synops:8.0f} {layer.macs:8.0f} {kib:8.1f}")

# %% [markdown]
# ## Does it fit a chip?
#
# `check` compares a network with a chip's limits, and says in a sentence what exceeds them.

# %%
for chip in ("loihi", "fpga-small"):
    for finding in check(exported.network, chip) or ["it fits"]:
        print(f"{chip}: {finding}")

# %% [markdown]
# ## In C
#
# The folder `out/c` holds C99 without malloc and floating point, a Makefile, and the program `classify`, which reads
# bytes and prints classes.

# %%
if shutil.which("cc") and shutil.which("make"):
    subprocess.run(["make", "-C", "out/c", "classify"], check=True, capture_output=True)
    lines = subprocess.run(["out/c/classify"], input=test[0].numpy().tobytes(), check=True, capture_output=True).stdout
    of_c = [int(line.split()[0]) for line in lines.decode().splitlines()]
    print(f"C gives the same answer for {(outcome.predictions == of_c).sum()} of {len(of_c)} digits")
else:
    print("there is no C compiler here")

# %% [markdown]
# ## In Verilog
#
# `out/verilog` holds an event-driven core, its memories and a testbench. `verify` runs C and Verilog on the same
# digits and compares the spikes of *every layer*; what is not installed says so.

# %%
for line in verify(exported.network, test[0][:2].numpy(), ["c", "icarus"]):
    if line.layer is None:
        print(f"{line.backend}: {line.reason}")
    else:
        print(f"{line.backend:>6}, layer {line.layer}: {line.different} of {line.compared:,} values differ")

# %% alt="Spikes of the ten outputs for one digit, from the integer simulator"
recorded = simulate(exported.network, test[0][:1].numpy(), record=True).spikes["1"]
figure, axes = plt.subplots(figsize=(3.6, 2))
axes.imshow(recorded[:, 0].T, aspect="auto")
axes.set(xlabel="step", ylabel="class", yticks=range(0, 10, 3), title=f"a {test[1][0]}, in integers")
plt.show()

# %% [markdown]
# ## Where to go on
#
# - [From int8 to a board](../hardware.md): the same from the command line, microcontrollers, and other simulators
# - [C and Verilog](../../hardware/README.md), [NIR](../nir.md), [trained networks in the package](../networks.md)
# - [Recorded spikes of a chip in the loop](10_chip_in_the_loop.py)
