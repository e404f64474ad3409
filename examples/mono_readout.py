"""Two digits distinguished by one mono-net on spike rates: mDFA trains it, LFP the spiking layer below.

python examples/mono_readout.py
"""

import torch
from torch import nn

from spiking_lfp import LIF, MonoReadout, constant, cross_entropy_reward, load_dataset, propagate
from spiking_lfp.data import subset

torch.manual_seed(0)
digits = subset(load_dataset("mnist-subset"), classes=[4, 9])
images, labels = digits.train_images.flatten(1) / 255, digits.train_labels
test_images, test_labels = digits.test_images.flatten(1) / 255, digits.test_labels


def train(parameters: list[nn.Parameter]) -> float:
    """Train these parameters for three epochs, and return the test accuracy."""
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    readout.keep_monotone(optimizer)
    for _ in range(3):
        for batch in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            scores = net(constant(images[batch], steps=15))  # [1, B, 2]
            propagate(scores, cross_entropy_reward(scores, labels[batch]))
            optimizer.step()
    with torch.no_grad():
        predictions = net(constant(test_images, steps=15)).sum(0).argmax(-1)
    return float((predictions == test_labels).float().mean())


neurons, readout = LIF(nn.Linear(784, 300), beta=0.9), MonoReadout(300, classes=2)
net = nn.Sequential(neurons, readout)
neurons.requires_grad_(False)
print(f"on random neurons that do not learn: {train(list(readout.parameters())):.1%}")
neurons.requires_grad_(True)
print(f"neurons and readout together: {train(list(net.parameters())):.1%}")
