"""The arithmetic of a chip as one value: how its integer membranes leak, are compared with a threshold, and overflow.

Everything here is written with operators that NumPy's arrays and torch's tensors share, so that the same lines run on
both: `Integers` is either, of signed integers of 32 bits or more.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from spiking_lfp.integers.fields import IntegerRange, Text, Texts

Integers = Any
Booleans = Any
# a number, or an array of them
Real = Any

Leak = Literal["mul12_trunc", "mul12_floor", "shift"]
LEAKS: tuple[Leak, ...] = get_args(Leak)
Comparison = Literal[">", ">="]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)
Overflow = Literal["symmetric", "saturate", "wrap"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
Accumulation = Literal["sum", "events"]
ACCUMULATIONS: tuple[Accumulation, ...] = get_args(Accumulation)
IntegerReset = Literal["zero", "subtract", "subtract_decayed"]
INTEGER_RESETS: tuple[IntegerReset, ...] = get_args(IntegerReset)

# of the factor by which membranes leak
DECAY_BITS = 12
DECAY_ONE = 1 << DECAY_BITS
# 4 bits
_LARGEST_SHIFT = 15
# golden runs hold them in a byte
_MOST_SPIKES = 255


@dataclass(frozen=True)
class Arithmetic:
    """How a chip computes with integers.

    Attributes:
        name: for messages; it is not compared.
        weight_bits: largest width of a weight.
        membrane_bits: width of a membrane, sign included.
        frac_bits: largest number of fraction bits of a membrane, below one weight unit.
        leak: how a membrane `V` leaks in a step, by the `decay` of its output or layer:
            "mul12_trunc": V becomes V (4096 - decay) / 4096, truncated towards zero;
            "mul12_floor": the same, rounded down;
            "shift": V becomes V - (V >> decay), but a V above 0 loses at least one unit, as one below 0 always does.
        comparison: a neuron spikes where its membrane is ">" or ">=" its threshold.
        resets: those it has: "zero", a spike sets the membrane to 0; "subtract_decayed", it subtracts the threshold at
            once, so before the leak of the next step; "subtract", it subtracts it in the next step, after the leak.
        overflow: "symmetric": a membrane saturates at +-(2^(membrane_bits-1) - 1); "saturate": at the smallest and
            largest integer of membrane_bits; "wrap": it wraps around, as in two's complement.
        accumulation: how what arrives in a step meets the states of neurons with a synaptic current:
            "sum": it is added up, which has to fit into a membrane, and joins the current after the current's leak;
            "events": spike by spike, in the order of the inputs, it joins the current, which saturates each time and
            leaks afterwards; and what the membrane gains, the current minus its leak, saturates before it is added.
        spikes: how often a neuron spikes in a step at most: above 1 as often as its threshold goes into its membrane.
    """

    name: Annotated[str, Text()] = field(compare=False)
    weight_bits: Annotated[int, IntegerRange(2, 8)]
    membrane_bits: Annotated[int, IntegerRange(2, 24)]
    frac_bits: Annotated[int, IntegerRange(0, 6)]
    leak: Annotated[Leak, Text(LEAKS)]
    comparison: Annotated[Comparison, Text(COMPARISONS)]
    resets: Annotated[tuple[IntegerReset, ...], Texts(INTEGER_RESETS)]
    overflow: Annotated[Overflow, Text(OVERFLOWS)]
    accumulation: Annotated[Accumulation, Text(ACCUMULATIONS)] = "sum"
    spikes: Annotated[int, IntegerRange(1, _MOST_SPIKES)] = 1

    @property
    def largest(self) -> int:
        """The largest membrane."""
        return (1 << self.membrane_bits - 1) - 1

    @property
    def smallest(self) -> int:
        """The smallest membrane."""
        return -self.largest if self.overflow == "symmetric" else -self.largest - 1

    @property
    def largest_decay(self) -> int:
        """The largest `decay`; the smallest is 0."""
        return _LARGEST_SHIFT if self.leak == "shift" else DECAY_ONE - 1

    def beta(self, decay: Integers) -> Real:
        """Return the part of a membrane that a step keeps, up to rounding: exactly, for one decay or an array."""
        return 1 - 1 / (1 << decay) if self.leak == "shift" else (DECAY_ONE - decay) / DECAY_ONE

    def decay(self, beta: float) -> int:
        """Return the `decay` whose leak is nearest to that of floating-point membranes with this `beta`."""
        if self.leak == "shift":
            return min(range(_LARGEST_SHIFT + 1), key=lambda shift: abs(self.beta(shift) - beta))
        return min(round((1 - beta) * DECAY_ONE), DECAY_ONE - 1)

    def leaked(self, membrane: Integers, decay: Integers) -> Integers:
        """Return membranes after the leak of one step; `decay` is one integer, or broadcasts with them."""
        if self.leak == "shift":
            lost = membrane >> decay
            return membrane - (lost + ((lost == 0) & (membrane > 0)))
        kept = DECAY_ONE - decay
        # V * kept needs 36 bits: V = 4096 high + low, of which each product fits into 32
        low = (membrane & DECAY_ONE - 1) * kept
        if self.leak == "mul12_trunc":
            # rounding down after adding 4095 is rounding up: towards zero for what is below it, whose sign is all ones
            low += (membrane >> self.membrane_bits) & DECAY_ONE - 1
        return (membrane >> DECAY_BITS) * kept + (low >> DECAY_BITS)

    def limit(self, membrane: Integers) -> Integers:
        """Return membranes saturated or wrapped, as `overflow` says."""
        if self.overflow == "wrap":
            return ((membrane - self.smallest) & (1 << self.membrane_bits) - 1) + self.smallest
        return membrane.clip(self.smallest, self.largest)

    def gained(
        self, before: Integers, arriving: Integers, reach: Iterable[Integers], events: Callable[[], Iterable[Integers]]
    ) -> Integers:
        """Return what states gain that saturate after every event.

        Args:
            before: the states.
            arriving: the sum of the events.
            reach: the sum of the positive ones, and of the negative ones: while they fit, their order does not matter.
            events: returns them in order; equal ones may be one, as any of the same sign.
        """
        if all((self.limit(before + each) == before + each).all() for each in reach):
            return arriving
        after = before
        for event in events():
            after = self.limit(after + event)
        return after - before

    def fires(self, membrane: Integers, threshold: Integers) -> Booleans:
        """Return where neurons spike, or how often if they may do so more than once in a step."""
        if self.spikes == 1:
            return membrane > threshold if self.comparison == ">" else membrane >= threshold
        return ((membrane - int(self.comparison == ">")) // threshold).clip(0, self.spikes)

    def of_outputs(self) -> "Arithmetic":
        """Return that of the last layer, whose neurons spike once in a step at most: spikes are what is read there."""
        return replace(self, spikes=1)

    def difference(self, other: "Arithmetic") -> str | None:
        """Return in what the other arithmetic computes membranes differently, as a clause, or None."""
        for name in ("leak", "comparison", "membrane_bits", "overflow", "accumulation", "spikes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"its {name.replace('_', ' ')} is {theirs}, not {mine}"
        return None


# of the C runtime and the Verilog core; Loihi's, but for overflow: its membranes are as wide and do not saturate
DEFAULT = Arithmetic("default", 8, 24, 6, "mul12_trunc", ">", INTEGER_RESETS, "symmetric")
# SynSense's Xylo, equal to its simulator xylosim 0.1.3 spike for spike and state for state; fraction bits are its
# weight shifts, and 4 leave room for 16 times a threshold that is as large as the largest weight
XYLO = Arithmetic("xylo", 8, 16, 4, "shift", ">=", ("subtract_decayed",), "saturate", "events", 31)
# those that training and export know by name
ARITHMETICS = {each.name: each for each in (DEFAULT, XYLO)}
