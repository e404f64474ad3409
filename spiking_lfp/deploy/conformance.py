"""Tests every conversion to and from other packages on random input: equal spikes, or the reason why it is refused."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp.deploy.formats.nir import READERS, write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.interop import from_norse, from_snntorch, to_norse, to_snntorch
from spiking_lfp.deploy.interop.chains import import_package
from spiking_lfp.deploy.nir_readers import run_in
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import Flatten
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LI, LIF, CubaLIF, RecurrentLIF

STEPS, BATCH, SIDE = 40, 4, 8
# a power of two: norse has its constants in float32, which represents them exactly then
DT = 2.0**-13
NIR_READ_BY = "nir, read by "


@dataclass(frozen=True)
class Row:
    """Result of one conversion.

    Attributes:
        package: the other package, or packages.
        case: what was converted, and in which direction.
        verdict: "equal" and "different" where spikes were compared, "silent" if there were none; "refused" by this
            package, "failed" with an error of the other, "skipped" if the other is not installed.
        spikes: number of spikes in this package.
        compared: values compared, neurons times steps times samples; 0 where nothing ran.
        different: how many of them differ.
        reason: of a refusal, failure or skip; empty where spikes were compared.
        known: whether a failure of the other package is known.
    """

    package: str
    case: str
    verdict: Literal["equal", "different", "silent", "refused", "failed", "skipped"]
    spikes: int = 0
    compared: int = 0
    different: int = 0
    reason: str = ""
    known: bool = False

    @property
    def passed(self) -> bool:
        """Whether spikes are equal, the conversion was refused or skipped, or fails as is known."""
        return self.known or self.verdict in ("equal", "refused", "skipped")


Case = tuple[str, Callable[[], tuple[Tensor, Tensor]]]


def conformance(seed: int = 0) -> list[Row]:
    """Run all conversions of the packages that are installed: snnTorch, norse, nir, and all readers of NIR.

    Args:
        seed: of the random weights and inputs.

    Returns:
        One row for each case, or for a package that is not installed. Networks run in float64, those of snnTorch also
        in float32, its default; readers of NIR get batches in float32, and their own defaults.
    """
    rows = []
    for needed, title, cases in (
        (("snntorch",), "snntorch", _snntorch_cases),
        (("norse.torch",), "norse", _norse_cases),
        (("nir",), "nir", _nir_cases),
    ):
        try:
            with _quiet():
                for name in needed:
                    import_package(name)
        except ExportError as error:
            rows.append(Row(title, "all", "skipped", reason=str(error)))
            continue
        rows += [_row(title, *case, seed) for case in cases()]
        if title == "nir":
            rows += [row for reader in READERS for row in _nir_read_by(reader, seed)]
    return rows


def readers_table(rows: Sequence[Row]) -> str:
    """Return what each package makes of each NIR graph that was written for it, as Markdown, with the reasons below."""
    found = {
        (row.case, row.package.removeprefix(NIR_READ_BY)): row for row in rows if row.package.startswith(NIR_READ_BY)
    }
    readers = list(dict.fromkeys(reader for _, reader in found))
    reasons: list[str] = []
    lines = [f"| network | {' | '.join(readers)} |", "|---" * (len(readers) + 1) + "|"]
    for case in dict.fromkeys(case for case, _ in found):
        cells = [case]
        for reader in readers:
            row = found.get((case, reader))
            if row is not None and row.reason and row.reason not in reasons:
                reasons.append(row.reason)
            number = f" ({reasons.index(row.reason) + 1})" if row is not None and row.reason else ""
            cells.append("" if row is None else row.verdict + number)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)), ""])


def _row(title: str, case: str, run: Callable[[], tuple[Tensor, Tensor]], seed: int) -> Row:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _quiet():
        torch.manual_seed(seed)
        try:
            ours, theirs = run()
        except ExportError as error:
            return Row(title, case, "refused", reason=str(error))
        # any error of the other package: the other rows are still of use
        except Exception as error:
            return Row(title, case, "failed", reason=f"{type(error).__name__}: {error}")
    return _compared(title, case, ours, theirs)


def _compared(title: str, case: str, ours: Tensor, theirs: Tensor) -> Row:
    different = int((ours != theirs).sum()) if ours.shape == theirs.shape else ours.numel()
    spikes = int(ours.sum())
    return Row(
        title, case, "different" if different else "equal" if spikes else "silent", spikes, ours.numel(), different
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what other packages print, and their warnings."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# networks and inputs


def _network(reset: Reset, beta: float | Tensor = 0.875, pool: nn.Module | None = None) -> nn.Sequential:
    """Return a small network in float64, with weights that float32 represents exactly."""
    modules: list[nn.Module] = [LIF(nn.Conv2d(2, 4, 3, padding=1), beta, 0.25, reset)]
    side = SIDE
    if pool is not None:
        modules.append(pool)
        side //= 2
    modules += [Flatten(), LIF(nn.Linear(4 * side * side, 20), 0.75, 0.25, reset)]
    modules.append(LIF(nn.Linear(20, 10, bias=False), 0.5, 0.25, reset))
    network = nn.Sequential(*modules).double()
    with torch.no_grad():
        for values in network.parameters():
            values.copy_((values * 1024).round() / 1024)
    return network


def _images(dtype: torch.dtype = torch.float64) -> Tensor:
    """Return random images in `[T, B, C, H, W]`."""
    return (torch.rand(STEPS, BATCH, 2, SIDE, SIDE, dtype=dtype) * 128).round() / 64


def _stepwise(network: nn.Module, x: Tensor) -> Tensor:
    """Run a network step by step that keeps or returns its state; return the spikes `[T, B, *n]`."""
    for module in network.modules():
        getattr(module, "reset_mem", lambda: None)()
    outs = (network(step) for step in x)
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])


# snnTorch


def _snntorch_cases() -> Iterator[Case]:
    for reset in RESETS:
        for dtype in (torch.float32, torch.float64):
            yield f"to: reset {reset}, {str(dtype).removeprefix('torch.')}", partial(_to_snntorch, reset, dtype)
        for delay in (True, False):
            case = f"from: reset {reset}, reset_delay={delay}"
            yield case, partial(_from_snntorch, reset_mechanism=reset, reset_delay=delay)
    yield "from: learned beta", partial(_from_snntorch, learn_beta=True)
    yield "from: inhibition", partial(_from_snntorch, inhibition=True)
    yield "from: graded spikes", partial(_from_snntorch, graded_spikes_factor=2.0)
    yield "from: Synaptic", _from_synaptic


def _to_snntorch(reset: Reset, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    network, x = _network(reset, pool=MaxPool2d(2)).to(dtype), _images(dtype)
    return network(x), _stepwise(to_snntorch(network), x)


def _from_snntorch(**arguments: Any) -> tuple[Tensor, Tensor]:
    snn = import_package("snntorch")
    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        snn.Leaky(0.9, threshold=0.3, init_hidden=True, **arguments),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * SIDE * SIDE // 4, 20),
        snn.Leaky(0.8, threshold=0.2, init_hidden=True, output=True, **arguments),
    )
    x = _images(torch.float32)
    return from_snntorch(theirs)(x), _stepwise(theirs, x)


def _from_synaptic() -> tuple[Tensor, Tensor]:
    snn = import_package("snntorch")
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE * SIDE, 20), snn.Synaptic(0.5, 0.9, init_hidden=True))
    x = _images(torch.float32)
    return from_snntorch(theirs)(x), _stepwise(theirs, x)


# norse


def _norse_cases() -> Iterator[Case]:
    for reset in RESETS:
        yield f"to: reset {reset}", partial(_to_norse, reset, 0.875)
    yield "to: reset zero, beta 1", partial(_to_norse, "zero", 1.0)
    yield "to: reset zero, beta of each channel", partial(_to_norse, "zero", torch.linspace(0.5, 0.9, 4).view(4, 1, 1))
    yield "from: v_leak = v_reset = 0", _from_norse
    yield "from: v_leak = v_reset = 0.125", partial(_from_norse, v_leak=0.125, v_reset=0.125)
    yield "from: v_reset other than v_leak", partial(_from_norse, v_reset=0.125)
    yield "from: reset_subtract", partial(_from_norse, subtract=True)
    yield "from: dt larger than tau", partial(_from_norse, dt=0.02)
    yield "from: LIFCell", partial(_from_norse, current=True)
    yield "from: no synapse", partial(_from_norse, synapse=False)


def _to_norse(reset: Reset, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    network, x = _network(reset, beta, MaxPool2d(2)), _images()
    return network(x), to_norse(network, DT)(x)[0]


def _from_norse(
    v_leak: float = 0.0, v_reset: float = 0.0, subtract: bool = False, dt: float = 0.001, current: bool = False,
    synapse: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    norse = import_package("norse.torch")
    constants: dict[str, Any] = {"v_th": 0.25, "v_leak": v_leak, "v_reset": v_reset}
    constants = {name: torch.tensor(value, dtype=torch.float64) for name, value in constants.items()}
    if subtract:
        constants["reset_method"] = import_package("norse.torch.functional.reset").reset_subtract
    neuron = norse.LIFCell(dt=dt) if current else norse.LIFBoxCell(norse.LIFBoxParameters(**constants), dt=dt)
    modules = [nn.Flatten(), *([nn.Linear(2 * SIDE * SIDE, 20)] if synapse else []), neuron]
    theirs = norse.Lift(norse.SequentialState(*modules).double())
    x = _images() * 4
    return from_norse(theirs)(x), theirs(x)[0]


# NIR


def _nir_cases() -> Iterator[Case]:
    for reader, form in READERS.items():
        if form.refuses is None:
            yield f"there and back, for {reader}", partial(_there_and_back, form.resets[0], reader, False)
    for reset in ("subtract", "none"):
        yield f"there and back, reset {reset}", partial(_there_and_back, reset, "snntorch", False)
        case = f"there and back, reset {reset}, dynamics_in_metadata"
        yield case, partial(_there_and_back, reset, "snntorch", True)


def _there_and_back(reset: Any, reader: str, allowed: bool) -> tuple[Tensor, Tensor]:
    network = nn.Sequential(*list(_network(reset))[:1]) if reader == "spyx" else _network(reset, pool=MaxPool2d(2))
    x = _images()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        write_nir(network, path, (2, SIDE, SIDE), reader=reader, dynamics_in_metadata=allowed)
        back = read_nir(path)
    assert isinstance(back, nn.Module)
    return network(x), back(x)


def _nir_networks(reset: Any) -> Iterator[tuple[str, nn.Sequential]]:
    """Yield networks of everything that NIR has nodes for."""

    def image(beta: float | Tensor = 0.8) -> LIF:
        return LIF(nn.Conv2d(2, 4, 3, padding=1), beta, 0.3, reset)

    def output(inputs: int, beta: float = 0.7) -> LIF:
        return LIF(nn.Linear(inputs, 10, bias=False), beta, 0.1, reset)

    yield "dense", nn.Sequential(LIF(nn.Linear(SIDE, 20), 0.9, 0.3, reset), output(20))
    yield (
        "dense, two biases",
        nn.Sequential(LIF(nn.Linear(SIDE, 20), 0.9, 0.3, reset), LIF(nn.Linear(20, 10), 0.7, 0.1, reset)),
    )
    yield "convolutions", nn.Sequential(image(), LIF(nn.Conv2d(4, 6, 3, stride=2, bias=False), 0.8, 0.2, reset))
    signals = LIF(nn.Conv1d(2, 4, 3, padding=1), 0.8, 0.3, reset)
    yield "convolutions of signals", nn.Sequential(signals, LIF(nn.Conv1d(4, 6, 3, 2, bias=False), 0.8, 0.2, reset))
    yield "flatten", nn.Sequential(image(), Flatten(), output(4 * SIDE**2))
    for what, pool in (("max pooling", MaxPool2d(2)), ("mean pooling", AvgPool2d(2))):
        yield what, nn.Sequential(image(), pool, LIF(nn.Conv2d(4, 6, 2, bias=False), 0.8, 0.2, reset))
    yield "no leak", nn.Sequential(LIF(nn.Linear(SIDE, 20), 1.0, 0.3, reset), output(20, 1.0))
    per_neuron = torch.linspace(0.5, 0.9, 20), torch.linspace(0.2, 0.6, 20)
    yield "constants of each neuron", nn.Sequential(LIF(nn.Linear(SIDE, 20), *per_neuron, reset), output(20))
    yield "recurrent", nn.Sequential(RecurrentLIF(nn.Linear(SIDE, 20), 0.7, 0.2, reset), output(20))
    yield "LI readout", nn.Sequential(LIF(nn.Linear(SIDE, 20), 0.9, 0.3, reset), LI(nn.Linear(20, 4, bias=False), 0.8))
    yield "CubaLIF", nn.Sequential(CubaLIF(nn.Linear(SIDE, 20), 0.5, 0.7, 0.6, reset), output(20))


def _nir_read_by(reader: str, seed: int) -> list[Row]:
    """Write networks for a package, and run them there with its defaults, batches in float32."""
    title, form = NIR_READ_BY + reader, READERS[reader]
    # what no file runs as ours is shown with one for the equations
    written = "snntorch" if form.refuses else reader
    rows: dict[str, Row] = {}
    ours: dict[str, Tensor] = {}
    with TemporaryDirectory() as name, torch.random.fork_rng(devices=[]), torch.no_grad(), _quiet():
        folder = Path(name)
        torch.manual_seed(seed)
        for case, network in _nir_networks(READERS[written].resets[0]):
            first = next(network.children())
            shapes: dict[type, tuple[int, ...]] = {nn.Conv2d: (2, SIDE, SIDE), nn.Conv1d: (2, SIDE)}
            shape = shapes.get(type(first.get_submodule("synapse")), (SIDE,))
            x = torch.rand(STEPS, BATCH, *shape) * 2
            rows[case] = Row(title, case, "failed")
            try:
                write_nir(network, folder / f"{case}.nir", shape, reader=written)
            except ExportError as error:
                rows[case] = Row(title, case, "refused", reason=str(error))
                continue
            np.save(folder / f"{case}.npy", x.numpy())
            ours[case] = network(x)
            if form.refuses:
                break
        try:
            run_in(reader, folder)
        except ExportError as error:
            return [Row(title, "all", "skipped", reason=str(error))]
        for case, expected in ours.items():
            failed = folder / f"{case}.error"
            if failed.exists():
                known = _known(reader, case)
                rows[case] = Row(title, case, "failed", reason=failed.read_text("utf-8"), known=known)
            else:
                rows[case] = _compared(title, case, expected, torch.from_numpy(np.load(folder / f"{case}.out.npy")))
    if form.refuses:
        rows["all"] = Row(title, f"written for {reader}", "refused", reason=form.refuses)
    return list(rows.values())


def _known(reader: str, case: str) -> bool:
    """Return whether it is known that a package does not run a network."""
    one_for_all = reader in ("snntorch", "spikingjelly") and case == "constants of each neuron"
    return one_for_all or case == "LI readout" or READERS[reader].refuses is not None
