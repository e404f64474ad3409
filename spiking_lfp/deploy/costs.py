"""What an inference costs on hardware: operations counted by the simulator, memory, and an estimate of energy.

Energy is the number of operations times published figures of single operations. It leaves out clock, leakage,
communication between cores, and input, so it compares networks, but does not predict the power of a chip. Operations:

45 nm, a plain digital core with memories of 8 kB whose words have 64 bits (Horowitz 2014):

    synaptic operation    `bits / 64` of a read, for the weight; one addition
    multiply-accumulate   the same, and one 8-bit multiplication
    neuron update         every state, mostly the membrane only, read and written, its bits each; bias and threshold
                          read, 32 bits each, and decays that outputs have of their own; a multiplication for the leak
                          of each state; 3 additions: current, comparison, reset, and one for each further state

Additions of 24 bits count as those of 32; a write counts as a read.

Loihi (Davies 2018): every synaptic operation at the minimum energy, and every neuron update as an active one. Loihi
takes spikes only: a layer whose inputs may be larger than 1, images or sums of spikes, has no energy there. The
additions of `Add` and pooling are left out.
"""

from dataclasses import dataclass
from math import fsum, nan
from typing import NamedTuple

from spiking_lfp.deploy.layers import Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import Outcome
from spiking_lfp.errors import ExportError

_WORD_BITS = 64

_HOROWITZ = "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014: 45 nm, 0.9 V"
_DAVIES = "M. Davies et al., Loihi: a neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), 2018"


class Energy(NamedTuple):
    """A published energy of one operation, and its source."""

    name: str
    picojoules: float
    source: str


class UnitEnergies(NamedTuple):
    """Estimates for one operation of a layer, in picojoules.

    Attributes:
        operation: a synaptic operation, or a multiply-accumulate.
        update: of a neuron in a step.
    """

    operation: float
    update: float


ADD = Energy("int32 addition", 0.1, _HOROWITZ)
MULTIPLY_8 = Energy("int8 multiplication", 0.2, _HOROWITZ)
MULTIPLY_32 = Energy("int32 multiplication", 3.1, _HOROWITZ)
READ = Energy("64-bit word read from an 8 kB SRAM", 10.0, _HOROWITZ)
LOIHI_SYNOP = Energy("synaptic operation on Loihi, minimum", 23.6, _DAVIES)
LOIHI_UPDATE = Energy("active neuron update on Loihi", 81.0, _DAVIES)
ENERGIES: tuple[Energy, ...] = (ADD, MULTIPLY_8, MULTIPLY_32, READ, LOIHI_SYNOP, LOIHI_UPDATE)


@dataclass(frozen=True)
class Footprint:
    """Memory that a layer needs, in bytes, rounded up.

    Attributes:
        weights: at the layer's `bits` each, packed.
        biases: 4 bytes for each output.
        thresholds: 4 bytes for each output.
        membranes: `membrane_bits` for each neuron, and as many for each of its other states.
        decays: 4 bytes for each that an output has of its own; none where a layer has one for all.
    """

    weights: int
    biases: int
    thresholds: int
    membranes: int
    decays: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.biases + self.thresholds + self.membranes + self.decays


@dataclass(frozen=True)
class Cost:
    """Cost of one inference of a layer, or of the whole network, averaged over the samples.

    Attributes:
        name: of the layer; "total" for all.
        neurons: number of neurons.
        spikes: of its neurons.
        synops: synaptic operations, additions of a weight: input spikes times their fan-out.
        macs: multiply-accumulates, in place of `synops`, where inputs may be larger than 1: inputs that are not zero
            times their fan-out, in every step. Images are constant, so hardware that keeps the sums does those of one
            step.
        updates: neurons times steps.
        sparsity: fraction of `updates` without a spike, 0..1; nan if there were no updates.
        footprint: memory.
        energy_45nm: estimate in picojoules for a plain 45 nm core; see the head of this module.
        energy_loihi: estimate in picojoules for Loihi; None for a layer that does not run there. The total leaves such
            a layer out.
    """

    name: str
    neurons: int
    spikes: float
    synops: float
    macs: float
    updates: float
    sparsity: float
    footprint: Footprint
    energy_45nm: float
    energy_loihi: float | None


