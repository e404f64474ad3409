"""The training step in four lines, as a complete script: an MLP learns digits in seconds, without a surrogate gradient.

python examples/train_step.py
"""

import torch
from torch import nn

from spiking_lfp import LIF, AdaptiveClip, constant, load_dataset, propagate, spike_count_reward

torch.manual_seed(0)
digits = load_dataset("mnist-subset")
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels

net = nn.Sequential(LIF(nn.Linear(784, 300), beta=0.9), LIF(nn.Linear(300, 10), beta=0.9))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
clip = AdaptiveClip(net.parameters())

for batch in torch.randperm(len(labels)).split(100):
    optimizer.zero_grad()
    spikes = net(constant(images[batch], steps=15))  # [T, B, 10], exact 0/1
    propagate(spikes, spike_count_reward(spikes, labels[batch]))
    clip()
    optimizer.step()

with torch.no_grad():
    counts = net(constant(digits.test_images.flatten(1) / 255, steps=15)).sum(0)
print(f"test accuracy after one pass: {(counts.argmax(-1) == digits.test_labels).float().mean():.1%}")
