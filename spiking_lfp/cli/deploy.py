"""The commands for networks on hardware: networks, export, convert, check, simulate, verify, report, conformance."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from spiking_lfp.cli.console import DataRoot, err, fail, out, refuse_unused
from spiking_lfp.deploy.chips import backends, chips, targets
from spiking_lfp.deploy.pretrained import FOLDER, network_path
from spiking_lfp.errors import ExportError, UsageError, some
from spiking_lfp.integers.arithmetic import ARITHMETICS

if TYPE_CHECKING:
    from spiking_lfp.deploy.costs import Costs
    from spiking_lfp.deploy.layers import Array
    from spiking_lfp.deploy.model import IntegerNetwork
    from spiking_lfp.deploy.quantize import QuantisationReport
    from spiking_lfp.deploy.verify import Agreement

NETWORK = "An exported network, net.h5, or the name of one in the package: see `spiking-lfp networks`."
NetworkFile = Annotated[Path, typer.Argument(help=NETWORK, callback=network_path)]
Samples = Annotated[int | None, typer.Option(help="Number of test samples.", show_default="all")]
Data = Annotated[str | None, typer.Option(help="Data set.", show_default="the golden run in the file")]
GOLDEN_SAMPLES = 4
_NO_DATA = "no data set is named with --data"
# chips whose name is not that of a backend
_SEVERAL = ", ".join(name for name, chip in chips().items() if chip.backends and name not in chip.backends)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (networks, export, convert, check, simulate, verify, report, conformance):
        app.command()(command)


def networks(
    name: Annotated[str | None, typer.Argument(help="Network whose card is shown.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="All cards as Markdown.")] = False,
) -> None:
    """List the trained networks in the package, or show the card of one: data, settings, accuracy, energy, licence."""
    from spiking_lfp.deploy import pretrained

    if as_markdown:
        if name is not None:
            raise UsageError(f"--markdown prints all cards: leave out {name}")
        out.print(pretrained.markdown(), highlight=False, soft_wrap=True, end="")
    elif name is not None:
        card = pretrained.card(name)
        columns = Column(no_wrap=True), Column(overflow="fold")
        table = Table(*columns, box=None, show_header=False, title=card.title, title_justify="left")
        for key, text in pretrained.rows(name):
            table.add_row(key, text)
        out.print(table)
    else:
        table = Table(Column("network", no_wrap=True), "what it is", "accuracy", "energy")
        for each in pretrained.network_names():
            card = pretrained.card(each)
            table.add_row(each, card.title, f"{card.results.accuracy:.2%}", f"{card.results.energy_45nm:,.0f} nJ")
        out.print(table)
        out.print(
            "accuracy on all test samples; energy of an inference, an estimate for 45 nm\n"
            "take a name where a file is asked for: spiking-lfp export NAME --to c",
            highlight=False,
        )


def export(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run of the command train. Or a network in integers, net.h5 or the name of one in the "
            "package, for other formats.",
            callback=network_path,
        ),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="[FORMAT]...", help="Further formats after --to.")] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(help="artifact (net.h5), nir, netx, c, arduino, zephyr, verilog, xylo.", show_default="artifact"),
    ] = None,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("out"),
    bits: Annotated[
        int | None,
        typer.Option(help="Bits of a weight, 2..8.", show_default="those of the training in integers, else 8"),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="max, percentile, mean or search.", show_default="that of the training in integers, else search"
        ),
    ] = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="A scale for every output.")] = False,
    reset: Annotated[
        str | None, typer.Option(help="zero, subtract or subtract_decayed.", show_default="that of the training")
    ] = None,
    arithmetic: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(ARITHMETICS)}.", show_default="that of the training in integers, else default"),
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(help="Number of training samples for calibration.", min=1, show_default="500")
    ] = None,
    nir_for: Annotated[
        str | None,
        typer.Option(
            help="With --to nir: package that reads the graph: norse, snntorch, spikingjelly, spyx; see docs/nir.md.",
            show_default="snntorch",
        ),
    ] = None,
    nir_metadata: Annotated[
        bool, typer.Option("--nir-metadata", help="With --to nir: allow graphs whose exact dynamics are in metadata.")
    ] = False,
    netx_early_bias: Annotated[
        bool,
        typer.Option("--netx-early-bias", help="With --to netx: allow biases, which Lava adds before inputs arrive."),
    ] = False,
    board: Annotated[
        str | None,
        typer.Option(
            help="With --to c: cortex-m4, cortex-m0 or rv32, a bare board; with --to verilog: icebreaker, "
            "hx8k-breakout or ulx3s-85f, a board with an FPGA; see hardware/README.md."
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            help="With --to verilog: neurons computed in parallel, 1..64.",
            show_default="8, or what is fastest on the board",
        ),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Quantise a trained network and write it as artifact, NIR, netx, C, a library of it, Verilog or for a Xylo.

    Options that would change nothing are refused.

    spiking-lfp export runs/mnist-mlp --bits 8 --to artifact c verilog -o out/
    """
    from spiking_lfp.deploy.export import export as export_network

    try:
        made = export_network(
            run,
            out=folder,
            to=[*(to or ["artifact"]), *(more or [])],
            bits=bits,
            scale=scale,
            per_channel=per_channel,
            reset=reset,
            arithmetic=arithmetic,
            samples=calibration,
            nir_for=nir_for,
            nir_metadata=nir_metadata,
            netx_early_bias=netx_early_bias,
            board=board,
            lanes=lanes,
            data_root=data_root,
        )
    except (ExportError, UsageError) as error:
        raise type(error)(_with_options(str(error))) from None
    if made.report is not None:
        for table in _quantisation(made.report):
            out.print(table)
    for name, reason in made.refused.items():
        err.print(f"{name}: {_with_options(reason)}", style="yellow", highlight=False, soft_wrap=True)
    for name, written in made.files.items():
        apart = name != "artifact" and made.network.readout is not None
        without = ", without the readout, which runs on the host" if apart else ""
        out.print(f"{name}: {written}{without}", highlight=False, soft_wrap=True)
    if made.refused:
        fail("not every format was written, for the reasons above; the others were", 1)


