"""The Verilog core, simulated by Icarus Verilog and by Verilator, and synthesised by yosys.

Icarus compiles the core for each network, which is fast. Verilator compiles a large core once, which is kept in the
user's cache: other networks only need other memories. For networks that do not fit it compiles a larger one.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import platformdirs

from spiking_lfp.deploy.formats import verilog
from spiking_lfp.deploy.formats.verilog import ADDS, SOURCES, TESTBENCHES, Core
from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.layers import Array
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import check_inputs
from spiking_lfp.errors import ExportError

# depths, in words, of the memories of the core that is cached; deeper ones are the next power of two
DEPTHS = {
    "table_words": 2**10,
    "weight_words": 2**18,
    "channel_words": 2**14,
    "neuron_words": 2**13,
    "membrane_words": 2**16,
    "acc_words": 2**16,
    "spike_words": 2**17,
    "pixel_words": 2**18,
    "list_words": 2**17,
}
# cells of the iCE40 family by kind of resource
RESOURCES = {
    "luts": ("SB_LUT4",),
    "flip_flops": ("SB_DFF",),
    "carries": ("SB_CARRY",),
    "block_rams": ("SB_RAM40_4K", "SB_SPRAM256KA"),
    "multipliers": ("SB_MAC16",),
}


@dataclass(frozen=True, eq=False)
class CoreRun:
    """Result of running the core.

    Attributes:
        spikes: uint8 `[T, N, *out_shape]` by layer.
        cycles: clock cycles of each sample, without loading its inputs, int64 `[N]`.
    """

    spikes: dict[str, Array]
    cycles: Array


@dataclass(frozen=True)
class VerilogCore:
    """Runs networks in the core, simulated by Icarus or Verilator.

    Attributes:
        name: of the backend.
        programs: that it calls, with the Debian package of each.
        lanes: neurons computed in parallel, 1..64; spikes do not depend on it.
        adds: weights that each lane adds in a cycle; neither do they depend on this.
    """

    name: str
    programs: Mapping[str, str]
    lanes: int
    adds: int = max(ADDS)

    def missing(self) -> str | None:
        """Return which program is missing and its package, or None."""
        for program in self.programs:
            if shutil.which(program) is None:
                packages = " ".join(dict.fromkeys(self.programs.values()))
                return f"{program} is not installed: apt-get install {packages}"
        return None

    def unsupported(self, network: IntegerNetwork) -> str | None:
        """Return what exceeds the limits of the core, with the number, or None."""
        return verilog.unsupported(network)

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Run samples, with all states at 0 before each.

        Args:
            network: for which `unsupported` returns None.
            inputs: as `simulate` takes them.

        Returns:
            The spikes of every spiking layer, uint8 `[T, N, *out_shape]` by name.

        Raises:
            ExportError: if the network or its inputs do not fit, or a tool is missing or fails.
        """
        return self.measure(network, inputs).spikes

    def measure(self, network: IntegerNetwork, inputs: Array) -> CoreRun:
        """Run samples like `run`, and count the cycles of each."""
        inputs = check_inputs(network.check(), inputs)
        constant = network.encoder == "constant"
        steps, samples = (network.steps, len(inputs)) if constant else inputs.shape[:2]
        if steps > verilog.MAX_STEPS:
            raise ExportError(f"{steps} steps, the core counts to {verilog.MAX_STEPS}")
        missing = self.missing()
        if missing is not None:
            raise ExportError(missing)
        memories = verilog.layout(network, self.lanes, self.adds)
        with TemporaryDirectory(prefix="spiking-lfp-") as temporary:
            folder = Path(temporary)
            if self.name == "icarus":
                core, command = memories.core, ["vvp", "-n", "slfp_tb.vvp"]
            else:
                core = _large_core(memories.core)
                command = [str(_verilated(core))]
            for name, content in memories.files(core).items():
                (folder / name).write_bytes(content)
            (folder / "inputs.hex").write_bytes(verilog.input_lines(network, inputs, self.lanes))
            if self.name == "icarus":
                _copy(core, folder)
                _call(["iverilog", "-g2005", "-I.", "-o", "slfp_tb.vvp", "slfp_tb.v", *SOURCES], folder)
            words = verilog.input_words(network, self.lanes)
            message = _call([*command, f"+samples={samples}", f"+steps={steps}", f"+words={words}"], folder)
            cycles = np.array((folder / "cycles.txt").read_text().split(), np.int64)
            if len(cycles) != samples:
                raise ExportError(f"the core ran {len(cycles)} of {samples} samples: {message or 'no message'}")
            lines = (folder / "spikes.hex").read_bytes()
        return CoreRun(verilog.read_spikes(network, lines, steps, samples, self.lanes), cycles)


