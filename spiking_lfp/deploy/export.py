"""From a trained network to files for hardware, in one call."""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf, nextafter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.arguments import as_integer, as_names, as_path, check_choice, describe
from spiking_lfp.data import ArraySplit, ImageSplit, SequenceSplit, Split
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.own import array_split
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.spec import SIGNALS, VALUES, DataSpec
from spiking_lfp.deploy.formats import c as c_format
from spiking_lfp.deploy.formats import fpga
from spiking_lfp.deploy.formats.nir import READERS
from spiking_lfp.deploy.load import run_or_network
from spiking_lfp.deploy.model import IntegerNetwork, as_integers
from spiking_lfp.deploy.predict import NOTE, note_of
from spiking_lfp.deploy.quantize import QuantisationReport, checked_settings, quantize
from spiking_lfp.deploy.scaled_inputs import SCALED, fold_normalisation
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError, UsageError, WriteError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers.arithmetic import ARITHMETICS
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.execution import LEVELS
from spiking_lfp.nn.noise import noise_of
from spiking_lfp.training import Run, samples_for
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.own import check_classes, dtype_of, spec_for

GOLDEN_SAMPLES = 4
# files of formats; the folders of others are called as these
FILES = {"artifact": "net.h5", "nir": "net.nir", "netx": "net.net", "xylo": "xylo.json"}
Writer = Callable[[IntegerNetwork, Path], Path]
# arguments of writers in their sentences, and those of `export`
_ARGUMENTS = {"dynamics_in_metadata=True": "nir_metadata=True", "early_bias=True": "netx_early_bias=True"}
# what a network is not always, and what to do about an option that needs it
_REAL, _WITHOUT_RUN, _DATA_BY_NAME = "real numbers", "no run", "data by name"
_REMEDIES = {
    _REAL: "the network is in integers already, as it stays: leave out {}, or give the run that it was made from",
    _WITHOUT_RUN: "the run has its own: leave out {}",
    _DATA_BY_NAME: "no data set is loaded by name: leave out {}",
}
# what each option needs, of these or a format; without it the option would change nothing, and is refused
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("calibration", "bits", "scale", "per_channel", "reset", "arithmetic", "samples"), (_REAL,)),
    **dict.fromkeys(("steps", "class_names"), (_REAL, _WITHOUT_RUN)),
    "data_root": (_REAL, _DATA_BY_NAME),
    **dict.fromkeys(("nir_for", "nir_metadata"), ("nir",)),
    "netx_early_bias": ("netx",),
    "lanes": ("verilog",),
    **{f"board={name}": ("c",) for name in c_format.BOARDS},
    **{f"board={name}": ("verilog",) for name in fpga.BOARDS},
}


@dataclass(frozen=True)
class Exported:
    """What an export has made.

    Attributes:
        network: the integer network, with a golden run.
        report: the effect of the quantisation; None of a network that was in integers before.
        files: files and folders by format.
        refused: why a format cannot hold the network, or which package it needs, by format.
    """

    network: IntegerNetwork = field(repr=False)  # thousands of lines of numbers
    report: QuantisationReport | None = field(repr=False)
    files: dict[str, Path]
    refused: dict[str, str]


