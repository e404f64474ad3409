"""Public functions take paths as text and numbers as arrays and lists, wherever they take `Path` and tensors."""

import inspect
import os
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import spiking_lfp
from helpers import integer_networks
from helpers.event_bytes import made
from helpers.small_runs import small_config, small_samples
from spiking_lfp import (
    LIF,
    DataError,
    FeedbackAlignment,
    UsageError,
    constant,
    delta,
    input_feedback,
    latency,
    mlp,
    name_layers,
    population,
    propagate,
    rate,
    read_events,
    recorded,
    run_in_chunks,
    saccade_events,
)
from spiking_lfp.checks import as_tensor
from spiking_lfp.data import data_root, dataset_status, load_dataset
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import Stream, simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.mono.networks import fully_connected
from spiking_lfp.plots import animation, confusion, explanation, frame_strip, learning_curve, spike_raster
from spiking_lfp.training import read_config, read_metrics

# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.arange(6, dtype=np.uint8).reshape(2, 3), torch.uint8),
        (np.arange(6.0).reshape(2, 3)[:, ::-1], torch.float64),
        (np.arange(6, dtype=np.uint16).reshape(2, 3), torch.int64),
        (np.arange(6, dtype=">f4").reshape(2, 3), torch.float32),
        (np.array([[True, False]]), torch.bool),
        ([[0.5, 1], [2, 3]], torch.float32),
        ([[1, 2], [3, 4]], torch.int64),
        ([np.ones(2, np.float32), np.zeros(2, np.float32)], torch.float32),
        ([torch.tensor(1), torch.tensor(2)], torch.int64),
        (np.float32(2.5), torch.float32),
        (3, torch.int64),
        (range(3), torch.int64),
        ([], torch.float32),
    ],
)
def test_arrays_and_lists_become_the_tensors_that_they_say(given: Any, dtype: torch.dtype) -> None:
    found = as_tensor(given, "the values")
    assert found.dtype == dtype
    assert found.tolist() == np.asarray(given).tolist()


def test_tensors_stay_the_same_and_read_only_arrays_are_copied() -> None:
    tensor = torch.rand(3, requires_grad=True)
    assert as_tensor(tensor, "the values") is tensor
    locked = np.arange(4)
    locked.flags.writeable = False
    as_tensor(locked, "the values")[0] = 7
    assert locked[0] == 0