def _with_options(reason: str) -> str:
    """Return a sentence with options in place of arguments, as `--nir-metadata` for `nir_metadata=True`."""
    reason = re.sub(r"\b([a-z_]+)=True\b", lambda found: _option(found[1]), reason)
    # names of options that are to be left out
    return re.sub(r"(?<=leave out )[\w=-]+(?: and [\w=-]+)*", lambda found: _option(found[0]), reason)


def _option(words: str) -> str:
    """Return arguments of `export` as options of the command: `--lanes and --board rv32`."""
    called = {"samples": "calibration"}
    found = (word.partition("=") for word in words.split(" and "))
    return " and ".join(f"--{called.get(name, name).replace('_', '-')} {value}".strip() for name, _, value in found)


def convert(
    files: Annotated[list[Path], typer.Argument(help="Files as in training, or folders of these.")],
    network_file: Annotated[
        Path,
        typer.Option("--for", help="The network that takes them: net.h5, or a name.", callback=network_path),
    ],
    path: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("samples.bin"),
) -> None:
    """Convert files to the inputs of an exported network, for its C program `classify` and for chips.

    spiking-lfp convert new1.png new2.png --for out/net.h5 -o samples.bin && out/c/classify < samples.bin
    """
    from spiking_lfp.deploy.artifact import load_network
    from spiking_lfp.deploy.predict import convert_files
    from spiking_lfp.files import EXPORTS

    names, content = convert_files(load_network(network_file), files)
    EXPORTS.write(path, content)
    for number, name in enumerate(names):
        out.print(f"{number}  {name}", highlight=False, soft_wrap=True)
    out.print(f"{len(names):,} samples, {len(content):,} bytes: {path}", highlight=False, soft_wrap=True)


