"""From a trained network to files for hardware, in one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.data import ArraySplit, ImageSplit, SequenceSplit, Split
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.own import array_split
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.spec import SIGNALS, VALUES, DataSpec
from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.conversion import CALIBRATION_METHODS
from spiking_lfp.deploy.formats import c as c_format
from spiking_lfp.deploy.formats import fpga
from spiking_lfp.deploy.formats.nir import READERS
from spiking_lfp.deploy.model import IntegerNetwork, as_integers
from spiking_lfp.deploy.predict import NOTE, note_of
from spiking_lfp.deploy.pretrained import network_path
from spiking_lfp.deploy.quantize import QuantisationReport, quantize
from spiking_lfp.deploy.scaled_inputs import fold_normalisation
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError, UsageError, WriteError, unknown_name
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers.arithmetic import ARITHMETICS, INTEGER_RESETS
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.execution import LEVELS
from spiking_lfp.training import Run, load_run, samples_for
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.loop import evaluation_mode
from spiking_lfp.training.own import dtype_of

GOLDEN_SAMPLES = 4
Writer = Callable[[IntegerNetwork, Path], Path]
# arguments of writers in their sentences, and those of `export`
_ARGUMENTS = {"dynamics_in_metadata=True": "nir_metadata=True", "early_bias=True": "netx_early_bias=True"}


@dataclass(frozen=True)
class Exported:
    """What an export has made.

    Attributes:
        network: the integer network, with a golden run.
        report: the effect of the quantisation; None of a network that was in integers before.
        files: files and folders by format.
        refused: why a format cannot hold the network, or which package it needs, by format.
    """

    network: IntegerNetwork
    report: QuantisationReport | None
    files: dict[str, Path]
    refused: dict[str, str]


def export(
    network: nn.Module | Run | IntegerNetwork | str | Path,
    calibration: Any = None,
    *,
    steps: int | None = None,
    out: str | Path = "out",
    to: Sequence[str] = ("artifact",),
    class_names: Sequence[str] = (),
    bits: int | None = None,
    scale: str | None = None,
    per_channel: bool = False,
    reset: str | None = None,
    arithmetic: str | None = None,
    samples: int = 500,
    nir_for: str = "snntorch",
    nir_metadata: bool = False,
    netx_early_bias: bool = False,
    board: str | None = None,
    lanes: int | None = None,
    data_root: str | Path | None = None,
) -> Exported:
    """Quantise a trained network, and write it as artifact, NIR, netx, C, a library of it, Verilog or for a Xylo.

    Args:
        network: a run or its folder; or a network of layers with an integer form, see `quantize`. An integer network,
            its file or the name of one in the package is written as it is: it takes `out`, `to` and what is about
            formats only.
        calibration: a pair (values, labels) of training samples, as for `fit`; None for those of a run whose data
            have a name or a path.
        steps: T, of a network without a run whose values are shown for some time; None for sequences `[N, T, ...]`.
        out: folder to write to.
        to: formats, of "artifact" (`net.h5`), "nir", "netx", "c", "arduino" and "zephyr" (C as their libraries),
            "verilog", "xylo" (its configuration).
        class_names: of a network without a run.
        bits: of a weight, 2..8; if None those of the training in integers, else 8.
        scale: see `quantize`, `per_channel` and `reset`, too.
        arithmetic: "default" or "xylo"; if None that of the training in integers, else the default.
        samples: how many samples are used for the calibration at most.
        nir_for: package for which a NIR graph is written; "snntorch" is for all that run NIR's equations.
        nir_metadata: allow NIR graphs whose exact dynamics are in metadata.
        netx_early_bias: allow biases in netx, which Lava adds before the first inputs arrive.
        board: "cortex-m4", "cortex-m0" or "rv32": adds to C what programs on this bare board need; `make board` runs
            the golden run in qemu. "icebreaker", "hx8k-breakout" or "ulx3s-85f": adds to Verilog what this FPGA board
            needs; `make` makes its bitstream.
        lanes: neurons that the Verilog core computes in parallel, 1..64; None for 8, or what is fastest on the board.
        data_root: folder of the data sets by name.

    Returns:
        The integer network, and what was written; a format that cannot hold the network is among the refused.

    Raises:
        ExportError: for what integers cannot represent, if no format can hold the network, or a file cannot be written.
        UsageError: for unknown names, and if samples for the calibration are missing.
        DataError: if they cannot be read.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> exported = export(network, (torch.rand(9, 4), [0, 1, 2] * 3), steps=10, to=["artifact", "c"], bits=4)
        >>> [file.name for file in exported.files.values()]
        ['net.h5', 'c']
    """
    formats = list(dict.fromkeys(to))
    if board is not None and board not in (*c_format.BOARDS, *fpga.BOARDS):
        raise unknown_name("board", board, (*c_format.BOARDS, *fpga.BOARDS))
    writers = _writers(nir_for, nir_metadata, netx_early_bias, board, lanes)
    for name in formats:
        if name not in writers:
            raise unknown_name("format", name, writers)
    if board in c_format.BOARDS and "c" not in formats:
        raise UsageError(f"board={board} is for programs in C: add the format c")
    if board in fpga.BOARDS and "verilog" not in formats:
        raise UsageError(f"board={board} is for Verilog: add the format verilog")
    if lanes is not None and "verilog" not in formats:
        raise UsageError(f"lanes={lanes} is for Verilog: add the format verilog")
    _one_of("reader of NIR", nir_for, tuple(READERS))
    _one_of("scale", scale, CALIBRATION_METHODS)
    _one_of("reset", reset, INTEGER_RESETS)
    _one_of("arithmetic", arithmetic, tuple(ARITHMETICS))
    if bits is not None and not 2 <= bits <= 8:
        raise UsageError(f"bits must be 2..8, found {bits}")
    if isinstance(network, str | Path):
        path = network_path(network)
        network = load_network(path) if path.is_file() else load_run(path, "cpu")
    if isinstance(network, IntegerNetwork):
        asked = (class_names, bits, scale, per_channel, reset, arithmetic)
        if calibration is not None or steps is not None or any(asked):
            raise UsageError(
                "the network is in integers already, as it stays: leave out calibration, steps, class_names, bits, "
                "scale, per_channel, reset and arithmetic, or give the run that it was made from"
            )
        return Exported(network, None, *_write(network, formats, writers, Path(out)))
    run = network
    module = run.network if isinstance(run, Run) else run
    split, golden, config, data = _samples(run, calibration, steps, class_names, data_root)
    inputs, labels, shown = network_inputs(split, samples)
    chosen: Any = {"scale": scale, "reset": reset, "arithmetic": arithmetic and ARITHMETICS[arithmetic]}
    span = (0.0, 1.0)
    if shown and data.mean:
        seen = constant(inputs[:1].to(dtype_of(module)) / LEVELS, config.steps)
        module = fold_normalisation(module, data.mean, data.deviation, seen)
    elif inputs.is_floating_point():
        span, chosen["levels"] = span_of(inputs), LEVELS
        low, width = span[0], span[1] - span[0]
        channels = inputs.shape[2]
        module = fold_normalisation(module, [-low / width] * channels, [1 / width] * channels, inputs[:, :1])
        inputs = torch.from_numpy(as_integers(inputs.double(), span, LEVELS))
    names = tuple(data.class_names) or tuple(map(str, range(data.classes)))
    integers, report = quantize(
        module, inputs, labels, config.steps if shown else None, names, bits, per_channel=per_channel, **chosen
    )
    integers = replace(integers, span=span)
    integers.notes["name"] = f"{config.preset} on {config.data}"
    integers.notes["data"] = config.data
    integers.notes["recipe"] = config.recipe.model_dump_json()
    integers.notes[NOTE] = note_of(config.recipe, config.inputs, data)
    first = network_inputs(golden, GOLDEN_SAMPLES)[0]
    shown_first = integers.integers(first.double()) if integers.encoder == "sequence" else first.numpy()
    integers = with_golden_run(integers, shown_first)
    return Exported(integers, report, *_write(integers, formats, writers, Path(out)))


def _write(
    network: IntegerNetwork, formats: Sequence[str], writers: dict[str, Writer], out: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files that were written, and why others were not, by format.

    Raises:
        WriteError: if a file cannot be written; the other formats are tried before.
        ExportError: if no format can hold the network.
    """
    files: dict[str, Path] = {}
    refused: dict[str, str] = {}
    unwritten: WriteError | None = None
    for name in formats:
        try:
            files[name] = writers[name](network if name == "artifact" else network.without_readout(), out)
        except WriteError as error:
            unwritten = unwritten or error
        except ExportError as error:
            refused[name] = str(error)
            for theirs, ours in _ARGUMENTS.items():
                refused[name] = refused[name].replace(theirs, ours)
    if unwritten is not None:
        raise unwritten
    if not files:
        raise ExportError("; ".join(f"{name}: {reason}" for name, reason in refused.items()))
    return files, refused


