"""Every rule on plain synapses, through single connections: one neuron and one step at a time, from LFP eq. 2-13."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from helpers import oracles
from helpers.tensors import assert_near
from spiking_lfp import Epsilon, Rule
from spiking_lfp.rules import AlphaBeta, Flat, Gamma, Zero, ZPlusZMinus


def inverse_normalisers(rule: Rule, z: list[float], size: float) -> list[float]:
    """One over N for each of a neuron's contributions, all of which `z` lists; `size` is |z|, or what stands for it."""
    plus, minus = sum(each for each in z if each > 0), -sum(each for each in z if each < 0)
    if isinstance(rule, Zero):
        return [1 / size if size > 0 else 0.0] * len(z)
    if isinstance(rule, Epsilon):
        return [1 / (size + rule.epsilon)] * len(z)
    if isinstance(rule, AlphaBeta):
        return [rule.alpha / (plus + rule.epsilon) if each >= 0 else rule.beta / (minus + rule.epsilon) for each in z]
    if isinstance(rule, Gamma):
        # those with the sign of the sum count more
        counts = [1 + rule.gamma if (each >= 0) == (plus >= minus) else 1.0 for each in z]
        total = abs(sum(count * each for count, each in zip(counts, z, strict=True)))
        return [count / (total + rule.epsilon) for count in counts]
    assert isinstance(rule, ZPlusZMinus | Flat)
    return [1 / (plus + minus + rule.epsilon)] * len(z)


@dataclass
class Connection:
    """One of a neuron's inputs: `source` is the place of the input, None for the bias."""

    source: int | None
    index: tuple[int, ...]
    weight: float


def connections_of(synapse: nn.Module, shape: tuple[int, ...]) -> tuple[list[list[Connection]], tuple[int, ...]]:
    """The connections of each neuron, and the shape of a sample's neurons; a convolution is unrolled."""
    wires = oracles.wires_of(synapse, shape)
    found: list[list[Connection]] = [[] for _ in wires.biases]
    for o, i, index in wires.wires:
        found[o].append(Connection(i, index, synapse.weight[index].item()))
    if synapse.bias is not None:
        for o, channel in enumerate(wires.biases):
            found[o].append(Connection(None, (channel,), synapse.bias[channel].item()))
    return found, wires.outputs


class Replica:
    """What goes back through a synapse, one connection after the other; with `flat` they all are this big."""

    def __init__(self, rule: Rule, synapse: nn.Module, x: Tensor, flat: float = 1.0) -> None:
        self.rule, self.flat = rule, flat
        self.connections, self.outputs = connections_of(synapse, tuple(x.shape[2:]))
        self.x = x.detach().double()
        self.values = self.x.flatten(2).tolist()
        self.on_input = torch.zeros_like(self.x.flatten(2))
        self.weight_update = torch.zeros_like(synapse.weight.detach(), dtype=torch.float64)
        self.bias_update = None if synapse.bias is None else torch.zeros_like(synapse.bias.detach().double())

    def input(self, t: int, b: int, connection: Connection) -> float:
        return 1.0 if connection.source is None else self.values[t][b][connection.source]

    def current(self, t: int, b: int, o: int) -> float:
        return sum(each.weight * self.input(t, b, each) for each in self.connections[o])

    def seen(self, t: int, b: int, o: int) -> list[float]:
        """The contributions as the rule sees them."""
        if isinstance(self.rule, Flat):
            return [self.flat] * len(self.connections[o])
        return [each.weight * self.input(t, b, each) for each in self.connections[o]]

    def hand_on(self, t: int, b: int, o: int, q: list[float]) -> None:
        """r_ij = w_ij a_i q_ij and d_ij = |w_ij| a_i q_ij for all connections of a neuron (eq. 2-4)."""
        for each, share in zip(self.connections[o], q, strict=True):
            weight, value = each.weight, self.input(t, b, each)
            if isinstance(self.rule, Flat):
                weight, value = self.flat, 1.0
            if each.source is not None:
                self.on_input[t, b, each.source] += weight * value * share
                self.weight_update[each.index] += abs(weight) * value * share
            else:
                assert self.bias_update is not None
                self.bias_update[each.index] += abs(weight) * value * share

    def assert_equal(self, leaf: Tensor, synapse: nn.Module) -> None:
        """Parameters receive minus their update."""
        on_input = self.on_input.view_as(self.x)
        assert_near(leaf.grad, on_input if leaf.dim() == self.x.dim() else on_input.sum(0))
        if synapse.weight.grad is not None:
            assert_near(-synapse.weight.grad, self.weight_update)
        if synapse.bias is not None:
            assert_near(-synapse.bias.grad, self.bias_update)


def sign(value: float) -> float:
    return float((value > 0) - (value < 0))


def affine(rule: Rule, synapse: nn.Module, x: Tensor, feedback: Tensor, flat: float = 1.0) -> Replica:
    """q_ij = sign(z_j) r_j / N_ij, z_j the sum of all contributions."""
    replica = Replica(rule, synapse, x, flat)
    r = feedback.flatten(2).tolist()
    for t, b, o in product(range(len(x)), range(x.shape[1]), range(len(replica.connections))):
        z = replica.current(t, b, o)
        inverse = inverse_normalisers(rule, replica.seen(t, b, o), abs(z))
        replica.hand_on(t, b, o, [sign(z) * r[t][b][o] * each for each in inverse])
    return replica
