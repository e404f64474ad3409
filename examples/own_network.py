"""A network of your own: an ordinary nn.Module with convolutions and a skip connection.

python examples/own_network.py
"""

import torch
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    AvgPool2d,
    Flatten,
    MaxPool2d,
    add,
    constant,
    load_dataset,
    name_layers,
    propagate,
    spike_count_reward,
)


class Residual(nn.Module):
    """conv, then conv around which the spikes skip, then dense."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = LIF(nn.Conv2d(1, 8, 5, stride=2))
        self.block = LIF(nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Sequential(MaxPool2d(2), AvgPool2d(2), Flatten(), LIF(nn.Linear(8 * 3 * 3, 10)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, 1, 28, 28] to spikes [T, B, 10]."""
        spikes = self.entry(x)
        # `add` divides the feedback between the two paths by the LFP rule; a plain + would give all of it to both
        out: Tensor = self.head(add(spikes, self.block(spikes)))
        return out


torch.manual_seed(0)
digits = load_dataset("mnist-subset")
net = Residual()
name_layers(net)  # so that errors and reports call the layers entry, block, head.3
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
clip = AdaptiveClip(net.parameters(), clip=0.05)

for batch in torch.randperm(len(digits.train_labels)).split(100):
    optimizer.zero_grad()
    spikes = net(constant(digits.train_images[batch] / 255, steps=10))
    propagate(spikes, spike_count_reward(spikes, digits.train_labels[batch]))
    clip()
    optimizer.step()

with torch.no_grad():
    counts = net(constant(digits.test_images / 255, steps=10)).sum(0)
print(f"test accuracy after one pass: {(counts.argmax(-1) == digits.test_labels).float().mean():.1%}")
