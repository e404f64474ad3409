"""Tests every conversion to and from other packages on random input: equal spikes, or the reason why it is refused."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spiking_lfp.deploy.formats.nir import Gain, read_nir, write_nir
from spiking_lfp.deploy.interop import from_norse, from_snntorch, import_package, to_norse, to_snntorch
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import AvgPool2d, Flatten, MaxPool2d
from spiking_lfp.nn.spiking import LIF

STEPS, BATCH, SIDE = 40, 4, 8
# a power of two: norse has its constants in float32, which represents them exactly then
DT = 2.0**-13
# the only one that snnTorch's NIR reader supports
SNNTORCH_DT = 1e-4


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
    """

    package: str
    case: str
    verdict: Literal["equal", "different", "silent", "refused", "failed", "skipped"]
    spikes: int = 0
    compared: int = 0
    different: int = 0
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether spikes are equal, or the conversion was refused or skipped."""
        return self.verdict in ("equal", "refused", "skipped")


Case = tuple[str, Callable[[], tuple[Tensor, Tensor]]]


def conformance(seed: int = 0) -> list[Row]:
    """Run all conversions of the packages that are installed: snnTorch, norse, nir, and the two as readers of NIR.

    Args:
        seed: of the random weights and inputs.

    Returns:
        One row for each case, or for a package that is not installed. Networks run in float64, those of snnTorch also
        in float32, its default.
    """
    rows = []
    for needed, title, cases in (
        (("snntorch",), "snntorch", _snntorch_cases),
        (("norse.torch",), "norse", _norse_cases),
        (("nir",), "nir", _nir_cases),
        (("nir", "nirtorch", "norse.torch"), "nir, read by norse", _norse_reads),
        (("nir", "nirtorch", "snntorch"), "nir, read by snntorch", _snntorch_reads),
    ):
        try:
            with _quiet():
                for name in needed:
                    import_package(name)
        except ExportError as error:
            rows.append(Row(title, "all", "skipped", reason=str(error)))
            continue
        rows += [_row(title, *case, seed) for case in cases()]
    return rows


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
    for gain in ("resistance", "weights"):
        yield f"there and back, gain {gain}", partial(_there_and_back, "zero", gain, False)
    for reset in ("subtract", "none"):
        yield f"there and back, reset {reset}", partial(_there_and_back, reset, "resistance", False)
        case = f"there and back, reset {reset}, dynamics_in_metadata"
        yield case, partial(_there_and_back, reset, "resistance", True)


def _there_and_back(reset: Reset, gain: Gain, allowed: bool) -> tuple[Tensor, Tensor]:
    network, x = _network(reset, pool=MaxPool2d(2)), _images()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        write_nir(network, path, (2, SIDE, SIDE), gain=gain, dynamics_in_metadata=allowed)
        back = read_nir(path)
    assert isinstance(back, nn.Module)
    return network(x), back(x)


def _norse_reads() -> Iterator[Case]:
    yield "reset zero, gain weights", partial(_read_by, read_by_norse, DT, "weights", None)
    yield "reset subtract", partial(_read_by, read_by_norse, DT, "weights", None, "subtract")


def _snntorch_reads() -> Iterator[Case]:
    for gain in ("resistance", "weights"):
        yield f"reset zero, gain {gain}", partial(_read_by, read_by_snntorch, SNNTORCH_DT, gain, None)
    yield "reset zero, mean pooling", partial(_read_by, read_by_snntorch, SNNTORCH_DT, "weights", AvgPool2d(2))
    yield "reset subtract", partial(_read_by, read_by_snntorch, SNNTORCH_DT, "weights", None, "subtract")


def _read_by(
    reader: Callable[[Any, float, Tensor], Tensor], dt: float, gain: Gain, pool: nn.Module | None, reset: Reset = "zero"
) -> tuple[Tensor, Tensor]:
    network, x = _network(reset, pool=pool), _images()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        write_nir(network, path, (2, SIDE, SIDE), dt, gain)
        return network(x), reader(import_package("nir").read(path), dt, x)


def read_by_norse(graph: Any, dt: float, x: Tensor) -> Tensor:
    """Return the spikes `[T, B, n]` of a NIR graph in norse for `x` `[T, B, ...]`, float64, sample by sample.

    Its reader flattens the batch axis too, so samples are run without one.
    """
    norse = import_package("norse.torch")
    samples = []
    for sample in x.unbind(1):
        network = norse.from_nir(graph, ignore_warnings=True, dt=dt).double()
        state, spikes = None, []
        for step in sample:
            out, state = network(step, state)
            spikes.append(out.flatten())
        samples.append(torch.stack(spikes))
    return torch.stack(samples, 1)


def read_by_snntorch(graph: Any, dt: float, x: Tensor) -> Tensor:
    """Return the spikes `[T, B, n]` of a NIR graph in snnTorch for `x` `[T, B, ...]`, float64, sample by sample.

    Its time step is always 1e-4, whatever `dt` is.
    """
    importer = import_package("snntorch.import_nir")
    network = importer.import_from_nir(graph)
    for module in network.modules():
        if hasattr(module, "spike_grad"):
            # its default returns float32 for every dtype
            module.spike_grad = _step
    network = network.double()
    return torch.stack([_stepwise(network, sample).flatten(1) for sample in x.unbind(1)], 1)


def _step(membrane: Tensor) -> Tensor:
    return (membrane > 0).to(membrane.dtype)
