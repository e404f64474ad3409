"""The compiled neurons with a synaptic current against the reference."""

import pytest
import torch
from torch import Tensor

from spiking_lfp import Epsilon
from spiking_lfp.kernels.cpu import cuba
from spiking_lfp.kernels.cpu.recursions import TILE_VALUES
from spiking_lfp.neurons import RESETS, Reset
from spiking_lfp.neurons.cuba import CubaLIFNeuron


def constants(shape: tuple[int, ...], reset: Reset, dtype: torch.dtype) -> CubaLIFNeuron:
    def between(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(shape)).to(dtype)

    return CubaLIFNeuron(between(0.5, 1), between(0.3, 2), reset, alpha=between(0, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    ("steps", "shape", "constant_input", "started"),
    [
        (7, (5,), False, False), (7, (70,), False, True), (9, (130,), True, True), (6, (3, 4, 5), False, True),
        (1, (64,), False, True), (200, (700,), True, False),
    ],
)  # fmt: skip
def test_compiled_equals_reference(
    steps: int, shape: tuple[int, ...], constant_input: bool, started: bool, reset: Reset, dtype: torch.dtype
) -> None:
    """Forward to the bit; feedback but for rounding."""
    neuron = constants(shape, reset, dtype)
    current = torch.randn(1 if constant_input else steps, 2, *shape, dtype=dtype)
    pair = (torch.randn(2, *shape, dtype=dtype), torch.randn(2, *shape, dtype=dtype))
    initial, ends = (pair, pair[::-1]) if started else (None, None)
    spikes, final, trace = neuron.forward(current.clone(), steps, initial)
    found_spikes, found_final, found = cuba.forward(neuron, current.clone(), steps, initial)
    assert torch.equal(found_spikes, spikes)
    for one, other in zip(found_final, final, strict=True):
        assert torch.equal(one, other)
    assert (found.states is None) == (trace.states is None) == constant_input
    for one, other in zip(found.replayed().states or (), trace.replayed().states or (), strict=True):
        assert torch.equal(one, other)
    reward = torch.randn(spikes.shape, dtype=dtype)
    for summed in (False, True):
        (expected,), on_initial = neuron.feedback(trace, reward, ends, Epsilon(1e-2), summed)
        (q,), found_on_initial = cuba.feedback_epsilon(found, reward, ends, Epsilon(1e-2), summed, None)
        for one, other in zip((q, *found_on_initial), (expected, *on_initial), strict=True):
            tolerance = 1e-12 if dtype == torch.float64 else 1e-4
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def test_tiles_are_met() -> None:
    assert max(64, TILE_VALUES // 201) < 700
