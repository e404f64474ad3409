"""A conv-BN-LIF network of snnTorch goes on learning by LFP here, and comes back with the same spikes.

pip install snntorch; python examples/from_snntorch.py

snnTorch trains it on 1,000 digits by surrogate gradients. Here its batch normalisation stays between synapses and
neurons and goes on learning; on the way back, and to integers, it is folded into the weights.
"""

from tempfile import TemporaryDirectory

import snntorch as snn
import snntorch.utils
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp import AdaptiveClip, constant, export, load_dataset, propagate, spike_count_reward
from spiking_lfp.deploy.interop import from_snntorch, to_snntorch
from spiking_lfp.deploy.simulator import simulate

STEPS = 6


def leaky(output: bool = False) -> snn.Leaky:
    """Return neurons of snnTorch; the last ones return their membrane too."""
    return snn.Leaky(beta=0.9, init_hidden=True, output=output)


def run_theirs(network: nn.Module, images: Tensor) -> Tensor:
    """Return the spikes `[T, B, 10]` of an snnTorch network, which takes one step at a time."""
    snntorch.utils.reset(network)
    outs = [network(images) for _ in range(STEPS)]
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])


def accuracy(counts: Tensor) -> str:
    """Return the accuracy of spike counts `[B, 10]` in words."""
    return f"{(counts.argmax(-1) == digits.test_labels[:1000]).float().mean():.1%}"


torch.manual_seed(0)
digits = load_dataset("mnist-subset")
images, labels, test = digits.train_images / 255, digits.train_labels, digits.test_images[:1000] / 255

theirs = nn.Sequential(
    nn.Conv2d(1, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), leaky(),
    nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), leaky(),
    nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), leaky(),
    nn.Flatten(), nn.Linear(400, 10), leaky(output=True),
)  # fmt: skip
optimizer = torch.optim.Adam(theirs.parameters(), lr=2e-3)
for batch in torch.randperm(1000).split(50):
    optimizer.zero_grad()
    F.cross_entropy(run_theirs(theirs, images[batch]).sum(0), labels[batch]).backward()
    optimizer.step()

theirs.eval()
with torch.no_grad():
    expected = run_theirs(theirs, test)
print(f"snnTorch, by surrogate gradients on 1,000 digits: {accuracy(expected.sum(0))}")

network = from_snntorch(theirs)
with torch.no_grad():
    spikes = network(constant(test, STEPS))
print(
    f"imported: {accuracy(spikes.sum(0))}, {int((spikes != expected).sum())} of {spikes.numel():,} output spikes differ"
)

network.train()
optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
clip = AdaptiveClip(network.parameters())
for batch in torch.randperm(len(labels)).split(100):
    optimizer.zero_grad()
    spikes = network(constant(images[batch], STEPS))
    propagate(spikes, spike_count_reward(spikes, labels[batch]))
    clip()
    optimizer.step()

network.eval()
with torch.no_grad():
    spikes = network(constant(test, STEPS))
    back = run_theirs(to_snntorch(network), test)
print(f"after a pass of LFP over 10,000 digits: {accuracy(spikes.sum(0))}")
print(f"back in snnTorch: {accuracy(back.sum(0))}, {int((spikes != back).sum())} of {spikes.numel():,} spikes differ")

with TemporaryDirectory() as folder:
    exported = export(network, (images[:500], labels[:500]), steps=STEPS, out=folder, to=["artifact", "c", "verilog"])
outcome = simulate(exported.network, digits.test_images[:1000].numpy())
print(f"in int8 ({', '.join(exported.files)}): {accuracy(torch.from_numpy(outcome.counts))}")