def synthesise(network: IntegerNetwork, folder: str | Path, lanes: int = 1, adds: int | None = None) -> dict[str, int]:
    """Write the core with the memories of a small network, and let yosys count the resources of an iCE40 FPGA.

    Args:
        network: with weights that fit into an FPGA.
        folder: for the files, as `write_verilog` leaves them, and yosys's report `resources.txt`.
        lanes: neurons computed in parallel.
        adds: weights that each lane adds in a cycle; None for the most that help.

    Returns:
        luts, flip_flops, carries, block_rams (of 4 kbit) and multipliers.

    Raises:
        ExportError: if the network does not fit, yosys is missing, or it fails.
    """
    folder = Path(folder)
    for program, package in (("yosys", "yosys"), ("make", "make")):
        if shutil.which(program) is None:
            raise ExportError(f"{program} is not installed: apt-get install {package}")
    verilog.write_verilog(network, folder, lanes, adds)
    _call(["make", "synth"], folder)
    try:
        design = json.loads((folder / "resources.json").read_text())["design"]
        cells = {str(cell): int(count) for cell, count in design["num_cells_by_type"].items()}
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"yosys wrote a report that cannot be read: {error!r}") from error
    return {
        what: sum(count for cell, count in cells.items() if cell.startswith(starts))
        for what, starts in RESOURCES.items()
    }


def _large_core(core: Core) -> Core:
    """Return a core whose memories are large enough for many networks, and for this one."""
    depths = {name: max(depth, 1 << (getattr(core, name) - 1).bit_length()) for name, depth in DEPTHS.items()}
    addr = max(24, max(depths.values()).bit_length())
    return replace(core, weight_bits=8, addr=addr, dim=16, **depths)


def _verilated(core: Core) -> Path:
    """Return the program that Verilator made of `core`, compiled now if it is not in the cache."""
    rtl = hardware_folder("rtl")
    digest = hashlib.sha256(core.text().encode())
    for name in (*SOURCES, *TESTBENCHES):
        digest.update((rtl / name).read_bytes())
    digest.update(_call(["verilator", "--version"], rtl).encode())
    root = Path(platformdirs.user_cache_dir("spiking_lfp")) / "verilator"
    finished = root / digest.hexdigest()[:24]
    program = finished / "Vslfp_core"
    if program.is_file():
        return program
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix="build-", dir=root))
    except OSError as error:
        raise ExportError(f"cannot write to {root}: {error}") from error
    try:
        _copy(core, folder)
        _call(
            [
                "verilator", "--cc", "--exe", "--build", "-Wall", "-O3", "--x-assign", "fast", "--x-initial", "fast",
                "-I.", "-CFLAGS", f"-DSLFP_LANES={core.lanes}", "-MAKEFLAGS", "OPT_FAST=-O2", "--Mdir", ".",
                "--top-module", "slfp_core", "slfp_main.cpp", *SOURCES,
            ],
            folder,
        )  # fmt: skip
        # another process may have been faster: its program is the same
        if not program.is_file():
            try:
                folder.rename(finished)
            except OSError:
                if not program.is_file():
                    raise
    except OSError as error:
        raise ExportError(f"cannot write to {root}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return program


def _copy(core: Core, folder: Path) -> None:
    rtl = hardware_folder("rtl")
    for name in (*SOURCES, *TESTBENCHES):
        shutil.copyfile(rtl / name, folder / name)
    (folder / "parameters.vh").write_text(core.text())


def _call(command: Sequence[str], folder: Path) -> str:
    """Run a program and return what it printed, or raise an ExportError with the end of its error message."""
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise ExportError(f"{Path(command[0]).name} failed with {done.returncode}: {' '.join(last) or 'no message'}")
    return done.stdout.strip()
