"""Slow, obvious replicas: networks as torch modules with a tape, and deltas written out sample by sample."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.mono import FeedforwardNet, fully_connected

MODULES: dict[str, nn.Module] = {"tanh": nn.Tanh(), "hard-tanh": nn.Hardtanh(), "relu": nn.ReLU()}


def dense_net(sizes: list[int], activation: str, monotone: str, initial: str = "normal") -> FeedforwardNet:
    inputs, *hidden, outputs = sizes
    return randomized(fully_connected(inputs, hidden, outputs, activation, monotone, initial).double())  # type: ignore[arg-type]


def image_net(outputs: int, activation: str, monotone: str) -> FeedforwardNet:
    layers = [
        nn.Conv2d(2, 4, 5, 2, 2),
        nn.Conv2d(4, 5, 3, 2, 1),
        nn.Conv2d(5, 3, 3, 1, 1),
        nn.Linear(3 * 3 * 2, outputs),
    ]
    return randomized(FeedforwardNet(layers, activation, monotone, "normal").double())  # type: ignore[arg-type]


def randomized(net: FeedforwardNet) -> FeedforwardNet:
    with torch.no_grad():
        for synapse in net.synapses:
            nn.init.normal_(synapse.bias, std=0.3)  # type: ignore[arg-type]
    return net


def taped(net: FeedforwardNet, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The outputs by torch's own layers, and the sums of all layers, with their derivatives known to autograd."""
    sums = []
    for index, synapse in enumerate(net.synapses):
        if isinstance(synapse, nn.Linear):
            x = x.flatten(1)
        z = synapse(x)
        z.retain_grad()
        sums.append(z)
        x = z if index == len(net.synapses) - 1 else MODULES[net.activation](z)
    return x, sums


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    if outputs.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs.dtype))
    return F.cross_entropy(outputs, labels)


def gradients(net: FeedforwardNet, x: Tensor, labels: Tensor) -> list[Tensor]:
    net.zero_grad()
    loss(taped(net, x)[0], labels).backward()
    return grads(net)


def grads(net: FeedforwardNet) -> list[Tensor]:
    optional = [parameter.grad for parameter in net.parameters()]
    assert all(grad is not None for grad in optional)
    return [grad.clone() for grad in optional if grad is not None]


def gradients_from(net: FeedforwardNet, x: Tensor, deltas: list[Tensor]) -> list[Tensor]:
    """Gradients of all parameters for given deltas: autograd knows how a sum depends on its own layer's parameters."""
    gradients: list[Tensor] = []
    for index, (synapse, delta) in enumerate(zip(net.synapses, deltas, strict=True)):
        h = x.detach()
        if isinstance(synapse, nn.Linear):
            h = h.flatten(1)
        z = synapse(h)
        gradients += torch.autograd.grad(z, list(synapse.parameters()), delta)
        x = z if index == len(net.synapses) - 1 else MODULES[net.activation](z)
    return gradients


def slope(net: FeedforwardNet, z: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    return torch.autograd.grad(MODULES[net.activation](z).sum(), z)[0]
