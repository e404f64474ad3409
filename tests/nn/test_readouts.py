"""Readouts: populations of neurons that vote, and membranes in place of spikes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spiking_lfp import (
    LI,
    LIF,
    Affine,
    PopulationReadout,
    RecurrentLIF,
    UsageError,
    mlp,
    propagate,
    run_in_chunks,
    spike_count_reward,
    spike_rate_reward,
)
from spiking_lfp.lfp.rewards import FullReward
from spiking_lfp.nn.networks import with_membrane_readout


@given(
    classes=st.integers(1, 3),
    size=st.integers(1, 4),
    places=st.sampled_from([(), (2, 3)]),
    rate=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_members_are_rewarded_alike_and_punished_for_their_own_spikes(
    classes: int, size: int, places: tuple[int, ...], rate: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(3, 2, classes * size, *places, generator=random) < rate).double().requires_grad_()
    feedback = torch.randn(3, 2, classes, *places, generator=random, dtype=torch.float64)
    out = PopulationReadout(size)(spikes)
    out.backward(feedback)
    assert spikes.grad is not None
    for t, b, n, *place in torch.cartesian_prod(*map(torch.arange, spikes.shape)).tolist():
        members = [spikes[(t, b, n // size * size + m, *place)].item() for m in range(size)]
        mean = sum(members) / size
        assert out[(t, b, n // size, *place)].item() == pytest.approx(mean, rel=1e-12)
        heard = feedback[(t, b, n // size, *place)].item()
        share = 1.0 if heard > 0 else members[n % size] / mean if mean else 0.0
        assert spikes.grad[(t, b, n, *place)].item() == pytest.approx(heard * share, rel=1e-12)


@pytest.mark.parametrize("reward", [spike_count_reward, spike_rate_reward])
def test_members_that_agree_learn_as_one_neuron_does(reward: FullReward) -> None:
    alone, x, labels = LIF(nn.Linear(6, 3).double(), threshold=0.1), 2 * torch.randn(8, 5, 6).double(), [0, 2, 1, 1, 0]
    several = LIF(nn.Linear(6, 12).double(), threshold=0.1)
    with torch.no_grad():
        for mine, theirs in zip(several.synapse.parameters(), alone.synapse.parameters(), strict=True):
            mine.copy_(theirs.repeat_interleave(4, 0))
    for network in (nn.Sequential(alone), nn.Sequential(several, PopulationReadout(4))):
        outputs = network(x)
        assert 0.1 < outputs.mean() < 0.9
        propagate(outputs, reward(outputs, labels))
    for mine, theirs in zip(several.synapse.parameters(), alone.synapse.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.repeat_interleave(4, 0), rtol=1e-12, atol=1e-12)


def test_a_population_that_is_silent_is_woken_whole_and_not_punished() -> None:
    spikes = torch.zeros(4, 1, 6, requires_grad=True)
    outputs = PopulationReadout(3)(spikes)
    propagate(outputs, spike_count_reward(outputs, [1]))
    assert spikes.grad is not None
    assert not spikes.grad[:, :, :3].any()
    assert (spikes.grad[:, :, 3:] > 0).all()


def test_populations_run_in_chunks() -> None:
    network, x, grads = (
        nn.Sequential(LIF(nn.Linear(4, 6), threshold=0.3), PopulationReadout(3)),
        torch.rand(7, 2, 4),
        [],
    )
    for run in (network, lambda inputs: run_in_chunks(network, inputs, 3)):
        network.zero_grad()
        outputs = run(x)
        propagate(outputs, spike_count_reward(outputs, [0, 1]))
        grads.append(network[0].synapse.weight.grad.clone())
    torch.testing.assert_close(grads[1], grads[0])


def test_what_is_no_population_is_refused(unchecked: None) -> None:
    with pytest.raises(UsageError, match=r"^size must be at least 1, found 0$"):
        PopulationReadout(0)
    with pytest.raises(UsageError, match=r"N a multiple of 3, found \[5, 2, 7\]"):
        PopulationReadout(3)(torch.zeros(5, 2, 7))
    with pytest.raises(UsageError, match=r"PopulationReadout\(size=3\): its inputs are no spikes, 0 or 1"):
        PopulationReadout(3)(torch.full((5, 2, 6), 0.5))


def test_a_membrane_readout_keeps_the_synapse_of_the_layer_that_it_replaces() -> None:
    spiking = mlp(hidden=(20,))
    network = with_membrane_readout(spiking, 0.5)
    last = network[-1]
    assert isinstance(last, LI)
    assert (last.synapse, float(last.beta), last.name) == (spiking[-1].synapse, 0.5, "2")
    assert len(network) == len(spiking)
    for wrong in (Affine(nn.Linear(2, 2)), RecurrentLIF(nn.Linear(2, 2))):
        with pytest.raises(UsageError, match="a membrane readout replaces a spiking layer at the end"):
            with_membrane_readout(nn.Sequential(LIF(nn.Linear(2, 2)), wrong))
