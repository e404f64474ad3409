"""LIF neurons with a synaptic current, for CPU; equal to `neurons.cuba` by test."""

from typing import Any, NamedTuple

from torch import Tensor

from spiking_lfp.kernels.cpu import lif, recursions
from spiking_lfp.kernels.cpu.recursions import States, per_neuron
from spiking_lfp.kernels.cpu.vectors import Value, Writer
from spiking_lfp.neurons import State, Trace
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.neurons.cuba import CubaLIFNeuron
from spiking_lfp.rules import Epsilon


class Constants(NamedTuple):
    """As `lif.Constants`, and `alpha`, the part of the current that is kept."""

    alpha: Any
    beta: Any
    threshold: Any
    drop: Any
    zero: Any

    @property
    def states(self) -> int:
        """Membrane and current."""
        return 2

    @property
    def membrane(self) -> lif.Constants:
        """What the membrane does with the current."""
        return lif.Constants(self.beta, self.threshold, self.drop, self.zero)

    def forward(self, v: Writer, before: States, current: Value) -> tuple[States, Value]:
        """Take a step on."""
        current = self.alpha * before[1] + current
        (membrane,), spike = self.membrane.forward(v, before[:1], current)
        return (membrane, current), spike

    def feedback_epsilon(
        self, v: Writer, before: States, after: States, spike_feedback: Value, carried: States, epsilon: Value
    ) -> tuple[Value, States]:
        """Take a step back."""
        part, (on_membrane,) = self.membrane.feedback_epsilon(
            v, before[:1], after[:1], spike_feedback, carried[:1], epsilon
        )
        kept, current = self.alpha * before[1], after[1]
        feedback = current * part + carried[1]
        signed = v.where(current > 0, feedback, v.where(current == 0, 0, feedback * -1))
        q = signed / (abs(kept) + abs(current - kept) + epsilon)
        return q, (on_membrane, kept * q)


def constants(neuron: CubaLIFNeuron, like: Tensor) -> Constants:
    """Return the constants of the neurons of `like` `[B, *n]`."""
    (alpha,) = per_neuron(like, neuron.alpha)
    return Constants(alpha, *lif.constants(neuron, like))


def forward(neuron: CubaLIFNeuron, current: Tensor, steps: int, initial: State | None) -> tuple[Tensor, State, Trace]:
    """`CubaLIFNeuron.forward` for float32 and float64."""
    return recursions.run(neuron, constants(neuron, current[0]), current, steps, initial)


def feedback_epsilon(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Epsilon,
    summed: bool,
    sums: SumsBySign | None,
) -> tuple[Q, State]:
    """`CubaLIFNeuron.feedback` with the rule `Epsilon`, for float32 and float64."""
    assert isinstance(trace.neuron, CubaLIFNeuron)
    given = constants(trace.neuron, trace.record[0])
    return recursions.run_back(trace, given, spike_feedback, final_feedback, rule.epsilon, summed)
