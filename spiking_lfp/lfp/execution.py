"""How the forward pass of a layer is carried out: in real numbers, as integer hardware does, or elsewhere.

LFP needs no derivative of it: whatever says what the neurons did can be trained.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_lfp import kernels
from spiking_lfp.errors import UsageError
from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.neurons import Neuron, State, Trace
from spiking_lfp.neurons.integer import Arrivals, FixedPoint, trace_of


@dataclass(frozen=True)
class Prepared:
    """What a layer runs with.

    Attributes:
        weight: that meets the inputs.
        bias: likewise.
        neuron: that meets the currents.
        forward_weight: the real weight that `weight` stands for, where that is not the one that learns; else None.
        unit: how many units of the membrane make one of the real threshold's, for each output `[O]`; None for one.
    """

    weight: Tensor
    bias: Tensor | None
    neuron: Neuron | IntegerNeuron
    forward_weight: Tensor | None = None
    unit: Tensor | None = None

    def current_unit(self) -> Tensor | None:
        """Return how many units of the current make one of the real threshold's, `[O]`; None for one."""
        if self.unit is None or not isinstance(self.neuron, IntegerNeuron):
            return self.unit
        units: Tensor = self.unit / (2**self.neuron.frac_bits * self.neuron.kept_of_inputs)
        return units


class Execution(ABC):
    """How a layer is carried out; subclasses are frozen dataclasses."""

    @property
    def levels(self) -> int:
        """The integer that stands for an input of 1; 1 leaves inputs as they are."""
        return 1

    @property
    def largest(self) -> int | None:
        """The largest integer that arrives; `levels` if None."""
        return None

    @property
    def in_integers(self) -> bool:
        """Whether weights are rounded, those of an output together."""
        return False

    @abstractmethod
    def prepare(self, weight: Tensor, bias: Tensor | None, neuron: Neuron, name: str) -> Prepared:
        """Return what the layer runs with; `name` is for errors."""

    def run(
        self,
        prepared: Prepared,
        current: Tensor,
        steps: int,
        initial: State | None,
        name: str,
        arrivals: Arrivals | None = None,
    ) -> tuple[Tensor, State, Trace]:
        """Run the neurons; see `Neuron.forward`, and `neurons.integer.forward` for arrivals."""
        return kernels.forward(prepared.neuron, current, steps, initial, arrivals)


@dataclass(frozen=True)
class Real(Execution):
    """In real numbers."""

    def prepare(self, weight: Tensor, bias: Tensor | None, neuron: Neuron, name: str) -> Prepared:
        """Return the weights and the neuron as they are."""
        return Prepared(weight, bias, neuron)


@dataclass(frozen=True)
class Integer(FixedPoint, Execution):
    """As integer hardware does it, with weights rounded anew in every forward pass; see `FixedPoint`."""

    @property
    def in_integers(self) -> bool:
        """Whether weights are rounded: they are."""
        return True

    def prepare(self, weight: Tensor, bias: Tensor | None, neuron: Neuron, name: str) -> Prepared:
        """Return integers.

        Raises:
            UsageError: with the layer's name, for neurons and numbers that have no integer form.
        """
        if neuron.recurrent is not None:
            raise UsageError(f"layer {name}: recurrent layers do not run in integers")
        layer = self.layer(weight, bias, neuron, name)
        columns = layer.scale.view(-1, *[1] * (layer.weight.dim() - 1))
        # of what arrives, the states hold what a step keeps
        unit = self.levels / layer.scale * 2**layer.neuron.frac_bits * layer.neuron.kept_of_inputs
        return Prepared(layer.weight, layer.bias, layer.neuron, layer.weight * columns, unit)

    def run(
        self,
        prepared: Prepared,
        current: Tensor,
        steps: int,
        initial: State | None,
        name: str,
        arrivals: Arrivals | None = None,
    ) -> tuple[Tensor, State, Trace]:
        """Run the neurons; membranes that are outputs become real numbers again."""
        outputs, final, trace = super().run(prepared, current, steps, initial, name, arrivals)
        assert isinstance(prepared.neuron, IntegerNeuron)
        return outputs if prepared.neuron.spiking else _real(outputs, prepared), final, trace


def _real(membranes: Tensor, prepared: Prepared) -> Tensor:
    """Return integer membranes `[T, B, O, ...]` as real numbers."""
    assert prepared.unit is not None
    return membranes / prepared.unit.view(-1, *[1] * (membranes.dim() - 3))


@dataclass(frozen=True, eq=False)
class Recorded(Execution):
    """Not at all: the layer returns what was recorded of a simulator or chip.

    Attributes:
        states: of every step, before any reset of that step, `[T, B, *n]` each, the membrane first.
        of: how it was carried out there, and so the unit of the states.
    """

    states: State
    of: Real | Integer = Real()

    @property
    def levels(self) -> int:
        """Those of the execution that was recorded."""
        return self.of.levels

    @property
    def largest(self) -> int | None:
        """That of the execution that was recorded."""
        return self.of.largest

    @property
    def in_integers(self) -> bool:
        """Whether the execution that was recorded rounded weights."""
        return self.of.in_integers

    def prepare(self, weight: Tensor, bias: Tensor | None, neuron: Neuron, name: str) -> Prepared:
        """Return what the layer ran with."""
        return self.of.prepare(weight, bias, neuron, name)

    def run(
        self,
        prepared: Prepared,
        current: Tensor,
        steps: int,
        initial: State | None,
        name: str,
        arrivals: Arrivals | None = None,
    ) -> tuple[Tensor, State, Trace]:
        """Return what the neurons did.

        Raises:
            UsageError: if the states do not fit the layer.
        """
        expected, wanted = [steps, *current.shape[1:]], prepared.neuron.states
        if len(self.states) != len(wanted):
            raise UsageError(f"layer {name}: expected recorded {' and '.join(wanted)}, found {len(self.states)} states")
        for what, values in zip(wanted, self.states, strict=True):
            if list(values.shape) != expected:
                raise UsageError(f"layer {name}: expected a recorded {what} {expected}, found {list(values.shape)}")
            whole = self.in_integers and not values.is_floating_point() and values.dtype != torch.bool
            # rounding real numbers may move them across the threshold
            if values.device != current.device or (values.dtype != current.dtype and not whole):
                raise UsageError(
                    f"layer {name}: expected a recorded {what} of {current.dtype} on {current.device}, found "
                    f"{values.dtype} on {values.device}: convert it"
                )
        neuron, states = prepared.neuron, tuple(values.to(current.dtype) for values in self.states)
        membrane = states[0]
        if isinstance(neuron, IntegerNeuron):
            if neuron.spiking:
                threshold = neuron.threshold(membrane[0])
                spikes = neuron.arithmetic.fires(membrane, threshold).to(membrane.dtype)
            else:
                spikes = _real(membrane, prepared)
            trace = trace_of(neuron, steps, None, states, spikes)
        else:
            spikes = neuron.outputs(states)
            trace = Trace(neuron, steps, None, states)
        return spikes, tuple(values[-1].clone() for values in states), trace