def _samples(
    run: Run | nn.Module, calibration: Any, steps: int | None, class_names: Sequence[str], data_root: Any
) -> tuple[Split, Split, TrainConfig, DataSpec]:
    """Return samples for the calibration and for the golden run, the settings, and what the network takes."""
    if isinstance(run, Run):
        if steps is not None or class_names:
            raise UsageError("steps and class_names are those of the run: leave them out")
        if calibration is None:
            found = samples_for(run.config, data_root)
            return found.train, found.test, run.config, run.data
        split = array_split(calibration, run.reader.encoder, "calibration")
        return split, split, run.config, run.data
    if calibration is None:
        raise UsageError("calibration is None: give a pair (values, labels) of training samples")
    dtype = dtype_of(run)
    encoder = Encoder("sequence", 0, dtype=dtype) if steps is None else Encoder("constant", steps, dtype=dtype)
    split = array_split(calibration, encoder, "calibration")
    x = split.batch(torch.arange(1))[0]
    with torch.no_grad(), evaluation_mode(run):
        classes = run(x).shape[2]
    names = list(map(str, class_names)) or [str(index) for index in range(classes)]
    if len(names) != classes:
        raise UsageError(f"there are {len(names)} class_names, the network has {classes} outputs: give one for each")
    kind, levels = (SIGNALS, 1) if steps is None else (VALUES, LEVELS)
    settings = {"data": OWN, "network": OWN, "steps": steps or len(x), "encoding": encoder.name}
    data = DataSpec(list(x.shape[2:]), classes, names, kind=kind, levels=levels)
    return split, split, TrainConfig.model_validate(settings), data


