"""What a chip is: its limits, its arithmetic, what runs its networks here, and what that needs.

Python's own library is enough for this, and for the files in `chips`: `hardware/install.sh` reads them before anything
is installed, and every `--help`.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset

if TYPE_CHECKING:
    from spiking_lfp.deploy.model import Array, IntegerNetwork

# least and most
Range = tuple[int, int]


@runtime_checkable
class Backend(Protocol):
    """Runs integer networks somewhere else."""

    def missing(self) -> str | None:
        """Say what has to be installed before this can run, or return None."""

    def refusal(self, network: "IntegerNetwork") -> str | None:
        """Say what in `network` cannot be represented there, or return None."""

    def run(self, network: "IntegerNetwork", inputs: "Array") -> "dict[str, Array]":
        """Run samples from rest and return the spikes of every spiking layer that ran there.

        Args:
            network: that `refusal` did not refuse.
            inputs: as `simulator.simulate` takes them.

        Returns:
            uint8 `[T, N, *out_shape]` by layer name. A backend without analogue inputs leaves out the first layer of a
            network with constant encoding, and takes that layer's spikes from the simulator.

        Raises:
            ExportError: if the tool fails, with its own last words.
        """


@dataclass(frozen=True)
class Environment:
    """A Python environment for packages that do not live beside ours; `hardware/install.sh` makes it.

    Attributes:
        name: of its folder below `.outside`.
        distribution: the package that it is for.
        requirements: what pip installs there.
        alone: what pip installs there without believing what it says of its own requirements.
    """

    name: str
    distribution: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable with its Python."""
        return f"SPIKING_LFP_{self.name.upper().replace('-', '_')}_PYTHON"

    @property
    def install(self) -> str:
        """The commands that make it, in a folder `ENV`."""
        pip = "ENV/bin/pip install"
        steps = ["python3 -m venv ENV"]
        if self.alone:
            steps.append(f"{pip} --ignore-requires-python --no-deps {shlex.join(self.alone)}")
        return " && ".join([*steps, f"{pip} {shlex.join(self.requirements)}"])


@dataclass(frozen=True)
class SynapseMemory:
    """Of each core, in bits, and what a synapse takes of it."""

    bits: int
    bits_per_synapse: int


@dataclass(frozen=True)
class Cores:
    """How many there are, each for one layer only; None is no limit.

    Attributes:
        count: cores.
        compartments: neurons of a core.
        synapses: memory of a core.
        in_axons: different inputs of a core.
    """

    count: int | None = None
    compartments: int | None = None
    synapses: SynapseMemory | None = None
    in_axons: int | None = None


@dataclass(frozen=True)
class Memory:
    """One memory for everything, in bits.

    Attributes:
        bits: all of it.
        bits_per_membrane: of each neuron, kept from step to step.
        bits_per_accumulator: of each neuron of the largest layer; and of the first one, if its inputs are analogue and
            stay.
        bits_per_output: bias and threshold of each output.
        bits_per_spike: of each input, neuron and pooled output.
        bits_per_pixel: of each analogue input, in place of its spike.
    """

    bits: int
    bits_per_membrane: int
    bits_per_accumulator: int
    bits_per_output: int
    bits_per_spike: int
    bits_per_pixel: int


@dataclass(frozen=True)
class Limits:
    """What a chip can hold; None is no limit. Cores and memory are lower bounds of what a network takes.

    Attributes:
        analogue: whether the first layer may take numbers in place of spikes.
        resets: that its neurons know.
        decay: of a layer.
        theta: of a neuron, in units of the weights.
        bias: likewise.
        frac_bits: of a layer.
        bits: of the weights.
        pooling_neurons: whether a pooled output takes a neuron, and a synapse for each pixel of its window.
        cores: of the chip.
        synapses: of the whole network.
        memory: of the chip.
    """

    analogue: bool = True
    resets: tuple[IntegerReset, ...] | None = None
    decay: Range | None = None
    theta: Range | None = None
    bias: Range | None = None
    frac_bits: Range | None = None
    bits: Range | None = None
    pooling_neurons: bool = False
    cores: Cores = Cores()
    synapses: int | None = None
    memory: Memory | None = None


@dataclass(frozen=True)
class Chip:
    """A piece of hardware, or a simulator of one: each a file in `chips`, whose name is its name.

    Attributes:
        title: what it is, for people.
        limits: None if only its backends know them.
        arithmetic: in which it computes, None for any.
        backends: what runs networks as it does, by name; each is made when it is asked for.
        programs: that its backends call, with the Debian package of each.
        environments: that its backends need.
    """

    title: str
    limits: Limits | None = None
    arithmetic: Arithmetic | None = DEFAULT
    backends: Mapping[str, Callable[[], Backend]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
