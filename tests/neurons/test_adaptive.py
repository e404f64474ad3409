"""Neurons whose threshold rises with their own spikes: a slow replica, `LIF`, and what cannot take them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.tensors import random
from spiking_lfp import (
    LIF,
    AdaptiveLIF,
    Epsilon,
    ExportError,
    UsageError,
    propagate,
    run_in_chunks,
    run_in_integers,
)
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.interop import to_snntorch
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.kernels import registry

BETA, THRESHOLD, RHO, ADAPTATION = 0.85, 0.4, 0.9, 0.3


def layer(reset: str = "subtract", adaptation: float = ADAPTATION) -> AdaptiveLIF:
    return AdaptiveLIF(nn.Linear(6, 5).double(), BETA, THRESHOLD, RHO, adaptation, reset, Epsilon(1e-3))


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_spikes_and_feedback_equal_a_slow_replica(reset: str) -> None:
    ours, x, reward = layer(reset), random(9, 2, 6).requires_grad_(), random(9, 2, 5)
    spikes, (membrane, adaptation) = ours.run(x)
    on_final = random(2, 5), random(2, 5)
    torch.autograd.backward([spikes, membrane, adaptation], [reward, *on_final])
    weight, bias = ours.synapse.weight, ours.synapse.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    expected_spikes, q = torch.zeros(9, 2, 5).double(), torch.zeros(9, 2, 5).double()
    for b in range(2):
        for n in range(5):
            u, a, s = [0.0], 0.0, [0.0]
            for t in range(9):
                kept = 0.0 if reset == "zero" and s[-1] else u[-1]
                a = RHO * a + s[-1]
                arrived = (weight[n] * x[t, b]).sum().item() + bias[n].item()
                u.append(BETA * kept + arrived - (THRESHOLD * s[-1] if reset == "subtract" else 0.0))
                s.append(float(u[-1] > THRESHOLD + ADAPTATION * a))
                expected_spikes[t, b, n] = s[-1]
            m = on_final[0][b, n].item()
            for t in reversed(range(9)):
                total = BETA * u[t] + (weight[n] * x[t, b]).sum().item() + bias[n].item()
                q[t, b, n] = (reward[t, b, n].item() + m) / (abs(u[t]) + abs(total - u[t]) + 1e-3)
                m = BETA * (0.0 if reset == "zero" and s[t] else u[t]) * q[t, b, n].item()
    assert 0.05 < expected_spikes.mean() < 0.9
    assert torch.equal(spikes, expected_spikes)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, x.detach() * (q @ weight), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(-weight.grad, weight.abs() * torch.einsum("tbo,tbi->oi", q, x.detach()))


def test_the_threshold_rises_with_spikes() -> None:
    x = torch.full((40, 1, 1), 1.0).double()
    rates = []
    for adaptation in (0.0, 0.5):
        ours = AdaptiveLIF(nn.Linear(1, 1, bias=False).double(), 0.9, 0.5, 0.95, adaptation)
        nn.init.constant_(ours.synapse.weight, 0.4)
        rates.append(ours(x).mean().item())
    assert rates[1] < rates[0] / 2


def test_without_adaptation_it_is_a_lif() -> None:
    ours = layer(adaptation=0.0)
    plain = LIF(ours.synapse, BETA, THRESHOLD, rule=Epsilon(1e-3))
    x, reward, outcomes = random(12, 3, 6), random(12, 3, 5), []
    for each in (ours, plain):
        each.zero_grad()
        spikes = each(x)
        propagate(spikes, reward)
        assert isinstance(each.synapse.weight, Tensor)
        outcomes.append([spikes.detach(), each.synapse.weight.grad])
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_parts_of_a_sequence_give_what_the_whole_gives() -> None:
    ours, x, reward = layer(), random(9, 2, 6), random(9, 2, 5)
    outcomes = []
    for run in (ours, lambda part: run_in_chunks(ours, part, 4)):
        ours.zero_grad()
        spikes = run(x)
        propagate(spikes, reward)
        outcomes.append([spikes.detach(), ours.synapse.weight.grad])
    for whole, parts in zip(*outcomes, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_no_kernel_takes_it() -> None:
    for dtype in (torch.float32, torch.float64):
        like = torch.zeros(1, dtype=dtype)
        for operation in ("forward", "feedback"):
            assert registry.find(operation, like, AdaptiveLIF.kind, Epsilon) is None


def test_what_cannot_run_it_says_so_by_name(tmp_path: Path) -> None:
    network = nn.Sequential(AdaptiveLIF(nn.Linear(6, 5)), LIF(nn.Linear(5, 2)))
    run_in_integers(network, 8, levels=1)
    with pytest.raises(UsageError, match="AdaptiveLIF"):
        network(torch.ones(3, 1, 6))
    run_in_integers(network, 0)
    with pytest.raises(ExportError, match=r"layer 0: AdaptiveLIF has no integer form"):
        quantize(network, torch.ones(3, 4, 6).byte(), torch.zeros(4).long(), None, ["a", "b"])
    with pytest.raises(ExportError, match=r"layer 0: AdaptiveLIF has no counterpart"):
        to_snntorch(network)
    with pytest.raises(ExportError, match=r"layer 0: AdaptiveLIF has no counterpart"):
        write_nir(network, tmp_path / "net.nir")


def test_constants_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"adaptation must be finite and at least 0, found -1\.0"):
        AdaptiveLIF(nn.Linear(2, 2), adaptation=-1.0)
