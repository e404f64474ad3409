"""Trained networks in the package, by name, each with a card: what it is, how it was made, what it reaches and costs.

A network is `networks/NAME.h5`, an artifact, beside its card `networks/NAME.toml`; `benchmarks/pretrained.py` makes
both.
"""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from spiking_lfp.arguments import describe
from spiking_lfp.errors import RunError, UsageError, unknown_name

FOLDER = Path(__file__).with_name("networks")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataPart(_Part):
    """What a network learned from, and what it was tested on.

    Attributes:
        name: of the data set.
        source: its authors and licence.
        training_samples: from which it learned.
        test_samples: on which all results were measured: all there are.
    """

    name: str
    source: str
    training_samples: int
    test_samples: int


class NetworkPart(_Part):
    """What a network is.

    Attributes:
        layers: in short.
        inputs: shape of one sample, and its values.
        steps: T, time steps of one inference.
        bits: of a weight.
        weights: their number.
        memory: bytes of weights, biases, thresholds and membranes on hardware.
    """

    layers: str
    inputs: str
    steps: int
    bits: int
    weights: int
    memory: int


class TrainingPart(_Part):
    """How a network was made.

    Attributes:
        version: of this package.
        commands: that train and export it.
        seconds: of wall time that the training took, with its tests after every epoch, whatever else the machine did.
        threads: of the training.
    """

    version: str
    commands: tuple[str, ...]
    seconds: float
    threads: int


class ResultPart(_Part):
    """What a network reaches, and what an inference costs, means over the test samples by the integer simulator.

    Attributes:
        accuracy: of the integer network, 0..1.
        real_accuracy: of the network of real numbers it was made from; None if it was trained in integers.
        spikes: of all neurons.
        synops: synaptic operations, additions of a weight.
        macs: multiply-accumulates of a layer whose inputs are analogue.
        energy_45nm: estimate in nanojoules for a plain 45 nm core, see `deploy.costs`.
        energy_loihi: estimate in nanojoules for those layers that run on Loihi, whose inputs are spikes.
    """

    accuracy: float
    real_accuracy: float | None = None
    spikes: float
    synops: float
    macs: float
    energy_45nm: float
    energy_loihi: float


class LicencePart(_Part):
    """On which terms the file of a network may be used and passed on.

    Attributes:
        name: in short.
        url: its text.
        reason: why these terms.
    """

    name: str
    url: str
    reason: str


class Card(_Part):
    """All about a network in the package.

    Attributes:
        title: one line.
        sha256: of the network's file, 64 hexadecimal digits.
    """

    title: str
    sha256: str
    data: DataPart
    network: NetworkPart
    training: TrainingPart
    results: ResultPart
    licence: LicencePart


def network_names() -> list[str]:
    """Return the names of the networks in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def card(name: str) -> Card:
    """Return the card of a network in the package.

    Raises:
        UsageError: for an unknown name, with the nearest.
    """
    if name not in network_names():
        raise unknown_name("network", name, network_names())
    return Card.model_validate(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")))


def network_path(network: str | Path) -> Path:
    """Return a path that exists as it is, else the file of the network in the package that is called so.

    Raises:
        UsageError: if there is no such path, and it looks like a name, without folder and suffix, which is unknown; or
            if it is no path at all.
        RunError: if the system cannot tell whether there is one.

    Example:
        >>> network_path("mnist-mlp-int8").name
        'mnist-mlp-int8.h5'
    """
    try:
        path = Path(network)
        there = path.exists()
    except TypeError:
        raise UsageError(
            f"network is {describe(network)}, expected the folder of a run, an exported network such as out/net.h5, or "
            "the name of one in the package"
        ) from None
    except OSError as error:
        raise RunError(f"cannot read {network}: {error.strerror}; name another path") from None
    if there or path.suffix or path.name != str(path):
        return path
    if path.name not in network_names():
        raise unknown_name("path or network", path.name, network_names())
    return FOLDER / f"{path.name}.h5"


def rows(name: str) -> list[tuple[str, str]]:
    """Return the card of a network as lines of a name and a text."""
    it = card(name)
    net, made, found = it.network, it.training, it.results
    real = "trained in integers" if found.real_accuracy is None else f"{found.real_accuracy:.2%}"
    operations = f"{found.spikes:,.0f} spikes, {found.synops:,.0f} SynOps"
    if found.macs:
        operations += f", {found.macs:,.0f} MACs of the analogue inputs"
    energy = f"{found.energy_45nm:,.0f} nJ on a plain 45 nm core; "
    energy += f"Loihi {found.energy_loihi:,.0f} nJ" + (", without the layer of analogue inputs" if found.macs else "")
    return [
        ("data", f"{it.data.name}: {it.data.source}"),
        ("samples", f"{it.data.training_samples:,} to learn, {it.data.test_samples:,} to test"),
        ("layers", net.layers),
        ("inputs", f"{net.inputs}; T = {net.steps}"),
        ("weights", f"{net.weights:,} of {net.bits} bits; {net.memory:,} bytes with biases, thresholds and membranes"),
        ("test accuracy", f"{found.accuracy:.2%}"),
        ("real weights", real),
        ("an inference", operations),
        ("energy, estimate", energy),
        *(("made by", command) for command in made.commands),
        ("training", f"{made.seconds:,.0f} s of wall time; number of threads {made.threads}; version {made.version}"),
        ("licence", f"{it.licence.name}, {it.licence.url}: {it.licence.reason}"),
        ("SHA-256", it.sha256),
    ]


def markdown() -> str:
    """Return the page of all cards, `docs/networks.md`."""
    lines = [
        "# Trained networks in the package",
        "",
        "Small networks in integers, to try, to test a chip with, or to start from. `spiking-lfp simulate NAME`,",
        "`predict`, `convert`, `check`, `verify`, `report` and `export` take a name where they take a file, and",
        '`spiking_lfp.load("NAME")` returns the network.',
        "`python benchmarks/pretrained.py` makes them anew. This page is `spiking-lfp networks --markdown`.",
        "",
        "| network | layers | T | bits | weights | test accuracy | SynOps + MACs | 45 nm, estimate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in network_names():
        net, found = card(name).network, card(name).results
        lines.append(
            f"| [`{name}`](#{name}) | {net.layers} | {net.steps} | {net.bits} | {net.weights:,} "
            f"| {found.accuracy:.2%} | {found.synops + found.macs:,.0f} | {found.energy_45nm:,.0f} nJ |"
        )
    for name in network_names():
        lines += ["", f"## {name}", "", f"{card(name).title}.", "", "| | |", "|---|---|"]
        lines += [f"| {key} | {f'`{text}`' if key in ('made by', 'SHA-256') else text} |" for key, text in rows(name)]
    return "\n".join(lines) + "\n"
