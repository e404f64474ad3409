"""Integer LIF neurons for CPU, compiled by numba; equal to `neurons.integer.forward` by test.

Compiled is the default arithmetic only; any other runs the reference.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import types
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.integers.arithmetic import DECAY_ONE, DEFAULT
from spiking_lfp.integers.neuron import along_outputs
from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.layout import channels_last, empty_channels_last, flat
from spiking_lfp.neurons import State, Trace
from spiking_lfp.neurons import integer as reference

Array = NDArray[Any]


def _of_neuron(values: Any, n: int) -> Any:
    """Return an element of an array, or the integer that stands for all."""


@overload(_of_neuron, strict=False)
@no_type_check
def _(values: Any, n: Any) -> Any:
    # compiled for one or the other: one decay for all costs no array
    if isinstance(values, types.Integer):
        return lambda values, n: np.int32(values)
    return lambda values, n: values[n]


@kernel
@no_type_check
def _forward(
    begin: int,
    end: int,
    current: Array,
    state: Array,
    bound: Array,
    kept: int | Array,
    shift: int,
    zero: bool,
    largest: int,
    membrane: Array,
    spikes: Array,
) -> None:
    """Run from `state`, the membrane before, to the last one; of membranes stays `kept / 4096`."""
    if in_threads(begin, end):
        return
    steps, _, neurons = spikes.shape
    changes = current.shape[0] == steps
    largest, unit = np.int32(largest), np.int32(1 << shift)
    low = np.int32(DECAY_ONE - 1)
    nought, one = spikes.dtype.type(0), spikes.dtype.type(1)
    for b in range(begin, end):
        before = state[b]
        for t in range(steps):
            arrived, seen, fired = current[t if changes else 0, b], membrane[t, b], spikes[t, b]
            for n in range(neurons):
                value = before[n]
                above = value > bound[n]
                size = abs(np.int32(0) if above and zero else value)
                # 36 bits in two halves that fit into 32
                part = _of_neuron(kept, n)
                left = (size >> 12) * part + (((size & low) * part) >> 12)
                left = -left if value < 0 else left
                left += np.int32(arrived[n]) * unit
                left -= bound[n] if above and not zero else np.int32(0)
                left = min(max(left, -largest), largest)
                before[n] = left
                seen[n] = left
                fired[n] = one if left > bound[n] else nought


def forward(neuron: IntegerNeuron, current: Tensor, steps: int, initial: State | None) -> tuple[Tensor, State, Trace]:
    """`neurons.integer.forward` for float32 and float64."""
    if neuron.arithmetic != DEFAULT or neuron.reset == "subtract_decayed":
        return reference.forward(neuron, current, steps, initial)
    current = channels_last(current, 2)
    membrane, spikes = (empty_channels_last((steps, *current.shape[1:]), current) for _ in range(2))
    state = torch.zeros_like(current[0], dtype=torch.int32) if initial is None else channels_last(initial[0], 1).int()
    state = channels_last(state, 1)
    bound = neuron.threshold(current[0]).expand(current.shape[2:]).int()
    kept = DECAY_ONE - neuron.decay
    if isinstance(kept, Tensor):
        kept = flat(along_outputs(kept, current[0]).expand(current.shape[2:]), 0).numpy()
    _forward(
        all_threads(),
        len(state),
        flat(current, 2).numpy(),
        flat(state, 1).numpy(),
        flat(bound, 0).numpy(),
        kept,
        neuron.frac_bits,
        neuron.reset == "zero",
        neuron.arithmetic.largest,
        flat(membrane, 2).numpy(),
        flat(spikes, 2).numpy(),
    )
    return spikes, (state.to(current.dtype),), reference.trace_of(neuron, steps, initial, (membrane,), spikes)