def export(
    network: nn.Module | Run | IntegerNetwork | str | Path,
    calibration: Any = None,
    *,
    steps: int | None = None,
    out: str | Path = "out",
    to: str | Sequence[str] = ("artifact",),
    class_names: Sequence[str] = (),
    bits: int | None = None,
    scale: str | None = None,
    per_channel: bool = False,
    reset: str | None = None,
    arithmetic: str | None = None,
    samples: int | None = None,
    nir_for: str | None = None,
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
            formats only. An option that would change nothing is refused.
        calibration: a pair (values, class indices) of training samples, as for `fit`, sequences of one length; None
            for those of a run whose data have a name or a path.
        steps: T, of a network without a run whose values are shown for some time; None for sequences `[N, T, ...]`.
        out: folder to write to.
        to: formats, or one, of "artifact" (`net.h5`), "nir", "netx", "c", "arduino" and "zephyr" (C as their
            libraries), "verilog", "xylo" (its configuration).
        class_names: of a network without a run.
        bits: of a weight, 2..8; if None those of the training in integers, else 8.
        scale: see `quantize`, `per_channel` and `reset`, too.
        arithmetic: "default" or "xylo"; if None that of the training in integers, else the default.
        samples: how many samples are used for the calibration at most; None for 500.
        nir_for: package for which a NIR graph is written; None for "snntorch", which is for all that run NIR's
            equations.
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
        UsageError: for unknown names, options that would change nothing, and missing samples for the calibration.
        DataError: if these cannot be read, or labels and outputs do not fit.

    Warns:
        UserWarning: if without `steps` the samples of a network without a run are sequences of one step.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> exported = export(network, (torch.rand(9, 4), [0, 1, 2] * 3), steps=10, to=["artifact", "c"], bits=4)
        >>> [file.name for file in exported.files.values()]
        ['net.h5', 'c']
    """
    folder, formats = as_path(out, "out"), list(dict.fromkeys(as_names(to, "to")))
    class_names = as_names(class_names, "class_names")
    data_root = None if data_root is None else as_path(data_root, "data_root")
    for what, value, known in (
        ("board", board, (*c_format.BOARDS, *fpga.BOARDS)),
        ("reader of NIR", nir_for, READERS),
        ("arithmetic", arithmetic, ARITHMETICS),
    ):
        if value is not None:
            check_choice(what, value, known)
    bits = checked_settings(bits, scale, reset)
    steps, samples, lanes = (
        None if value is None else as_integer(value, name, 1, most)
        for name, value, most in (("steps", steps, None), ("samples", samples, None), ("lanes", lanes, 64))
    )
    writers = _writers(nir_for or "snntorch", nir_metadata, netx_early_bias, board, lanes)
    if not formats:
        raise UsageError(f"to is empty: name a format to write, of {', '.join(writers)}")
    for name in formats:
        check_choice("format", name, writers)
    if isinstance(network, str | Path):
        network = run_or_network(network, "cpu")
    if not isinstance(network, IntegerNetwork | Run | nn.Module):
        raise UsageError(
            f"network is {describe(network)}, expected a network of layers, a run or its folder, or an integer "
            "network, its file or name"
        )
    options = {
        "calibration": calibration, "steps": steps, "class_names": class_names or None, "bits": bits, "scale": scale,
        "per_channel": per_channel or None, "reset": reset, "arithmetic": arithmetic, "samples": samples,
        "nir_for": nir_for, "nir_metadata": nir_metadata or None, "netx_early_bias": netx_early_bias or None,
        f"board={board}": board, "lanes": lanes, "data_root": data_root,
    }  # fmt: skip
    is_run = isinstance(network, Run)
    there = {_REAL: not isinstance(network, IntegerNetwork), _WITHOUT_RUN: not is_run}
    there |= {_DATA_BY_NAME: is_run and calibration is None}
    given = [name for name, value in options.items() if value is not None]
    _check_used(given, [*formats, *(need for need, has in there.items() if has)])
    if isinstance(network, IntegerNetwork):
        return Exported(network, None, *_write(network, formats, writers, folder))
    run = network
    module = run.network if isinstance(run, Run) else run
    split, golden, config, data = _samples(run, calibration, steps, class_names, data_root)
    inputs, labels, shown = network_inputs(split, 500 if samples is None else samples)
    chosen: Any = {"scale": scale, "reset": reset, "arithmetic": arithmetic and ARITHMETICS[arithmetic]}
    span = (0.0, 1.0)
    if shown and data.mean:
        seen = constant(inputs[:1].to(dtype_of(module)) / LEVELS, config.steps)
        module = fold_normalisation(module, data.mean, data.deviation, seen)
    elif inputs.is_floating_point():
        span, chosen["levels"] = span_of(inputs), LEVELS
        low, width = span[0], span[1] - span[0]
        channels = inputs.shape[2]
        scaled = [-low / width] * channels, [1 / width] * channels
        module = fold_normalisation(module, *scaled, inputs[:, :1], SCALED)
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
    return Exported(integers, report, *_write(integers, formats, writers, folder))


def _check_used(given: Sequence[str], there: Collection[str]) -> None:
    """Raise a UsageError that names options, of those `given`, that would change nothing with what there is."""
    lacking = {option: next((need for need in NEEDS[option] if need not in there), None) for option in given}
    for need in filter(None, lacking.values()):
        unused = " and ".join(option for option in given if lacking[option] == need)
        remedy = _REMEDIES.get(need, f"no format {need} is written: leave out {{}}, or add the format {need}")
        raise UsageError(remedy.format(unused))


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
            before = out / FILES.get(name, name)
            if before.exists():
                refused[name] += f"; {before} is still that of an export before"
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
        if run.config.encoding == OWN:
            raise UsageError(
                "the run was trained with an encoder given in Python: give export the run's network, and what the "
                "encoder makes of training samples as sequences [N, T, ...], with their labels"
            )
        if calibration is None:
            if run.config.data == OWN:
                raise UsageError(
                    "the run was trained on data given in Python: give export a pair (values, labels) of training "
                    "samples in Python, too"
                )
            found = samples_for(run.config, data_root)
            return found.train, found.test, run.config, run.data
        split = _of_equal_length(calibration, run.reader.encoder)
        check_classes(split.labels, run.data.classes, "calibration")
        return split, split, run.config, run.data
    if calibration is None:
        raise UsageError("calibration is None: give a pair (values, labels) of training samples")
    dtype = dtype_of(run)
    encoder = Encoder("sequence", 0, dtype=dtype) if steps is None else Encoder("constant", steps, dtype=dtype)
    split = _of_equal_length(calibration, encoder)
    x = split.batch(torch.arange(1))[0]
    if steps is None and len(x) == 1:
        warnings.warn(
            f"the calibration [N, {', '.join(map(str, split.values.shape[1:]))}] is taken for sequences [N, T, ...] of "
            "one step: give steps if these are values to be shown for some time, as in fit",
            stacklevel=3,
        )
    data = spec_for(run, x, class_names, *((SIGNALS, 1) if steps is None else (VALUES, LEVELS)))
    check_classes(split.labels, data.classes, "calibration")
    # of sequences, steps would be bins that new ones are brought to
    settings = {"data": OWN, "network": OWN, "steps": steps or 0, "encoding": encoder.name}
    return split, split, TrainConfig.model_validate(settings), data


def _of_equal_length(calibration: Any, encoder: Callable[[Tensor], Tensor]) -> ArraySplit:
    split = array_split(calibration, encoder, "calibration")
    if split.lengths is not None:  # their padding would count as steps
        raise UsageError(
            f"calibration has sequences of {int(split.lengths.min())} to {int(split.lengths.max())} steps, hardware "
            "runs as many for each: give sequences cut or padded to one length"
        )
    return split


def span_of(sequences: Tensor) -> tuple[float, float]:
    """Return the real values for which the least and the largest integer of a sequence are to stand.

    Numbers of events are integers as they are; of others it is the range of the samples.
    """
    low, high = float(sequences.min()), float(sequences.max())
    if low >= 0 and high <= LEVELS and bool((sequences == sequences.round()).all()):
        return 0.0, float(LEVELS)
    # of samples that are all the same, one beside it: beyond 2^53 a step of 1 is none
    return low, high if high > low else max(low + 1, nextafter(low, inf))


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
    with noise_of(spread):  # the spikes that `evaluate` draws
        x, labels = split.batch(spread)
    spikes = not (isinstance(split, SequenceSplit) and not split.binary) and bool(((x == 0) | (x == 1)).all())
    return x.byte() if spikes else x, labels, False


def _writers(
    nir_for: str, nir_metadata: bool, netx_early_bias: bool, board: str | None, lanes: int | None
) -> dict[str, Writer]:
    def artifact(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.artifact import save_network

        with EXPORTS.making(folder):
            save_network(network, folder / FILES["artifact"])
        return folder / FILES["artifact"]

    def nir(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.nir import write_nir

        with EXPORTS.making(folder):
            write_nir(network, folder / FILES["nir"], reader=nir_for, dynamics_in_metadata=nir_metadata)
        return folder / FILES["nir"]

    def netx(network: IntegerNetwork, folder: Path) -> Path:
        from spiking_lfp.deploy.formats.netx import write_netx

        with EXPORTS.making(folder):
            write_netx(network, folder / FILES["netx"], netx_early_bias)
        return folder / FILES["netx"]

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
            write_xylo(network, folder / FILES["xylo"])
        return folder / FILES["xylo"]

    found = (artifact, nir, netx, c, arduino, zephyr, verilog, xylo)
    return {writer.__name__: writer for writer in found}
