"""One step of 64 LIF neurons at a time, forward and back, in the compiler's own language (LLVM IR).

Loops written in Python leave half of a wide register unused and store spikes before they are packed; here 64
comparisons become one word of spikes. The operations and their order are those of `lif`: nothing is contracted or
reordered.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spiking_lfp.kernels.cpu.simd import array_data

LANES = 64


class _Lanes:
    """64 neurons, or those of them that a mask admits, seen by code in generation."""

    @no_type_check
    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, dtype: Any, mask: Any) -> None:
        self.context, self.builder, self.signature, self.arguments = context, builder, signature, arguments
        self.bits, self.mask = dtype.bitwidth, mask
        self.kind = ir.VectorType(context.get_value_type(dtype), LANES)
        self.zero = ir.Constant(self.kind, [0.0] * LANES)
        self.one = ir.Constant(self.kind, [1.0] * LANES)

    @no_type_check
    def _pointer(self, array: int, at: int) -> Any:
        data = array_data(self.context, self.builder, self.signature.args[array], self.arguments[array])
        return self.builder.bitcast(self.builder.gep(data, [self.arguments[at]]), self.kind.as_pointer())

    @no_type_check
    def _masked(self, what: str, result: Any, *kinds: Any) -> Any:
        name = f"llvm.masked.{what}.v{LANES}f{self.bits}.p0v{LANES}f{self.bits}"
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, kinds), name)

    @no_type_check
    def load(self, array: int, at: int) -> Any:
        """Load from the arguments with these numbers: an array and a place in it; 0 where the mask says no."""
        pointer = self._pointer(array, at)
        if self.mask is None:
            value = self.builder.load(pointer)
            value.align = self.bits // 8
            return value
        word = ir.IntType(32)
        load = self._masked("load", self.kind, pointer.type, word, self.mask.type, self.kind)
        return self.builder.call(load, [pointer, word(self.bits // 8), self.mask, self.zero])

    @no_type_check
    def store(self, value: Any, array: int, at: int) -> None:
        """Store likewise."""
        pointer = self._pointer(array, at)
        if self.mask is None:
            self.builder.store(value, pointer).align = self.bits // 8
            return
        word = ir.IntType(32)
        store = self._masked("store", ir.VoidType(), self.kind, pointer.type, word, self.mask.type)
        self.builder.call(store, [value, pointer, word(self.bits // 8), self.mask])

    @no_type_check
    def same(self, value: Any) -> Any:
        """Return a number or truth value for all lanes."""
        kind = ir.VectorType(value.type, LANES)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    @no_type_check
    def size(self, value: Any) -> Any:
        """Return the absolute value."""
        name = f"llvm.fabs.v{LANES}f{self.bits}"
        kind = ir.FunctionType(self.kind, [self.kind])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [value])


@no_type_check
def _for_valid(context: Any, builder: Any, signature: Any, arguments: Any, dtype: Any, body: Any) -> None:
    """Generate `body` for 64 neurons, and once more for those whose bits are set in the first argument."""
    common = context, builder, signature, arguments, dtype
    every = ir.IntType(64)(2**64 - 1)
    with builder.if_else(builder.icmp_unsigned("==", arguments[0], every)) as (all_valid, some_valid):
        with all_valid:
            body(_Lanes(*common, None))
        with some_valid:
            body(_Lanes(*common, builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), LANES))))


@intrinsic
@no_type_check
def lif_forward(
    typing: Any, valid: Any, before: Any, place: Any, current: Any, arrived: Any, beta: Any, threshold: Any, drop: Any,
    neuron: Any, zero: Any, keep: Any, spikes: Any, fired: Any,
) -> Any:  # fmt: skip
    """Step the neurons from `neuron` on, those whose bits are set in `valid`, and return their spikes as a word.

    Their membranes `before[place:]` go one step on with `current[arrived:]`, which they overwrite if `keep`; spikes are
    written to `spikes[fired:]`. beta, threshold and what a spike subtracts have one value per neuron.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = cgutils.alloca_once(builder, ir.IntType(64))

        def step(lanes: _Lanes) -> None:
            membrane, bound, zeroes = lanes.load(1, 2), lanes.load(6, 8), lanes.same(arguments[9])
            fired_before = builder.fcmp_ordered(">", membrane, bound)
            kept = builder.select(builder.and_(fired_before, zeroes), lanes.zero, membrane)
            total = builder.fadd(builder.fmul(lanes.load(5, 8), kept), lanes.load(3, 4))
            membrane = builder.fsub(total, builder.select(fired_before, lanes.load(7, 8), lanes.zero))
            spike = builder.fcmp_ordered(">", membrane, bound)
            lanes.store(membrane, 1, 2)
            with builder.if_then(arguments[10]):
                lanes.store(membrane, 3, 4)
            lanes.store(builder.select(spike, lanes.one, lanes.zero), 11, 12)
            builder.store(builder.and_(builder.bitcast(spike, ir.IntType(64)), arguments[0]), word)

        _for_valid(context, builder, signature, arguments, before.dtype, step)
        return builder.load(word)

    kinds = valid, before, place, current, arrived, beta, threshold, drop, neuron, zero, keep, spikes, fired
    return types.uint64(*kinds), generate


@intrinsic
@no_type_check
def lif_feedback_epsilon(
    typing: Any, valid: Any, after: Any, later: Any, before: Any, earlier: Any, reward: Any, given: Any, carried: Any,
    place: Any, q: Any, share: Any, beta: Any, threshold: Any, drop: Any, neuron: Any, zero: Any, add: Any,
    epsilon: Any,
) -> Any:  # fmt: skip
    """Take the neurons from `neuron` on one step back, those whose bits are set in `valid`, with LFP-epsilon.

    Their membranes are `after[later:]`, one step earlier `before[earlier:]`; `reward[given:]` is the feedback on their
    spikes and `carried[place:]` becomes m[t] where it was m[t+1]. `q[share:]` is written, or added to if `add`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def step(lanes: _Lanes) -> None:
            previous, bound, decay = lanes.load(3, 4), lanes.load(12, 14), lanes.load(11, 14)
            fired = builder.fcmp_ordered(">", previous, bound)
            zeroed = builder.and_(fired, lanes.same(arguments[15]))
            # V[t], from U[t] by undoing the reset
            total = builder.fadd(lanes.load(1, 2), builder.select(fired, lanes.load(13, 14), lanes.zero))
            total = builder.fadd(total, builder.select(zeroed, builder.fmul(decay, previous), lanes.zero))
            parts = builder.fadd(lanes.size(previous), lanes.size(builder.fsub(total, previous)))
            feedback = builder.fadd(lanes.load(5, 6), lanes.load(7, 8))
            part = builder.fdiv(feedback, builder.fadd(parts, lanes.same(arguments[17])))
            kept = builder.select(zeroed, lanes.zero, previous)
            lanes.store(builder.fmul(builder.fmul(decay, kept), part), 7, 8)
            with builder.if_else(arguments[16]) as (adds, writes):
                with adds:
                    lanes.store(builder.fadd(lanes.load(9, 10), part), 9, 10)
                with writes:
                    lanes.store(part, 9, 10)

        _for_valid(context, builder, signature, arguments, after.dtype, step)
        return context.get_dummy_value()

    kinds = (
        valid, after, later, before, earlier, reward, given, carried, place, q, share, beta, threshold, drop, neuron,
        zero, add, epsilon,
    )  # fmt: skip
    return types.void(*kinds), generate
