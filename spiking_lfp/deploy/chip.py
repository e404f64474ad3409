"""The description of a chip: its limits, its arithmetic, its backends, and what they need.

This module and the files in `chips` need the standard library only: `hardware/install.sh` reads them before anything is
installed, and every `--help` does.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset

if TYPE_CHECKING:
    from spiking_lfp.deploy.layers import Array
    from spiking_lfp.deploy.model import IntegerNetwork

# least and most
Range = tuple[int, int]


@runtime_checkable
class Backend(Protocol):
    """Runs integer networks outside the simulator of this package."""

    def missing(self) -> str | None:
        """Return what has to be installed before this can run, or None."""

    def unsupported(self, network: "IntegerNetwork") -> str | None:
        """Return why this cannot run `network`, or None."""

    def run(self, network: "IntegerNetwork", inputs: "Array") -> "dict[str, Array]":
        """Run samples, with all states at 0 before each, and return the spikes of every spiking layer that ran there.

        Args:
            network: for which `unsupported` returned None.
            inputs: as `simulator.simulate` takes them.

        Returns:
            uint8 `[T, N, *out_shape]` by layer name. A backend without analogue inputs leaves out the first layer of a
            network with constant encoding, and takes that layer's spikes from the simulator.

        Raises:
            ExportError: if the tool fails, with the end of its error message.
        """


@dataclass(frozen=True)
class Environment:
    """A Python environment for packages that cannot be installed beside this one; `hardware/install.sh` makes it.

    Attributes:
        name: of its folder below `.outside`.
        distribution: the package that it is for.
        requirements: what pip installs there.
        no_deps: what pip installs there without its dependencies, because its metadata are wrong.
    """

    name: str
    distribution: str
    requirements: tuple[str, ...]
    no_deps: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable with its Python."""
        return f"SPIKING_LFP_{self.name.upper().replace('-', '_')}_PYTHON"

    @property
    def install(self) -> str:
        """The commands that make it, in a folder `ENV`."""
        pip = "ENV/bin/pip install"
        steps = ["python3 -m venv ENV"]
        if self.no_deps:
            steps.append(f"{pip} --ignore-requires-python --no-deps {shlex.join(self.no_deps)}")
        return " && ".join([*steps, f"{pip} {shlex.join(self.requirements)}"])

    def python(self, title: str) -> str:
        """Return the Python that has the package: this one, or that of the environment.

        Raises:
            ExportError: that says how to install `title`.
        """
        try:
            version(self.distribution)
        except PackageNotFoundError:
            python = os.environ.get(self.variable)
        else:
            return sys.executable
        if not python:
            raise ExportError(f"{title} is not installed: {self.install}, then set {self.variable}=ENV/bin/python")
        if not _has(python, self.distribution):
            raise ExportError(f"{self.variable}={python} cannot run or has no {self.distribution}: {self.install}")
        return python


@cache
def _has(python: str, distribution: str) -> bool:
    """Return whether the package is installed for this Python."""
    code = f"from importlib.metadata import version; version({distribution!r})"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class SynapseMemory:
    """Synapse memory of a core in bits, and what one synapse takes."""

    bits: int
    bits_per_synapse: int


@dataclass(frozen=True)
class Cores:
    """The cores of a chip, each of which holds neurons of one layer only; None is no limit.

    Attributes:
        count: number of cores.
        neurons: how many a core holds.
        synapse_memory: of a core.
        input_axons: how many different inputs a core takes.
    """

    count: int | None = None
    neurons: int | None = None
    synapse_memory: SynapseMemory | None = None
    input_axons: int | None = None


@dataclass(frozen=True)
class Memory:
    """One memory for everything, in bits.

    Attributes:
        bits: size.
        bits_per_membrane: of each neuron, kept from step to step.
        bits_per_accumulator: of each neuron of the largest layer; and of the first one, if its inputs are constant.
        bits_per_output: bias and threshold of each output.
        bits_per_spike: of each input, neuron and pooled output.
        bits_per_pixel: of each analogue input, instead of a spike.
    """

    bits: int
    bits_per_membrane: int
    bits_per_accumulator: int
    bits_per_output: int
    bits_per_spike: int
    bits_per_pixel: int


@dataclass(frozen=True)
class Populations:
    """A chip with one population of hidden neurons, which alone sees the inputs, and one of outputs behind it.

    Attributes:
        inputs: input channels.
        hidden: hidden neurons, all layers but the last.
        outputs: neurons of the last layer.
        fan_out: how many hidden neurons a hidden neuron reaches.
        synapses: among hidden neurons.
    """

    inputs: int
    hidden: int
    outputs: int
    fan_out: int
    synapses: int


@dataclass(frozen=True)
class Limits:
    """What a chip can hold; None is no limit. What a network takes of cores and memory is a lower bound.

    Attributes:
        analogue: whether the inputs of the first layer may be integers instead of spikes.
        resets: that its neurons have.
        decay: of a neuron.
        current_decay: of the synaptic current of a neuron.
        theta: threshold of a neuron, in weight units.
        bias: of a neuron, in weight units.
        frac_bits: of a layer.
        weight_bits: of a weight.
        pooling_neurons: whether max pooling takes a neuron for each output, and a synapse for each pixel of its window.
        cores: of the chip.
        synapses: of the whole network.
        populations: of the chip, if it has no cores.
        memory: of the chip.
    """

    analogue: bool = True
    resets: tuple[IntegerReset, ...] | None = None
    decay: Range | None = None
    current_decay: Range | None = None
    theta: Range | None = None
    bias: Range | None = None
    frac_bits: Range | None = None
    weight_bits: Range | None = None
    pooling_neurons: bool = False
    cores: Cores = Cores()
    synapses: int | None = None
    populations: Populations | None = None
    memory: Memory | None = None


@dataclass(frozen=True)
class Chip:
    """A piece of hardware, or a simulator of one. Each is a file in `chips`, which has its name.

    Attributes:
        title: for messages and tables.
        limits: None if only its backends know them.
        arithmetic: of its neurons, None for any.
        neuron: which kind it has.
        own_decays: whether neurons of a layer may have different decays.
        backends: factories of the backends that compute as it does, by name.
        programs: that its backends call, with the Debian package of each.
        environments: that its backends need.
    """

    title: str
    limits: Limits | None = None
    arithmetic: Arithmetic | None = DEFAULT
    neuron: type[IntegerNeuron] = IntegerLIF
    own_decays: bool = False
    backends: Mapping[str, Callable[[], Backend]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