def check(
    network_file: NetworkFile,
    target: Annotated[str | None, typer.Option(help=f"{', '.join(targets())}.", show_default="all")] = None,
) -> None:
    """Check whether an exported network fits a chip, with the reasons if not: exit code 0 or 1.

    spiking-lfp check out/net.h5 --target loihi
    """
    from spiking_lfp.deploy.artifact import load_network
    from spiking_lfp.deploy.check import check as compare

    network = load_network(network_file)
    if target is not None:
        reasons = compare(network, target)
        for reason in reasons:
            out.print(reason, highlight=False, soft_wrap=True)
        if reasons:
            fail(f"the network does not fit {target}", 1)
        out.print(f"the network fits {target}", highlight=False)
        return
    table = Table("target", "", "fits", "reasons")
    for name, chip in targets().items():
        reasons = compare(network, name)
        table.add_row(name, chip.title, "no" if reasons else "yes", "\n".join(reasons))
    out.print(table)


def simulate(
    network_file: NetworkFile,
    data: Data = None,
    samples: Samples = None,
    data_root: DataRoot = None,
) -> None:
    """Run an exported network in the integer simulator: accuracy, spikes, synaptic operations, estimates of energy.

    spiking-lfp simulate mnist-mlp-int8 --data mnist-subset
    """
    from time import perf_counter

    from spiking_lfp.deploy import costs, simulator
    from spiking_lfp.deploy.artifact import load_network

    network = load_network(network_file)
    inputs, labels = _inputs(network, data, samples, data_root)
    started = perf_counter()
    outcome = simulator.simulate(network, inputs)
    seconds = perf_counter() - started
    if labels is not None:
        accuracy = (outcome.predictions == labels).mean()
        out.print(Text.assemble((f"accuracy {accuracy:.2%}", "bold"), f" on {len(labels)} samples of {data}"))
    count = len(outcome.counts)
    out.print(f"{count} samples in {seconds:.1f} s, {count / seconds:.0f} a second", highlight=False)
    saturated = {name: line.saturated for name, line in outcome.counters.items()}
    for table in _costs(costs.costs(network, outcome), saturated):
        out.print(table)
    sources = f"{costs.ADD.source}; {costs.LOIHI_SYNOP.source}"
    out.print(f"energies are estimates, from figures of single operations: {sources}", highlight=False)


def verify(
    network_file: NetworkFile,
    more: Annotated[list[str] | None, typer.Argument(metavar="[BACKEND]...", help="Further ones after --with.")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help=f"{', '.join(backends())}; or a chip, for its backends: {_SEVERAL}.", show_default="c"
        ),
    ] = None,
    data: Data = None,
    samples: Samples = None,
    data_root: DataRoot = None,
) -> None:
    """Compare an exported network bit for bit, layer by layer, with C, Verilog and other simulators.

    The exit code is 0 if every name was compared, a chip with one of its backends at least, and all spikes are equal.

    spiking-lfp verify out/net.h5 --with sanafe brian2-loihi c verilog
    """
    from spiking_lfp.deploy.artifact import load_network
    from spiking_lfp.deploy.verify import verify as compare

    network = load_network(network_file)
    inputs, _ = _inputs(network, data, samples, data_root)
    wanted = [*(names or ["c"]), *(more or [])]
    agreements = compare(network, inputs, _backends(wanted))
    out.print(_agreement(agreements))
    _all_agree(wanted, agreements)


