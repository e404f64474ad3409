"""The table of kernels: no neuron, field or rule is swallowed by a kernel that does not know it."""

from dataclasses import dataclass, field, fields

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_lfp import LIF, Epsilon, UsageError, kernels, propagate
from spiking_lfp.kernels import registry
from spiking_lfp.kernels.registry import TABLE, Kernel
from spiking_lfp.neurons import LIFNeuron, State
from spiking_lfp.neurons.base import KEPT_PART
from spiking_lfp.nn.spiking import SpikingLayer
from spiking_lfp.rules import Contributions, Gain, Rule

LIKE = torch.zeros(1)


@dataclass(frozen=True)
class HalvedLIFNeuron(LIFNeuron):
    """A neuron of one's own: half of a current is lost."""

    part: Tensor = field(metadata=KEPT_PART, kw_only=True)

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        return super().step(state, current * self.part)


class HalvedLIF(SpikingLayer):
    kind = HalvedLIFNeuron

    def __init__(self, synapse: nn.Module, rule: Rule) -> None:
        super().__init__(synapse, rule, beta=0.9, threshold=1.0, part=0.5)


@dataclass(frozen=True)
class DoubledEpsilon(Epsilon):
    """A rule of one's own, which is an `Epsilon` too."""

    def gain(self, contributions: Contributions) -> Gain:
        return 2 * super().gain(contributions)


@pytest.mark.parametrize("key", [key for key in TABLE if key[1] is not None], ids=repr)
def test_kernels_know_every_field_of_their_neurons(key: tuple[str, type, type | None, str]) -> None:
    assert TABLE[key].heeds(key[1])


def test_a_field_that_a_kernel_does_not_know_keeps_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.find("forward", LIKE, LIFNeuron) is not None
    known = tuple(each.name for each in fields(LIFNeuron))
    for given in (known[:-1], (*known, "part")):
        monkeypatch.setitem(TABLE, ("forward", LIFNeuron, None, "cpu"), Kernel("cpu.lif:forward", given))
        assert registry.find("forward", LIKE, LIFNeuron) is None


def test_a_subclass_of_a_neuron_runs_as_it_says() -> None:
    assert registry.find("forward", LIKE, HalvedLIFNeuron) is None
    assert registry.find("feedback", LIKE, HalvedLIFNeuron, Epsilon) is None
    own = HalvedLIF(nn.Linear(6, 5), Epsilon(1e-3))
    halved = LIF(nn.Linear(6, 5), rule=Epsilon(1e-3))
    with torch.no_grad():
        for mine, theirs in zip(halved.parameters(), own.parameters(), strict=True):
            mine.copy_(theirs / 2)
    x = torch.rand(20, 3, 6) * 8
    spikes = own(x)
    assert 0.05 < spikes.mean() < 0.95
    torch.testing.assert_close(spikes, halved(x))


def test_constants_of_a_neuron_are_not_forgotten() -> None:
    class Forgetful(SpikingLayer):
        kind = HalvedLIFNeuron

    with pytest.raises(UsageError, match="Forgetful has to give part, a constant of HalvedLIFNeuron"):
        Forgetful(nn.Linear(2, 2), beta=0.9, threshold=1.0)
    with pytest.raises(UsageError, match="Kindless has to say which kind of neuron it has: kind = LIFNeuron"):
        type("Kindless", (SpikingLayer,), {})(nn.Linear(2, 3))
    with pytest.raises(UsageError, match="HalvedLIFNeuron has no constant 'decay'"):
        Forgetful(nn.Linear(2, 2), beta=0.9, threshold=1.0, part=0.5, decay=0.1)


def test_a_subclass_of_a_rule_runs_as_it_says() -> None:
    updates = []
    for rule in (Epsilon(1e-3), DoubledEpsilon(1e-3)):
        torch.manual_seed(0)
        layer = LIF(nn.Linear(6, 5), threshold=1e9, rule=rule)  # silent: feedback stays in its step, or doubles back
        spikes = layer(torch.rand(1, 3, 6))
        propagate(spikes, torch.ones_like(spikes))
        updates.append(layer.synapse.weight.grad)
    torch.testing.assert_close(updates[1], 2 * updates[0])


def test_a_neuron_without_a_kernel_may_see_constant_inputs() -> None:
    neuron = HalvedLIFNeuron(torch.tensor(0.9), torch.tensor(0.5), "subtract", part=torch.tensor(0.5))
    current = torch.rand(1, 2, 4)
    spikes, (final,), trace = kernels.forward(neuron, current, 7, None)
    expected, (last,), _ = neuron.forward(current.expand(7, -1, -1), 7, None)
    assert trace.states is None
    assert torch.equal(spikes, expected)
    assert torch.equal(final, last)
    assert torch.equal(trace.replayed().record[-1], last)
