"""Runs networks in the C99 runtime: exports, compiles and runs them as a user would."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from spiking_lfp.deploy.formats.c import unsupported, write_c
from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.layers import Array
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import check_inputs
from spiking_lfp.errors import ExportError, UsageError


@dataclass(frozen=True)
class CRuntime:
    """Runs networks in C.

    Attributes:
        flags: of the compiler.
    """

    flags: tuple[str, ...] = ("-O2",)

    def missing(self) -> str | None:
        """Return that a C compiler is needed, or None if there is one."""
        if compiler() is None:
            return "a C compiler is needed: cc, gcc, or the command that the environment variable CC names"
        return None

    def unsupported(self, network: IntegerNetwork) -> str | None:
        """Return which layer the runtime does not support and why, or None."""
        return unsupported(network)

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Export, compile and run a network, and return the spikes of every spiking layer.

        Args:
            network: for which `unsupported` returned None.
            inputs: as `simulator.simulate` takes them.

        Returns:
            uint8 `[T, N, *out_shape]` by layer name; int32, membranes, of a layer that does not fire.

        Raises:
            ExportError: if network or inputs are not valid, there is no compiler, or a tool fails.
        """
        inputs = check_inputs(network.check(), inputs).astype(np.uint8)
        found = compiler()
        if found is None:
            raise ExportError(self.missing())
        constant = network.encoder == "constant"
        steps = network.steps if constant else len(inputs)
        with TemporaryDirectory(prefix="spiking-lfp-") as temporary:
            folder = Path(temporary)
            write_c(network, folder)
            command = (*found, "-std=c99", *self.flags)
            (folder / "slfp.o").write_bytes(_compiled_runtime(command))
            _call([*command, "-o", "run", "run.c", "slfp.o"], folder)
            (folder / "inputs").write_bytes((inputs if constant else inputs.swapaxes(0, 1)).tobytes())
            with (folder / "inputs").open("rb") as source, (folder / "spikes").open("wb") as sink:
                _call([str(folder / "run"), str(steps)], folder, source.fileno(), sink.fileno())
            return _spikes(network, folder / "spikes", inputs.shape[0 if constant else 1], steps)


def compiler() -> list[str] | None:
    """Return the command of the C compiler, or None if there is none.

    Raises:
        UsageError: if `$CC` is no command.
    """
    given = os.environ.get("CC", "")
    try:
        named = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"the variable CC is {given!r}, expected a command such as gcc: {error}") from None
    for words in [named] if named else [["cc"], ["gcc"]]:
        if shutil.which(words[0]) is not None:
            return words
    return None


@lru_cache(maxsize=8)
def _compiled_runtime(command: tuple[str, ...]) -> bytes:
    """Return the object file of what is the same for every network."""
    with TemporaryDirectory(prefix="spiking-lfp-") as temporary:
        folder = Path(temporary)
        for name in ("slfp.h", "slfp.c"):
            (folder / name).write_bytes(hardware_file("runtime_c", name))
        _call([*command, "-c", "slfp.c"], folder)
        return (folder / "slfp.o").read_bytes()


def _call(command: Sequence[str], folder: Path, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE) -> None:
    done = subprocess.run(command, cwd=folder, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise ExportError(f"{Path(command[0]).name} failed with {done.returncode}: {' '.join(last) or 'no message'}")


def _spikes(network: IntegerNetwork, file: Path, samples: int, steps: int) -> dict[str, Array]:
    """Return the spikes that `run` wrote, by layer, from bytes `[N, T, neurons]`; of membranes four bytes each."""
    kinds = {layer.name: np.dtype("u1" if layer.neuron.spiking else "<i4") for layer in network.spiking}
    width = sum(layer.neurons * kinds[layer.name].itemsize for layer in network.spiking)
    if file.stat().st_size != samples * steps * width:
        raise ExportError(f"the C runtime wrote {file.stat().st_size} bytes, expected {samples * steps * width}")
    # mapped, not read: it is as large as the result
    every = np.memmap(file, np.uint8, "r", shape=(samples, steps, width))
    spikes: dict[str, Array] = {}
    low = 0
    for layer in network.spiking:
        kind = kinds[layer.name]
        high = low + layer.neurons * kind.itemsize
        part = np.array(every[:, :, low:high].swapaxes(0, 1)).view(kind)
        spikes[layer.name] = part.astype(kind.newbyteorder("=")).reshape(steps, samples, *layer.out_shape)
        low = high
    return spikes
