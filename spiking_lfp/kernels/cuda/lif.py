"""The LIF recursions for GPUs, compiled by Triton; equal to `lif` by test.

Bound by memory, so each element of batch x neurons stays with one thread: the membrane is kept in registers over all
steps, and every tensor is passed over once. The value that the next step needs is asked for before this step stores,
since the compiler cannot know that the two are different places.

Exact: no product is fused into a sum, and in bfloat16 the membrane is rounded wherever the reference rounds, so that
spikes are those of `lif`. Feedback is computed in float32 (float64 for float64) and rounded when it is stored: equal to
the reference in float32 and float64, and nearer to the truth in bfloat16.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from spiking_lfp.kernels.layout import channels_last, empty_channels_last, flat
from spiking_lfp.neurons import LIFNeuron, State, Trace
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.rules import Epsilon

# With constant input every so many steps a membrane is stored while replaying, and those between are computed again
# from it: an eighth of the memory, for about four more of a step's few operations.
SEGMENT = 8


@triton.jit
@no_type_check
def _next_membrane(before, arrived, beta, threshold, RESET: tl.constexpr, STORED: tl.constexpr):
    """Advance one step; casts to STORED and back round bfloat16 and do nothing to the other types."""
    wide: tl.constexpr = before.dtype
    fired = before > threshold
    if RESET == "zero":
        before = tl.where(fired, 0.0, before)
    after = ((beta * before).to(STORED).to(wide) + arrived).to(STORED).to(wide)
    if RESET == "subtract":
        after = (after - tl.where(fired, threshold, 0.0)).to(STORED).to(wide)
    return after


@triton.jit
@no_type_check
def _reciprocal(size):
    # the ordinary quotient of float32 is an approximation
    if size.dtype == tl.float64:
        return 1.0 / size
    else:
        return tl.div_rn(1.0, size)


@triton.jit
@no_type_check
def _value(tensor, place, inside, WIDE: tl.constexpr):
    """Load from `tensor`, or make zeros where there is none."""
    if tensor is None:
        return tl.full(place.shape, 0, WIDE)
    else:
        return tl.load(tensor + place, mask=inside, other=0).to(WIDE)


CONFIGS = [
    triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((256, 4), (128, 2), (512, 4), (1024, 4))
]


def _tuned(**options: Any) -> Any:
    """Choose among the CONFIGS by time, anew for each order of magnitude; the interpreter has nothing to time."""

    def bench(launch: Any, quantiles: Any) -> Any:
        # the usual 125 ms for each would be longer than an epoch of a small network
        return triton.testing.do_bench(launch, warmup=2, rep=10, quantiles=quantiles)

    configs = CONFIGS if isinstance(_value, triton.JITFunction) else CONFIGS[:1]
    return triton.autotune(configs, key=["magnitude"], do_bench=bench, **options)


# `steps` differs between runs and must not compile anew; `magnitude` is only what to tune by
@_tuned(restore_value=["current"])
@triton.jit(do_not_specialize=["steps", "magnitude"])
@no_type_check
def _forward(
    current,
    initial,
    beta,
    threshold,
    spikes,
    final,
    steps,
    magnitude,
    elements,
    neurons,
    beta_stride,
    threshold_stride,
    CONSTANT: tl.constexpr,
    RESET: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write spikes and the final membrane, and the membrane over `current` unless it is constant."""
    stored: tl.constexpr = current.dtype.element_ty
    wide: tl.constexpr = tl.float64 if stored == tl.float64 else tl.float32
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < elements
    decay = tl.load(beta + place % neurons * beta_stride).to(wide)
    fire = tl.load(threshold + place % neurons * threshold_stride).to(wide)
    membrane = _value(initial, place, inside, wide)
    size = tl.cast(elements, tl.int64)
    current += place
    spikes += place
    arrived = tl.load(current, mask=inside, other=0).to(wide)
    for t in range(steps):
        if CONSTANT:
            following = arrived
        else:
            following = tl.load(current + size, mask=inside & (place < (steps - 1 - t) * size), other=0).to(wide)
        membrane = _next_membrane(membrane, arrived, decay, fire, RESET, stored)
        tl.store(spikes, (membrane > fire).to(wide).to(stored), mask=inside)
        if not CONSTANT:
            tl.store(current, membrane.to(stored), mask=inside)
            current += size
        spikes += size
        arrived = following
    tl.store(final + place, membrane.to(stored), mask=inside)