@pytest.mark.parametrize("given", [None, "abc", ["a", "b"], [[1], [2, 3]], object(), {}, np.array(["x"]), [None]])
def test_what_is_no_number_is_refused_in_one_sentence(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^the values are (an array of )?[<\w]+, expected numbers in an array,"):
        as_tensor(given, "the values")
    with pytest.raises(DataError):
        as_tensor(given, "the values", DataError)


@pytest.mark.parametrize("given", [1j, [1j, 2.0], np.array([1j]), torch.zeros(2, dtype=torch.complex64)])
def test_complex_numbers_are_refused_where_real_ones_are_expected(given: Any) -> None:
    with pytest.raises(
        UsageError, match=r"^the values are torch\.complex\d+, expected real numbers: give real and imag"
    ):
        as_tensor(given, "the values")
    assert as_tensor(given, "the values", real=False).is_complex()


def layer() -> LIF:
    torch.manual_seed(3)
    return LIF(nn.Linear(3, 2), threshold=0.2)


def explained(x: Any, classes: Any) -> Tensor:
    return input_feedback(layer(), x, classes)


def learned(reward: Any) -> Tensor:
    made = layer()
    propagate(made(torch.ones(4, 2, 3)), reward)
    return made.synapse.weight.grad


def replayed(membranes: Any) -> Tensor:
    network = nn.Sequential(layer())
    name_layers(network)
    with recorded(network, {"0": membranes}):
        spikes: Tensor = network(torch.ones(4, 2, 3))
    return spikes


def aligned(samples: Any) -> Tensor:
    net = fully_connected(3, (4, 4), 1, monotone="later")
    return FeedbackAlignment(net, "mdfa", samples, seed=1).get_buffer("feedback1")


def integers(images: Any, labels: Any) -> NDArray[Any]:
    torch.manual_seed(3)
    network = mlp(in_shape=(1, 2, 2), classes=3, hidden=(5,), gain=3.0)
    return quantize(network, images, labels, 6, list("abc"))[0].spiking[0].weight


def stream(images: Any) -> NDArray[Any]:
    network = integer_networks.mlp((4, 6, 3), levels=255)
    return np.stack([step["1"] for step in Stream(network, 2).run(images)])


UNIT = torch.rand(2, 3, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randint(0, 256, (2, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
TAKEN: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "constant": (lambda x: constant(x, 3), (UNIT,)),
    "rate": (lambda x: rate(x, 3, torch.Generator().manual_seed(2)), (UNIT,)),
    "latency": (lambda x: latency(x, 5), (UNIT,)),
    "delta": (lambda x: delta(x, 0.1), (torch.rand(5, 2, 3),)),
    "population": (lambda x: population(x, 4), (UNIT,)),
    "run_in_chunks": (lambda x: run_in_chunks(layer(), x, 2), (torch.rand(5, 2, 3),)),
    "input_feedback": (explained, (torch.rand(5, 2, 3), torch.tensor([1, 0]))),
    "propagate": (learned, (torch.rand(4, 2, 2),)),
    "recorded": (replayed, (torch.rand(4, 2, 2),)),
    "FeedbackAlignment": (aligned, (torch.rand(2, 3),)),
    "quantize": (integers, (IMAGES.view(2, 1, 2, 2), torch.tensor([0, 2]))),
    "simulate": (lambda x: simulate(integer_networks.mlp((4, 6, 3), levels=255), x).counts, (IMAGES,)),
    "Stream": (stream, (IMAGES,)),
    "with_golden_run": (
        lambda x: with_golden_run(integer_networks.mlp((4, 6, 3), levels=255), x).golden.spikes["1"],  # type: ignore[union-attr]
        (IMAGES,),
    ),
    "verify": (lambda x: len(verify(integer_networks.mlp((4, 6, 3), levels=255), x, "c")) + torch.ones(1), (IMAGES,)),
    "saccade_events": (lambda x: torch.as_tensor(saccade_events(x).events["t"].copy()), (IMAGES,)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_numbers_may_be_arrays_and_lists(name: str) -> None:
    function, arguments = TAKEN[name]
    expected = None if name == "saccade_events" else function(*arguments)
    turns = [lambda x: x.numpy(), *([lambda x: x.tolist()] if name != "recorded" else [])]  # a list is one of states
    for turn in turns:
        found = function(*map(turn, arguments))
        if expected is None:
            expected = found
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


@pytest.mark.parametrize(
    "run",
    [
        lambda: constant("abc", 3),  # type: ignore[arg-type]
        lambda: input_feedback(layer(), torch.rand(4, 2, 3), ["a", "b"]),
        lambda: run_in_chunks(layer(), None, 2),  # type: ignore[arg-type]
        lambda: learned([["a"]]),
    ],
)
def test_functions_refuse_what_is_no_number(unchecked: None, run: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="expected numbers in an array, a list or a tensor"):
        run()


def test_layers_say_that_they_take_tensors(unchecked: None) -> None:
    network = nn.Sequential(layer())
    name_layers(network)
    with pytest.raises(UsageError, match=r"^layer 0: expected a tensor \[T, B, \.\.\.\], found ndarray: use torch"):
        network(np.ones((4, 2, 3), np.float32))
    with pytest.raises(UsageError, match=r"MaxPool2d.*expected a tensor .*, found list"):
        spiking_lfp.MaxPool2d(2)([1.0])
    spikes = np.ones((4, 2, 4), np.float32)
    for takes in (
        spiking_lfp.Dropout(),
        spiking_lfp.PopulationReadout(2),
        spiking_lfp.NormalizeFeedback(),
        lambda x: spiking_lfp.add(torch.ones(4, 2, 4), x),
    ):
        with pytest.raises(UsageError, match=r"expected a tensor \[T, B, \.\.\.\], found ndarray: use torch"):
            takes(spikes)
    with pytest.raises(UsageError, match=r"^MonoReadout: expected a tensor \[T, B, \.\.\.\], found ndarray: use torch"):
        spiking_lfp.MonoReadout(4)(spikes)
    with pytest.raises(UsageError, match=r"^FeedforwardNet: expected a tensor \[B, \.\.\.\], found ndarray: use torch"):
        fully_connected(4, (3,))(spikes[0])


@pytest.mark.parametrize(
    "run",
    [
        lambda x: layer()(x),
        lambda x: input_feedback(layer(), x, [0, 1]),
        lambda x: constant(x, 3),
        lambda x: spiking_lfp.fit(layer(), (x, [0, 1, 1, 0]), epochs=1, validation=0.5, encoding="sequence"),
    ],
)
def test_sparse_tensors_are_refused(run: Callable[[Tensor], object]) -> None:
    with pytest.raises((UsageError, DataError), match=r"expected a dense .*to_dense\(\)$"):
        run(torch.ones(4, 2, 3).to_sparse())


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (
            lambda layer, x, state: LIF.run(layer, x, (state,)),
            "expected a membrane, one tensor as run returns it, found tuple",
        ),
        (lambda layer, x, _: LIF.run(layer, x, 0.0), "expected a membrane, one tensor as run returns it, found 0.0"),
        *(
            (
                lambda _, x, state, given=given: spiking_lfp.CubaLIF(nn.Linear(3, 2)).run(x, given(state)),
                "expected the states membrane and current as a tuple of 2 tensors, as run returns them, found " + found,
            )
            for given, found in (
                (lambda state: state, "Tensor"),
                (lambda state: (state,), "['Tensor']"),
                (lambda state: (state, 0.0), "['Tensor', '0.0']"),
            )
        ),
    ],
)
def test_states_of_another_form_are_refused(unchecked: None, run: Callable[..., object], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence) + "$"):
        run(layer(), torch.rand(4, 2, 3), torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int8, torch.int16, torch.int32])
def test_classes_of_any_integer_type_are_explained_as_they_are(dtype: torch.dtype) -> None:
    x, classes = torch.rand(5, 4, 3), torch.tensor([1, 0, 0, 1])
    assert torch.equal(explained(x, classes.to(dtype)), explained(x, classes))
    assert not torch.equal(explained(x, classes), explained(x, 1 - classes))


@pytest.mark.parametrize("classes", [[0, 1, 1], [0, 2], [-1, 0], [0.0, 1.0], [[0, 1]]])
def test_classes_that_do_not_fit_are_refused(classes: Any) -> None:
    with pytest.raises(UsageError, match=r"expected a class in 0\.\.1 for each of 2 samples"):
        explained(torch.rand(5, 2, 3), classes)


# ---------------------------------------------------------------- paths

ACCURACY = {"samples": 4, "accuracy": 0.5}
METRICS = [
    {"kind": "batch", "epoch": 1, "batch": 1, "batches": 1, "samples": 4, "accuracy": 0.5, "reward": 0.1},
    {"kind": "epoch", "epoch": 1, "seconds": 1.0, "train": ACCURACY, "test": ACCURACY, "validation": None},
]
PICTURES: dict[str, Callable[[Any], object]] = {
    "learning_curve": lambda path: learning_curve(METRICS, path),
    "spike_raster": lambda path: spike_raster(np.ones((3, 1, 4, 4)), {"0": [[1, 0], [0, 1], [1, 1]]}, "a", path),
    "frame_strip": lambda path: frame_strip(np.ones((3, 2, 4, 4), np.uint8), "a", path),
    "explanation": lambda path: explanation(torch.ones(3, 1, 1, 4, 4), np.ones((3, 1, 1, 4, 4)), ["a"], path),
    "animation": lambda path: animation(torch.ones(2, 2, 4, 4), [[1, 0], [0, 1]], ["a", "b"], 0, path),
    "confusion": lambda path: confusion([[3, 1], [0, 4]], ["a", "b"], "title", path),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn_from_any_numbers_to_paths_as_text(name: str, tmp_path: Path) -> None:
    suffix = ".gif" if name == "animation" else ".png"
    for path in (tmp_path / f"path{suffix}", str(tmp_path / f"text{suffix}")):
        PICTURES[name](path)
    contents = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert contents[0] == contents[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_are_written_and_read_by_paths_as_text(tmp_path: Path) -> None:
    network = integer_networks.mlp((4, 6, 3), levels=255, reset="zero")
    text = str(tmp_path / "net.h5")
    save_network(network, text)
    assert np.array_equal(load_network(text).spiking[0].weight, network.spiking[0].weight)
    write_c(network, str(tmp_path / "c"))
    write_verilog(network, str(tmp_path / "verilog"))
    write_report(str(tmp_path / "report.html"), network, IMAGES, [0, 2])
    assert {path.name for path in tmp_path.iterdir()} >= {"net.h5", "c", "verilog", "report.html"}
    real = nn.Sequential(LIF(nn.Linear(4, 3), reset="zero"))
    write_nir(real, str(tmp_path / "net.nir"))
    assert isinstance(read_nir(str(tmp_path / "net.nir")), nn.Sequential)


def test_runs_and_data_are_found_by_paths_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spiking_lfp.training.runs.samples_for", lambda *_: small_samples())
    folder = spiking_lfp.training.train(small_config(), str(tmp_path / "run"))
    text = os.fspath(folder)
    assert read_metrics(text) == read_metrics(Path(text))
    assert read_config(text) == read_config(Path(text))
    assert data_root(str(tmp_path)) == tmp_path
    assert [status.present for status in dataset_status(str(tmp_path))].count(True) == 2  # in the package
    with pytest.raises(DataError, match=str(tmp_path)):
        load_dataset("mnist", str(tmp_path), download=False)


def test_recordings_are_read_by_paths_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, made())
    assert np.array_equal(read_events(str(path)).events, read_events(path).events)


# modules whose functions are public beside those of the package and its subpackages
MODULES = (
    *("deploy.artifact", "deploy.formats.c", "deploy.formats.netx", "deploy.formats.nir", "deploy.formats.verilog"),
    *("deploy.predict", "deploy.report", "studies.cases", "studies.registry", "studies.tune"),
)


def public_functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Any] = {name: getattr(spiking_lfp, name) for name in spiking_lfp.__all__}
    packages = [f".{info.name}" for info in pkgutil.iter_modules(spiking_lfp.__path__) if info.ispkg]
    for name in (*packages, *(f".{module}" for module in MODULES)):
        module = import_module(name, "spiking_lfp")
        own = [each for each, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        found |= {f"{name}.{each}": getattr(module, each) for each in getattr(module, "__all__", own) if each[0] != "_"}
    return {name: each for name, each in found.items() if inspect.isroutine(each)}


def test_no_public_function_takes_a_path_that_cannot_be_text() -> None:
    functions = public_functions()
    assert "load_run" in functions
    assert ".plots.confusion" in functions
    assert ".deploy.formats.nir.write_nir" in functions
    strict = [
        f"{name}({parameter.name})"
        for name, function in functions.items()
        for parameter in inspect.signature(function).parameters.values()
        if "Path" in str(parameter.annotation) and "str" not in str(parameter.annotation)
    ]
    assert strict == []
