"""The arithmetic of a chip as one value: how its integer membranes leak, are compared, and overflow.

Everything here is written with operators that NumPy's arrays and torch's tensors share, so that the same lines run on
both: `Integers` is either, of signed integers of 32 bits or more.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from spiking_lfp.integers.fields import Number, Word, Words

Integers = Any
Booleans = Any

Leak = Literal["mul12_trunc", "mul12_floor", "shift"]
LEAKS: tuple[Leak, ...] = get_args(Leak)
Comparison = Literal[">", ">="]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)
Overflow = Literal["symmetric", "saturate", "wrap"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
IntegerReset = Literal["zero", "subtract", "subtract_decayed"]
INTEGER_RESETS: tuple[IntegerReset, ...] = get_args(IntegerReset)

# of the multiplication by which membranes leak
DECAY_BITS = 12
DECAY_ONE = 1 << DECAY_BITS
# what 4 bits hold
_LARGEST_DASH = 15


@dataclass(frozen=True)
class Arithmetic:
    """How a chip computes with integers.

    Attributes:
        name: for sentences; it makes no difference.
        weight_bits: of its widest weight.
        membrane_bits: of a membrane, sign included.
        frac_bits: of a membrane, how many may lie below one unit of weight.
        leak: what a membrane `V` loses in a step, by the number `decay` of a layer:
            "mul12_trunc": V becomes V (4096 - decay) / 4096, truncated towards zero;
            "mul12_floor": likewise, rounded down;
            "shift": V becomes V - (V >> decay), but a V above 0 loses one unit at least, as one below 0 always does.
        comparison: a neuron spikes where its membrane is ">" or ">=" its threshold.
        resets: what a spike may do: "zero", the membrane starts the next step at 0; "subtract_decayed", it starts at
            what is above the threshold; "subtract", the threshold is subtracted in the next step after the leak.
        overflow: "symmetric": a membrane ends at +-(2^(membrane_bits-1) - 1); "saturate": at its smallest and largest
            number; "wrap": it goes round from one to the other.
    """

    name: Annotated[str, Word()] = field(compare=False)
    weight_bits: Annotated[int, Number(2, 8)]
    membrane_bits: Annotated[int, Number(2, 24)]
    frac_bits: Annotated[int, Number(0, 6)]
    leak: Annotated[Leak, Word(LEAKS)]
    comparison: Annotated[Comparison, Word(COMPARISONS)]
    resets: Annotated[tuple[IntegerReset, ...], Words(INTEGER_RESETS)]
    overflow: Annotated[Overflow, Word(OVERFLOWS)]

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
        """The largest number by which membranes leak; the smallest is 0."""
        return _LARGEST_DASH if self.leak == "shift" else DECAY_ONE - 1

    def beta(self, decay: int) -> float:
        """Return the share of a membrane that a step leaves, rounding apart."""
        return 1 - 1 / (1 << decay) if self.leak == "shift" else (DECAY_ONE - decay) / DECAY_ONE

    def decay(self, beta: float) -> int:
        """Return the number by which membranes leak most like real ones that keep the share `beta`."""
        if self.leak == "shift":
            return min(range(_LARGEST_DASH + 1), key=lambda dash: abs(self.beta(dash) - beta))
        return min(round((1 - beta) * DECAY_ONE), DECAY_ONE - 1)

    def leaked(self, membrane: Integers, decay: int) -> Integers:
        """Return what a step's leak leaves of membranes."""
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
        """Return membranes as the chip can hold them."""
        if self.overflow == "wrap":
            return ((membrane - self.smallest) & (1 << self.membrane_bits) - 1) + self.smallest
        return membrane.clip(self.smallest, self.largest)

    def fires(self, membrane: Integers, threshold: Integers) -> Booleans:
        """Return where neurons spike."""
        return membrane > threshold if self.comparison == ">" else membrane >= threshold

    def difference(self, other: "Arithmetic") -> str | None:
        """Say in what way a membrane of the other arithmetic moves differently, or return None."""
        for name in ("leak", "comparison", "membrane_bits", "overflow"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"its {name.replace('_', ' ')} is {theirs}, not {mine}"
        return None


# the C runtime's and the Verilog core's; Loihi's, where membranes are as wide but do not saturate
DEFAULT = Arithmetic("default", 8, 24, 6, "mul12_trunc", ">", INTEGER_RESETS, "symmetric")
# SynSense's Xylo, in part: its membrane and threshold, for one spike a step. Its synaptic current, which decays by
# itself, and its several spikes a step are not here; nor is what it does where the weights of one step overflow.
XYLO = Arithmetic("Xylo's membranes", 8, 16, 0, "shift", ">=", ("subtract_decayed",), "saturate")