def report(
    network_file: NetworkFile,
    more: Annotated[list[str] | None, typer.Argument(metavar="[BACKEND]...", help="Further ones after --with.")] = None,
    names: Annotated[list[str] | None, typer.Option("--with", help="Backends to compare with: see verify.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set.", show_default="that of the training; with --live the golden run")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of test samples.", show_default="1000; with --live 20")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The page.",
            show_default="report.html or live.html beside the network, or here for one in the package",
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="A page in which the network runs, on drawings, files and samples.")
    ] = False,
    data_root: DataRoot = None,
) -> None:
    """Write one HTML page about an exported network: layers, spikes, confusion, energy, quantisation, agreement.

    The exit code is as that of verify if there is --with.

    spiking-lfp report mnist-mlp-int8 --live
    """
    from spiking_lfp.data.recipes import OWN
    from spiking_lfp.deploy.artifact import load_network
    from spiking_lfp.deploy.report import write_report
    from spiking_lfp.deploy.verify import verify as compare

    network = load_network(network_file)
    name = "live.html" if live else "report.html"
    if page is None:
        page = Path(name) if network_file.parent == FOLDER else network_file.with_name(name)
    if live:
        if names or more:
            raise UsageError("--live runs the network in the page, and compares with no backend: leave out --with")
        _write_live(page, network, data, samples, data_root)
        out.print(str(page), highlight=False, soft_wrap=True)
        return
    data = data or network.notes.get("data")
    if data in (None, OWN):
        raise UsageError("the file names no data set that could be loaded: name one with --data")
    inputs, labels = _inputs(network, data, 1000 if samples is None else samples, data_root)
    assert labels is not None
    wanted = [*(names or []), *(more or [])]
    few = inputs[:GOLDEN_SAMPLES] if network.encoder == "constant" else inputs[:, :GOLDEN_SAMPLES]
    agreements = compare(network, few, _backends(wanted)) if wanted else ()
    write_report(page, network, inputs, labels, agreements)
    out.print(str(page), highlight=False, soft_wrap=True)
    _all_agree(wanted, agreements)


def _write_live(
    page: Path, network: "IntegerNetwork", data: str | None, samples: int | None, data_root: Path | None
) -> None:
    """Write the page in which a network runs, with its golden run, or samples of a data set."""
    from spiking_lfp.deploy.live import write_live
    from spiking_lfp.deploy.simulator import with_golden_run

    if data is None and samples is None:
        refuse_unused(_NO_DATA, data_root=data_root)
        write_live(page, network)
        return
    inputs, labels = _inputs(network, data, 20 if samples is None else samples, data_root)
    write_live(page, with_golden_run(network, inputs), () if labels is None else labels.tolist())


def conformance(
    nir_readers: Annotated[
        bool, typer.Option("--nir-readers", help="Print what each package makes of NIR graphs only, as Markdown.")
    ] = False,
) -> None:
    """Convert networks to and from the installed versions of other packages and NIR, and compare their spikes."""
    from spiking_lfp.deploy.conformance import conformance as run
    from spiking_lfp.deploy.conformance import readers_table

    rows = run()
    if nir_readers:
        out.print(readers_table(rows), highlight=False, soft_wrap=True, end="")
    else:
        table = Table("package", "case", "spikes", "different", "verdict", "reason")
        for row in rows:
            table.add_row(row.package, row.case, f"{row.spikes:,}", str(row.different), row.verdict, row.reason)
        out.print(table)
    if not all(row.passed for row in rows):
        fail("not every conversion gives equal spikes", 1)
    if not any(row.compared for row in rows):
        fail("nothing was compared: none of the other packages is installed", 1)


def _inputs(
    network: "IntegerNetwork", data: str | None, samples: int | None, data_root: Path | None
) -> tuple["Array", "Array | None"]:
    """Return test samples of a data set with their labels, or the inputs of the golden run."""
    from spiking_lfp.data import EventRecipe, load_samples
    from spiking_lfp.deploy.export import network_inputs
    from spiking_lfp.deploy.predict import NOTE, reader_of
    from spiking_lfp.training.results import as_trained

    if samples is not None and samples < 1:
        raise UsageError(f"samples must be at least 1, found {samples}")
    if data is not None:
        if NOTE in network.notes:
            reader = reader_of(network)
            found = load_samples(data, reader.recipe, reader.inputs, data_root, sensor=reader.data.sensor_shape)
            split = as_trained(found, reader.data).test
        else:
            recipe = EventRecipe.model_validate_json(network.notes.get("recipe", "{}"))
            split = load_samples(data, recipe, root=data_root).test
        inputs, labels, _ = network_inputs(split, len(split) if samples is None else samples)
        return network.integers(inputs) if network.encoder == "sequence" else inputs.numpy(), labels.numpy()
    refuse_unused(_NO_DATA, data_root=data_root)
    if network.golden is None:
        raise UsageError("the file holds no golden run: name a data set with --data")
    recorded, axis = network.golden.inputs, 0 if network.encoder == "constant" else 1
    if samples is not None and samples > recorded.shape[axis]:
        raise UsageError(
            f"the golden run in the file has {recorded.shape[axis]} samples, found --samples {samples}: name a data "
            "set with --data"
        )
    return (recorded[:samples] if axis == 0 else recorded[:, :samples]), None