@_tuned()
@triton.jit(do_not_specialize=["steps", "magnitude"])
@no_type_check
def _feedback_epsilon(
    record,
    initial,
    beta,
    threshold,
    segments,
    spike_feedback,
    final_feedback,
    q,
    initial_feedback,
    steps,
    magnitude,
    elements,
    neurons,
    beta_stride,
    threshold_stride,
    SEGMENT: tl.constexpr,
    SUMMED: tl.constexpr,
    RESET: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write `q` and the feedback on the initial membrane.

    `record` is the membrane, or the constant current to replay it from where `segments`, the room for every SEGMENTth
    membrane, is given.
    """
    stored: tl.constexpr = record.dtype.element_ty
    wide: tl.constexpr = tl.float64 if stored == tl.float64 else tl.float32
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < elements
    decay = tl.load(beta + place % neurons * beta_stride).to(wide)
    fire = tl.load(threshold + place % neurons * threshold_stride).to(wide)
    start = _value(initial, place, inside, wide)
    carried = _value(final_feedback, place, inside, wide)
    size = tl.cast(elements, tl.int64)
    spike_feedback += place + (steps - 1) * size
    record += place
    q += place
    if segments is None:
        record += (steps - 1) * size
        after = tl.load(record, mask=inside, other=0).to(wide)
        before = tl.load(record - size, mask=inside & (place < (steps - 1) * size), other=0).to(wide)
        record -= 2 * size
    else:
        segments += place
        arrived = tl.load(record, mask=inside, other=0).to(wide)
        after = start
        for t in range(steps):
            if t % SEGMENT == 0:
                tl.store(segments + t // SEGMENT * size, after.to(stored), mask=inside)
            after = _next_membrane(after, arrived, decay, fire, RESET, stored)
        tl.debug_barrier()  # what one thread stored another may load
    reward = tl.load(spike_feedback, mask=inside, other=0).to(wide)
    total_q = tl.full([BLOCK], 0, wide)
    for back in range(steps):
        t = steps - 1 - back
        spike_feedback -= size
        following = tl.load(spike_feedback, mask=inside & (place < t * size), other=0).to(wide)
        if segments is None:
            earlier = tl.load(record, mask=inside & (place < (t - 1) * size), other=0).to(wide)
            record -= size
            before = tl.where(t == 0, start, before)
        else:
            before = tl.load(segments + t // SEGMENT * size, mask=inside, other=0).to(wide)
            for _ in range(t % SEGMENT):
                before = _next_membrane(before, arrived, decay, fire, RESET, stored)
            earlier = before
        fired = before > fire
        total = after
        survived = before
        if RESET == "subtract":
            total += tl.where(fired, fire, 0.0)
        if RESET == "zero":
            total += tl.where(fired, decay * before, 0.0)
            survived = tl.where(fired, 0.0, before)
        q_t = (reward + carried) * _reciprocal(tl.abs(before) + tl.abs(total - before) + EPSILON)
        carried = decay * survived * q_t
        if SUMMED:
            total_q += q_t
        else:
            tl.store(q + t * size, q_t.to(stored), mask=inside)
        after = before
        before = earlier
        reward = following
    if SUMMED:
        tl.store(q, total_q.to(stored), mask=inside)
    tl.store(initial_feedback + place, carried.to(stored), mask=inside)


def _constants(neuron: LIFNeuron, like: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """Return beta and threshold for the neurons of `like` `[B, *n]`, and how far apart they are: 0 for one number."""
    values = [value.to(like.dtype) for value in (neuron.beta, neuron.threshold)]
    beta, threshold = (
        value if value.numel() == 1 else flat(value.expand(like.shape[1:]), 0).contiguous() for value in values
    )
    return beta, threshold, int(beta.numel() > 1), int(threshold.numel() > 1)


def _launch(kernel: Any, like: Tensor, *arguments: Any, **constants: Any) -> None:
    """Run `kernel` over the elements of `like` `[B, *n]`, on its device."""
    elements = like.numel()
    with torch.cuda.device_of(like):
        kernel[lambda meta: (triton.cdiv(elements, meta["BLOCK"]),)](*arguments, enable_fp_fusion=False, **constants)


def forward(neuron: LIFNeuron, current: Tensor, steps: int, initial: State | None) -> tuple[Tensor, State, Trace]:
    """`LIFNeuron.forward`; overwrites `current` with the membrane unless it is constant."""
    current = channels_last(current, 2)
    constant = len(current) < steps
    spikes = empty_channels_last((steps, *current.shape[1:]), current)
    final = torch.empty_like(current[0])
    beta, threshold, *strides = _constants(neuron, final)
    _launch(
        _forward,
        final,
        current,
        None if initial is None else channels_last(initial[0], 1),
        beta,
        threshold,
        spikes,
        final,
        steps,
        final.numel().bit_length(),
        final.numel(),
        final[0].numel(),
        *strides,
        CONSTANT=constant,
        RESET=neuron.reset,
    )
    return spikes, (final,), Trace(neuron, steps, initial, *((None, current) if constant else ((current,), None)))


def feedback_epsilon(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Epsilon,
    summed: bool,
    sums: SumsBySign | None,
) -> tuple[Q, State]:
    """`LIFNeuron.feedback` with the rule `Epsilon`."""
    assert isinstance(trace.neuron, LIFNeuron)
    record = channels_last(trace.record, 2)
    steps, like = trace.steps, record[0]
    q = empty_channels_last((1 if summed else steps, *like.shape), record)
    initial_feedback = torch.empty_like(like)
    beta, threshold, *strides = _constants(trace.neuron, like)
    _launch(
        _feedback_epsilon,
        like,
        record,
        None if trace.initial is None else channels_last(trace.initial[0], 1),
        beta,
        threshold,
        None if trace.states is not None else record.new_empty((-(-steps // SEGMENT), like.numel())),
        channels_last(spike_feedback, 2),
        None if final_feedback is None else channels_last(final_feedback[0], 1),
        q,
        initial_feedback,
        steps,
        like.numel().bit_length(),
        like.numel(),
        like[0].numel(),
        *strides,
        SEGMENT=SEGMENT,
        SUMMED=summed,
        RESET=trace.neuron.reset,
        EPSILON=rule.epsilon,
    )
    return (q,), (initial_feedback,)