@dataclass(frozen=True)
class Costs:
    """Cost of one inference, layer by layer.

    Attributes:
        layers: of all spiking layers, in the order in which they run.
        total: the sum.
        samples: over how many samples it is averaged.
    """

    layers: tuple[Cost, ...]
    total: Cost
    samples: int


def costs(network: IntegerNetwork, outcome: Outcome) -> Costs:
    """Return the cost of one inference of `network`, from a simulation of samples.

    Args:
        network: what was simulated.
        outcome: what `simulator.simulate` returned for it.

    Raises:
        ExportError: if the outcome is of another network, or of no samples.
    """
    samples = len(outcome.counts)
    names = [layer.name for layer in network.spiking]
    if samples < 1 or set(outcome.counters) != set(names):
        raise ExportError(
            f"an outcome of {samples} samples with layers {', '.join(outcome.counters) or 'none'} was given, expected "
            f"one of layers {', '.join(names)}: simulate this network first"
        )
    lines = []
    for layer, inputs in network.with_inputs():
        if not isinstance(layer, Spiking):
            continue
        counted = outcome.counters[layer.name]
        spikes, operations, updates = (count / samples for count in (counted.spikes, counted.synops, counted.updates))
        analogue = inputs[0].largest > 1
        own = counted.recurrent / samples
        synops, macs = (own, operations - own) if analogue else (operations, 0.0)
        (core, loihi), (spike, _) = unit_energies(layer, analogue), unit_energies(layer, analogue=False)
        lines.append(
            Cost(
                layer.name,
                layer.neurons,
                spikes,
                synops,
                macs,
                updates,
                _sparsity(spikes, updates),
                footprint(layer),
                operations * core.operation - own * (core.operation - spike.operation) + updates * core.update,
                None if loihi is None else operations * loihi.operation + updates * loihi.update,
            )
        )
    return Costs(tuple(lines), _total(lines), samples)


def footprint(layer: Spiking) -> Footprint:
    """Return the memory that a layer needs."""
    return Footprint(
        -(-layer.weights * layer.bits // 8),
        4 * layer.outputs,
        4 * layer.outputs if layer.neuron.spiking else 0,
        -(-layer.neurons * _state_bits(layer) // 8),
        4 * layer.outputs * len(layer.neuron.differing_decays),
    )


def _state_bits(layer: Spiking) -> int:
    return len(layer.neuron.states) * layer.neuron.arithmetic.membrane_bits


def _total(lines: list[Cost]) -> Cost:
    spikes, updates = fsum(line.spikes for line in lines), fsum(line.updates for line in lines)
    on_loihi = [line.energy_loihi for line in lines if line.energy_loihi is not None]
    return Cost(
        "total",
        sum(line.neurons for line in lines),
        spikes,
        fsum(line.synops for line in lines),
        fsum(line.macs for line in lines),
        updates,
        _sparsity(spikes, updates),
        Footprint(
            sum(line.footprint.weights for line in lines),
            sum(line.footprint.biases for line in lines),
            sum(line.footprint.thresholds for line in lines),
            sum(line.footprint.membranes for line in lines),
            sum(line.footprint.decays for line in lines),
        ),
        fsum(line.energy_45nm for line in lines),
        fsum(on_loihi) if on_loihi else None,
    )


def _sparsity(spikes: float, updates: float) -> float:
    return 1 - spikes / updates if updates else nan


def unit_energies(layer: Spiking, analogue: bool) -> tuple[UnitEnergies, UnitEnergies | None]:
    """Return the energies of single operations of a layer on a plain 45 nm core, and on Loihi if it runs there.

    Args:
        layer: with neurons.
        analogue: whether its inputs may be larger than 1.
    """
    weight = READ.picojoules * layer.bits / _WORD_BITS + ADD.picojoules
    constants = 2 + len(layer.neuron.differing_decays)
    state = READ.picojoules * (2 * _state_bits(layer) + constants * 32) / _WORD_BITS
    states = len(layer.neuron.states)
    core = UnitEnergies(
        weight + MULTIPLY_8.picojoules if analogue else weight,
        state + states * MULTIPLY_32.picojoules + (2 + states) * ADD.picojoules,
    )
    return core, None if analogue else UnitEnergies(LOIHI_SYNOP.picojoules, LOIHI_UPDATE.picojoules)