def _all_agree(wanted: Sequence[str], agreements: Sequence["Agreement"]) -> None:
    """Exit with 1 unless each name was compared, a chip with one of its backends at least, and all spikes are equal."""
    if any(line.failed or line.different for line in agreements):
        fail("not every layer agrees", 1)
    silent = list(dict.fromkeys(line.layer for line in agreements if line.layer is not None and not line.agrees))
    if silent:
        fail(f"nothing was compared of {some(silent)}, silent for these inputs: give others with --data", 1)
    ran = {line.backend for line in agreements if line.layer is not None}
    idle = [name for name in dict.fromkeys(wanted) if ran.isdisjoint(_backends([name]))]
    if idle:
        missing = ", ".join(idle)
        fail(f"nothing was compared with {missing}: the table says why; install it, or name others in --with", 1)


def _backends(names: Sequence[str]) -> list[str]:
    """Return backends by their names or the names of their chips."""
    several = {name: chip.backends for name, chip in chips().items() if chip.backends}
    every = (several.get(name, (name,)) for name in names)
    return list(dict.fromkeys(single for some in every for single in some))


def _quantisation(report: "QuantisationReport") -> Iterator[Table]:
    weights = Table("layer", "bits", "scale", "weight error", "clipped", "saturated", title="quantised weights")
    spikes = Table(
        "layer", "spikes before", "after", "differ", "accuracy so far", title=f"{report.samples} calibration samples"
    )
    first, *steps = report.accuracy
    spikes.add_row(first.step, "", "", "", f"{first.accuracy:.2%}")
    for layer, step in zip(report.layers, steps, strict=True):
        low, high = f"{layer.scale_min:.3g}", f"{layer.scale_max:.3g}"
        scale = low if low == high else f"{low}..{high}"
        errors = f"{layer.weight_error:.2%}", f"{layer.clipped:.2%}", f"{layer.saturated:,}"
        weights.add_row(layer.name, str(layer.bits), scale, *errors)
        rates = (f"{share:.2%}" for share in (layer.rate_float, layer.rate_integer, layer.disagreement))
        spikes.add_row(layer.name, *rates, f"{step.accuracy:.2%}")
    yield weights
    yield spikes


def _costs(found: "Costs", saturated: dict[str, int]) -> Iterator[Table]:
    operations = Table("layer", "neurons", "spikes", "SynOps", "MACs", "neuron updates", title="per inference")
    sizes = Table("layer", "sparsity", "bytes", "saturated", "45 nm", "Loihi", title="per inference")
    for line in (*found.layers, found.total):
        counts = line.neurons, line.spikes, line.synops, line.macs, line.updates
        operations.add_row(line.name, *(f"{count:,.0f}" for count in counts))
        overflows = saturated.get(line.name, sum(saturated.values())) / found.samples
        energies = ("" if pj is None else f"{pj / 1000:,.1f} nJ" for pj in (line.energy_45nm, line.energy_loihi))
        sizes.add_row(line.name, f"{line.sparsity:.2%}", f"{line.footprint.total:,}", f"{overflows:,.1f}", *energies)
    yield operations
    yield sizes


def _agreement(lines: Sequence["Agreement"]) -> Table:
    table = Table("backend", "layer", "spikes", "compared", "different", "")
    for line in lines:
        if line.layer is None:
            table.add_row(line.backend, "", "", "", "", f"not run: {line.reason}")
            continue
        verdict = Text("equal" if line.agrees else "no spikes to compare" if line.different == 0 else "different")
        if line.different and not line.agrees:
            verdict.stylize("red")
        counts = (f"{count:,}" for count in (line.spikes, line.compared, line.different))
        table.add_row(line.backend, line.layer, *counts, verdict)
    return table
