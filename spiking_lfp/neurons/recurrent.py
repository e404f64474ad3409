"""Leaky integrate-and-fire neurons that see the spikes of their own layer."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from spiking_lfp.neurons.base import Counterparts, Q, State, SumsBySign, Trace
from spiking_lfp.neurons.lif import LIFNeuron


@dataclass(frozen=True)
class RecurrentLIFNeuron(LIFNeuron):
    """`LIFNeuron` with `I[t] + V S[t-1]` in place of `I[t]`.

    `S[t-1] * (V^T q[t])` is feedback on their spikes: it joins `m[t]` on its way to `rho[t-1]`, and so reaches a part
    of the sequence that ran before through its final membrane.

    Attributes:
        recurrent: `V`, `[n, n]`.
    """

    recurrent: Tensor = field(kw_only=True)  # type: ignore[misc]
    counterparts: ClassVar[Counterparts] = Counterparts(nir=("LIF", "IF"), time_constants={"beta": ("tau", "r")})

    def step(self, state: State, current: Float[Tensor, "batch n"]) -> State:
        """Return `U[t]`."""
        fired = self.fires(state)
        return (self.membrane(state[0], fired, current + fired.to(current.dtype) @ self.recurrent.T),)

    def all_sums(self, trace: Trace, sums: SumsBySign) -> SumsBySign:
        """Return `z+` and `|z-|` of `V`, to which the layer's spikes contribute."""
        positive, negative = super().all_sums(trace, sums)
        spikes = trace.spikes_before()
        return positive + spikes @ self.recurrent.clamp(min=0).T, negative - spikes @ self.recurrent.clamp(max=0).T

    def owed(self, carried: Tensor, fired: Tensor, q: Q) -> Tensor:
        """Return what the membrane carried, and `S[t-1] * (V^T q[t])`."""
        if len(q) == 1:
            return carried + fired * (q[0] @ self.recurrent)
        return carried + fired * (q[0] @ self.recurrent.clamp(min=0) + q[1] @ self.recurrent.clamp(max=0))


@runtime_checkable
class Map(Protocol):
    """A map that is linear in its inputs and weights, as a synapse of `lfp.synapses` is one."""

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `V x + b`."""

    def adjoints(
        self, q: Tensor, x: Tensor, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x * (V^T q)`, and `sum q x^T`; None for what is not needed."""


@dataclass(frozen=True)
class MappedRecurrentLIFNeuron(RecurrentLIFNeuron):
    """`RecurrentLIFNeuron` whose `V` is the weight of any map from `*n` to `*n`, such as a convolution.

    Attributes:
        through: the map.
    """

    through: Map = field(kw_only=True)

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return `U[t]`."""
        fired = self.fires(state)
        seen = self.through.current(fired.to(current.dtype), self.recurrent, None)
        return (self.membrane(state[0], fired, current + seen),)

    def all_sums(self, trace: Trace, sums: SumsBySign) -> SumsBySign:
        """Return `z+` and `|z-|` of `V`, to which the layer's spikes contribute."""
        positive, negative = LIFNeuron.all_sums(self, trace, sums)
        spikes, run = trace.spikes_before(), self.through.current
        more, less = self.recurrent.clamp(min=0), -self.recurrent.clamp(max=0)
        return positive + run(spikes, more, None), negative + run(spikes, less, None)

    def owed(self, carried: Tensor, fired: Tensor, q: Q) -> Tensor:
        """Return what the membrane carried, and `S[t-1] * (V^T q[t])`."""
        weights = (self.recurrent,) if len(q) == 1 else (self.recurrent.clamp(min=0), self.recurrent.clamp(max=0))
        for each, weight in zip(q, weights, strict=True):
            asked, _ = self.through.adjoints(each, fired, weight, True, False)
            assert asked is not None
            carried = carried + asked
        return carried