def span_of(sequences: Tensor) -> tuple[float, float]:
    """Return the real values for which the least and the largest integer of a sequence are to stand.

    Numbers of events are integers as they are; of others it is the range of the samples.
    """
    low, high = float(sequences.min()), float(sequences.max())
    if low >= 0 and high <= LEVELS and bool((sequences == sequences.round()).all()):
        return 0.0, float(LEVELS)
    return low, high if high > low else low + 1


def network_inputs(split: Split, count: int) -> tuple[Tensor, Tensor, bool]:
    """Return samples for an integer network, their labels, and whether they are shown for T steps.

    They are spread evenly over the split, since many data sets have their samples sorted by class. Those that are shown
    are uint8, and not normalised: that is folded into the network. Sequences `[T, N, ...]` are uint8 if they are
    spikes, 0 or 1, else real, and `IntegerNetwork.integers` makes integers of them.

    Raises:
        ExportError: for values that are to be shown, and are not numbers from 0 to 1.
    """
    count = min(count, len(split))
    spread = torch.arange(count) * len(split) // max(count, 1)
    encoder = getattr(split, "encoder", None)
    if isinstance(split, ImageSplit | ArraySplit) and isinstance(encoder, Encoder) and encoder.name == "constant":
        if encoder.neurons:
            raise ExportError(
                "inputs are encoded in neurons, integer hardware takes pixels: train without encoding_neurons"
            )
        values = (split.images if isinstance(split, ImageSplit) else split.values)[spread]
        if values.dtype != torch.uint8:
            if bool(((values < 0) | (values > 1)).any()):
                raise ExportError("inputs go beyond 0 to 1, integer hardware takes pixels: scale them to 0 to 1")
            values = (values * 255).round().to(torch.uint8)
        return values, split.labels[spread], True
    x, labels = split.batch(spread)
    spikes = not (isinstance(split, SequenceSplit) and not split.binary) and bool(((x == 0) | (x == 1)).all())
    return x.byte() if spikes else x, labels, False


def _writers(
    nir_for: str, nir_metadata: bool, netx_early_bias: bool, board: str | None, lanes: int | None
) -> dict[str, Writer]:
    def artifact(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.artifact import save_network

        with EXPORTS.making(folder):
            save_network(network, folder / "net.h5")
        return folder / "net.h5"

    def nir(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.nir import write_nir

        with EXPORTS.making(folder):
            write_nir(network, folder / "net.nir", reader=nir_for, dynamics_in_metadata=nir_metadata)
        return folder / "net.nir"

    def netx(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.netx import write_netx

        with EXPORTS.making(folder):
            write_netx(network, folder / "net.net", netx_early_bias)
        return folder / "net.net"

    def c(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.c import write_c

        write_c(network, folder / "c", board if board in c_format.BOARDS else None)
        return folder / "c"

    def verilog(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.verilog import write_verilog

        if board in fpga.BOARDS:
            fpga.write_board(network, folder / "verilog", board, lanes)
        else:
            write_verilog(network, folder / "verilog", 8 if lanes is None else lanes)
        return folder / "verilog"

    def arduino(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.c_libraries import write_arduino

        write_arduino(network, folder / "arduino")
        return folder / "arduino"

    def zephyr(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.c_libraries import write_zephyr

        write_zephyr(network, folder / "zephyr")
        return folder / "zephyr"

    def xylo(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.xylo import write_xylo

        with EXPORTS.making(folder):
            write_xylo(network, folder / "xylo.json")
        return folder / "xylo.json"

    found = (artifact, nir, netx, c, arduino, zephyr, verilog, xylo)
    return {writer.__name__: writer for writer in found}


def _one_of(what: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise unknown_name(what, value, known)
