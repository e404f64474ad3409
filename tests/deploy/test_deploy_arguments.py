"""What export, check, simulate, verify and load take, and what they refuse, in one sentence each."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import spiking_lfp as lfp
from helpers import integer_networks as make
from spiking_lfp.arguments import as_integer, as_names
from spiking_lfp.deploy.artifact import save_network
from spiking_lfp.deploy.chips import backends
from spiking_lfp.deploy.export import NEEDS, span_of
from spiking_lfp.deploy.layers import SumPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import convert_files, predict_files
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.errors import DataError, ExportError, RunError, SpikingLFPError, UsageError
from spiking_lfp.neurons.integer import FixedPoint

pytestmark = pytest.mark.usefixtures("unchecked")
NAME = "mnist-mlp-int8"
VALUES, LABELS = torch.rand(9, 4, generator=torch.Generator().manual_seed(1)), [0, 1, 2] * 3


def network(threshold: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(lfp.LIF(nn.Linear(4, 8), 0.9, threshold), lfp.LIF(nn.Linear(8, 3), 0.9, threshold))


def exported(folder: Path, calibration: Any = (VALUES, LABELS), **options: Any) -> Any:
    return lfp.export(options.pop("network", network()), calibration, **{"steps": 5, "out": folder, **options})


def said(error: type[SpikingLFPError], action: Callable[[], object]) -> str:
    """Return the sentence of an error."""
    with pytest.raises(error) as caught:
        action()
    assert caught.type is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_calibration_of_different_lengths_is_refused(tmp_path: Path) -> None:
    calibration = ([torch.rand(5, 4), torch.rand(3, 4)], [0, 1])
    sentence = said(UsageError, lambda: exported(tmp_path / "net", calibration, steps=None))
    assert sentence.startswith("calibration has sequences of 3 to 5 steps, hardware runs as many for each")
    assert not (tmp_path / "net").exists()


def test_images_without_steps_are_told_to_be_sequences_of_one_step(tmp_path: Path) -> None:
    own = nn.Sequential(lfp.Flatten(), *network())
    with pytest.warns(UserWarning, match=r"the calibration \[N, 1, 2, 2\] is taken for sequences .* one step: give"):
        assert exported(tmp_path, (VALUES.view(9, 1, 2, 2), LABELS), network=own, steps=None).network.steps == 1


@pytest.mark.parametrize("value", [7.9, 4.0, True, "4", None, [4], math.nan])
def test_what_is_no_integer_is_none(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^bits must be an integer, 2\.\.8, found "):
        as_integer(value, "bits", 2, 8)


@pytest.mark.parametrize("value", [4, np.int64(4), np.uint8(4), torch.tensor(4)])
def test_integers_of_numpy_become_plain(value: Any, tmp_path: Path) -> None:
    assert type(as_integer(value, "bits", 2, 8)) is int
    assert type(FixedPoint(bits=value, levels=value).bits) is int
    made = exported(tmp_path, bits=value, steps=value, samples=value)
    assert made.report.samples == 4
    found = lfp.load(tmp_path / "net.h5")
    assert isinstance(found, IntegerNetwork)
    assert (found.steps, {layer.bits for layer in found.spiking}) == (4, {4})


@pytest.mark.parametrize("scale", ["max", "search"])
@pytest.mark.parametrize("bits", [7.9, 2.5, "4", True])
def test_bits_are_integers_wherever_they_are_given(bits: Any, scale: Any, tmp_path: Path) -> None:
    sentence = f"bits must be an integer, 2..8, found {bits!r}"
    assert said(UsageError, lambda: exported(tmp_path / "out", bits=bits, scale=scale)) == sentence
    assert not (tmp_path / "out").exists()
    values = (VALUES * 255).byte()
    assert said(UsageError, lambda: quantize(network(), values, LABELS, 5, "abc", bits, scale)) == sentence
    assert said(UsageError, lambda: FixedPoint(bits=bits)).endswith(
        f"both integers, scale max or mean; found {bits!r}, 1, 'max'"
    )


def test_fields_of_integer_networks_are_integers(tmp_path: Path) -> None:
    net = make.mlp()
    first, last = net.layers
    pool = SumPool("pool", (2, 4, 4), (2, 2.5), (2, 2))  # type: ignore[arg-type]
    for changed, sentence in (
        (make.changed(first, bits=7.9), "layer 0: bits is 7.9, expected an integer, 2..8"),
        (make.changed(first, decay=1.5), "layer 0: decay is 1.5, expected an integer, 0..4095"),
        (pool, "layer pool: kernel is [2, 2.5], expected 2 integers, at least 1"),
    ):
        whole = replace(net, layers=(changed, last), golden=None)
        if changed is pool:
            assert said(ExportError, lambda: pool.check(net.signals())) == sentence
        else:
            assert said(ExportError, lambda whole=whole: save_network(whole, tmp_path / "net.h5")) == sentence  # type: ignore[misc]
    for name, sentence in (
        ("steps", "steps must be an integer, at least 1, found 2.5"),
        ("levels", "levels of spikes must be an integer, 1, found 2.5"),
    ):
        assert said(ExportError, lambda name=name: replace(net, **{name: 2.5}).check()) == sentence  # type: ignore[misc]
    # those of NumPy are
    replace(net, layers=(make.changed(first, bits=np.int64(first.bits)), last), steps=np.int32(net.steps)).check()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steps": 2.5}, "steps must be an integer, at least 1, found 2.5"),
    ({"steps": True}, "steps must be an integer, at least 1, found True"),
    ({"steps": "5"}, "steps must be an integer, at least 1, found '5'"),
    ({"steps": 0}, "steps must be at least 1, found 0"),
    ({"samples": -3}, "samples must be at least 1, found -3"),
    ({"samples": 0}, "samples must be at least 1, found 0"),
    ({"samples": 2.5}, "samples must be an integer, at least 1, found 2.5"),
    ({"lanes": 2.5, "to": "verilog"}, "lanes must be an integer, 1..64, found 2.5"),
    ({"to": []}, "to is empty: name a format to write, of artifact, nir, netx, c, arduino, zephyr, verilog, xylo"),
    ({"to": None}, "to must be a name or a list of names, found None"),
    ({"to": "onnx"}, "unknown format 'onnx'"),
    ({"to": [None]}, "unknown format 'None'"),
    ({"scale": 5}, "unknown scale 5"),
    ({"reset": ["zero"]}, "unknown reset ['zero']"),
    ({"board": 5}, "unknown board 5"),
    ({"out": None}, "out must be a path, found None"),
    ({"data_root": 5}, "data_root must be a path, found 5"),
    ({"class_names": "abc"}, "there are 1 class_names, the network has 3 outputs: give one for each"),
    ({"class_names": 5}, "class_names must be a name or a list of names, found 5"),
    ({"network": nn.Linear}, "network is the class Linear, expected a network of layers, a run or its folder"),
    ({"network": None}, "network is None, expected a network of layers, a run or its folder"),
    ({"network": nn.Flatten(0)}, "the network returned [20] for a sequence [5, 1, 4], expected spikes [T, B, classes]"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_what_export_does_not_take_is_refused_before_anything_is_written(
    options: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(UsageError, lambda: exported(tmp_path / "out", **options)).startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_a_text_in_place_of_names_or_paths_is_one_of_them(tmp_path: Path) -> None:
    assert list(exported(tmp_path, to="artifact", class_names=np.array(["a", "b", "c"])).files) == ["artifact"]
    assert as_names("c", "to") == ("c",)
    assert [line.backend for line in lfp.verify(NAME, None, "lava")][:1] == ["lava"]
    image = tmp_path / "one.npy"
    np.save(image, np.zeros((1, 1, 28, 28), np.uint8))
    integers = lfp.load(NAME)
    assert isinstance(integers, IntegerNetwork)
    for path in (image, str(image), [image]):
        assert convert_files(integers, path)[1] == bytes(784)
        assert len(predict_files(integers, path)[0]) == 1


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([9] * 9, "labels of {} go from 9 to 9, the network has 3 outputs: number classes from 0"),
        ([-1] * 9, "labels of {} go from -1 to -1, the network has 3 outputs: number classes from 0"),
        ([0.9, 1.9, 2.9] * 3, "labels of {} are float32 [9], expected class indices [N]"),
        (torch.eye(3).repeat(3, 1), "labels of {} are float32 [9, 3], expected class indices [N]"),
        (torch.eye(3).repeat(3, 1).long(), "labels of {} are int64 [9, 3], expected class indices [N]"),
    ],
)
def test_labels_of_the_calibration_are_classes_of_the_network(labels: Any, sentence: str, tmp_path: Path) -> None:
    assert said(DataError, lambda: exported(tmp_path, (VALUES, labels))) == sentence.format("calibration")
    sequences = VALUES[:, None].expand(9, 5, 4)
    found = said(DataError, lambda: exported(tmp_path, (sequences, labels), steps=None))
    assert found == sentence.format("calibration")
    found = said(DataError, lambda: quantize(network(), (VALUES * 255).byte(), labels, 5, ["a", "b", "c"]))
    assert found == sentence.format("the calibration")


def test_a_calibration_is_a_pair_and_quantize_has_a_label_for_each_image(tmp_path: Path) -> None:
    found = said(DataError, lambda: exported(tmp_path, "mnist"))
    assert found == "calibration is str, expected a pair (values, labels)"
    found = said(DataError, lambda: quantize(network(), (VALUES * 255).byte(), LABELS[:-1], 5, ["a", "b", "c"]))
    assert found == "there are 9 images and 8 labels: give one label for each image"
    assert said(
        UsageError,
        lambda: quantize(network(), VALUES, LABELS, 5, ["a", "b", "c"], scale="serach"),  # type: ignore[arg-type]
    ).startswith("unknown scale 'serach': did you mean 'search'?")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 3}, "leave out samples, or give the run that it was made from"),
        ({"data_root": "data"}, "leave out data_root, or give the run that it was made from"),
        ({"bits": 4, "per_channel": True}, "leave out bits and per_channel, or give the run that it was made from"),
        ({"calibration": (VALUES, LABELS)}, "leave out calibration, or give the run that it was made from"),
        ({"to": "c", "nir_for": "norse", "nir_metadata": True, "netx_early_bias": True},
         "no format nir is written: leave out nir_for and nir_metadata, or add the format nir"),
        ({"to": "nir", "netx_early_bias": True},
         "no format netx is written: leave out netx_early_bias, or add the format netx"),
        ({"to": "c", "lanes": 4}, "no format verilog is written: leave out lanes, or add the format verilog"),
        ({"to": "verilog", "board": "rv32"}, "no format c is written: leave out board=rv32, or add the format c"),
        ({"to": "c", "board": "icebreaker"},
         "no format verilog is written: leave out board=icebreaker, or add the format verilog"),
    ],
)  # fmt: skip
def test_options_that_would_change_nothing_are_refused(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert said(UsageError, lambda: lfp.export(NAME, out=tmp_path / "out", **options)).endswith(sentence)
    assert not (tmp_path / "out").exists()


def test_every_option_of_export_says_what_it_needs() -> None:
    always = {"network", "out", "to", "board", "return"}
    assert set(lfp.export.__annotations__) - always == {name for name in NEEDS if not name.startswith("board=")}


def test_what_a_run_says_and_what_it_lacks(tmp_path: Path) -> None:
    samples = VALUES, LABELS
    run = lfp.fit(network(0.05), samples, samples, epochs=1, steps=5, out=tmp_path / "run", progress=False)
    for given in (run, run.folder):
        assert said(UsageError, lambda given=given: lfp.export(given, out=tmp_path)) == (  # type: ignore[misc]
            "the run was trained on data given in Python: give export a pair (values, labels) of training samples in "
            "Python, too"
        )
    assert lfp.export(run, samples, out=tmp_path / "out").files["artifact"].is_file()
    found = said(UsageError, lambda: lfp.export(run, samples, steps=3, class_names=["a", "b", "c"]))
    assert found == "the run has its own: leave out steps and class_names"
    found = said(UsageError, lambda: lfp.export(run, samples, data_root=tmp_path))
    assert found == "no data set is loaded by name: leave out data_root"
    assert said(UsageError, lambda: lfp.training.samples_for(run.config)) == (
        "the run was trained on data given in Python, which have no name: name other data, or give samples in Python"
    )
    own = lfp.fit(
        network(0.05),
        samples,
        samples,
        epochs=1,
        encoder=lambda x: lfp.constant(x, 5),
        out=tmp_path / "own",
        progress=False,
    )
    for calibration in (None, samples):
        found = said(UsageError, lambda calibration=calibration: lfp.export(own, calibration))  # type: ignore[misc]
        assert found.startswith(
            "the run was trained with an encoder given in Python: give export the run's network, and"
        )


def test_what_stays_of_an_export_before_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    first = exported(tmp_path, to=["artifact", "nir", "verilog"], nir_metadata=True)
    assert not first.refused
    last = nn.Sequential(lfp.LIF(nn.Linear(4, 3)), lfp.LI(nn.Linear(3, 3)))
    made = exported(tmp_path, network=last, to=["artifact", "nir", "verilog", "xylo"], nir_metadata=True)
    for name in ("nir", "verilog"):
        assert made.refused[name].endswith(f"; {first.files[name]} is still that of an export before")
    assert "before" not in made.refused["xylo"]


def test_names_that_no_file_holds_are_refused_before_any_format(tmp_path: Path) -> None:
    for name in ("a\ud800", "a\0b"):
        names = [name, "b", "c"]
        found = said(ExportError, partial(exported, tmp_path / "out", class_names=names, to=["artifact", "c"]))
        assert found == f"names and notes must be texts without zero characters that UTF-8 can write, found {name!r}"
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 2.0**53, 1e20, -1e20, 1.7e308, -1.7e308])
def test_samples_that_are_all_the_same_span_something(value: float) -> None:
    low, high = span_of(torch.full((3, 2), value, dtype=torch.float64))
    assert low <= value < high < math.inf


def test_equal_samples_beyond_what_a_step_of_one_reaches_end_in_a_sentence(tmp_path: Path) -> None:
    large = torch.full((9, 5, 4), 1e20), LABELS
    assert "the membrane holds" in said(ExportError, lambda: exported(tmp_path, large, steps=None))


def test_check_simulate_and_verify_take_names_and_files(tmp_path: Path) -> None:
    path = lfp.export(NAME, out=tmp_path).files["artifact"]
    integers = lfp.load(NAME)
    assert isinstance(integers, IntegerNetwork)
    assert integers.golden is not None
    pixels = integers.golden.inputs
    expected = lfp.simulate(integers, pixels).counts
    for network in (NAME, path, str(path)):
        assert np.array_equal(lfp.simulate(network, pixels).counts, expected)
        assert lfp.check(network, "loihi") == lfp.check(integers, "loihi")
        assert lfp.verify(network, pixels, ["lava"])[0].backend == "lava"
    doors: list[Callable[[Any], object]] = [
        lambda network: lfp.check(network, "loihi"),
        lambda network: lfp.simulate(network, pixels),
        lambda network: lfp.verify(network, pixels, ["c"]),
    ]
    for door in doors:
        assert said(UsageError, lambda door=door: door("mnist-mlp-int9")).startswith("unknown path or network")  # type: ignore[misc]
        found = said(UsageError, lambda door=door: door(nn.Linear(2, 3)))  # type: ignore[misc]
        assert found == (
            "network is Linear, expected an integer network, its file or the name of one in the package: export makes "
            "one"
        )


def test_what_verify_and_check_compare_with_has_a_name() -> None:
    found = said(UsageError, lambda: lfp.verify(NAME, None, []))
    assert found == f"names is empty: name a backend to compare with, of {', '.join(backends())}"
    found = said(UsageError, lambda: lfp.verify(NAME, None, None))  # type: ignore[arg-type]
    assert found == "names must be a name or a list of names, found None"
    for target in (None, ["loihi"]):
        found = said(UsageError, lambda target=target: lfp.check(NAME, target))  # type: ignore[misc]
        assert found.startswith(f"unknown target {target}: known are fpga-small")


def test_backends_are_known_before_the_first_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("spiking_lfp.deploy.backends.c.CRuntime.run", lambda *_: ran.append("c"))
    assert said(UsageError, lambda: lfp.verify(NAME, None, ["c", "see"])).startswith("unknown backend 'see'")
    assert ran == []


def test_inputs_that_do_not_fit_are_named() -> None:
    pixels = np.zeros((1, 1, 28, 28), np.int64)
    for change, sentence in ((-1, "inputs go from -1 to 0, "), (256, "inputs go from 0 to 256, ")):
        pixels[0, 0, 0, 0] = change
        assert said(ExportError, lambda: lfp.simulate(NAME, pixels)) == f"{sentence}expected integers 0..255"
    learned = torch.zeros(1, 1, 28, 28, requires_grad=True)
    assert said(ExportError, lambda: lfp.simulate(NAME, learned)).startswith("inputs are Tensor, expected an array of")
    for values, kind in ((pixels > 0, "bool"), (pixels / 255, "float64")):
        assert said(ExportError, lambda values=values: lfp.simulate(NAME, values)) == (  # type: ignore[misc]
            f"inputs are {kind}, expected integers 0..255: network.integers(values) makes them of real numbers"
        )
    sequences = replace(make.mlp(), encoder="sequence", levels=255)
    for values in ("abc", torch.ones(2, requires_grad=True)):
        found = said(ExportError, lambda values=values: sequences.integers(values))  # type: ignore[misc]
        assert found.endswith("expected numbers in an array on the host")
    found = said(ExportError, lambda: lfp.simulate(sequences, np.ones((12, 2, 30))))
    assert found == "inputs are float64, expected integers 0..255: network.integers(values) makes them of real numbers"


def test_load_says_what_it_takes(tmp_path: Path) -> None:
    for path in (None, 5, b"net.h5"):
        found = said(UsageError, lambda path=path: lfp.load(path))  # type: ignore[misc, arg-type]
        assert "expected the folder of a run, an exported network such as out/net.h5, or the name of one" in found
    assert said(RunError, lambda: lfp.load("x" * 300)).startswith("cannot read xxx")
    for device in ("auto", "cpu"):
        assert isinstance(lfp.load(NAME, device), IntegerNetwork)
    for options, left_out in (({"device": "cuda"}, "device cuda"), ({"network": network()}, "network")):
        given: dict[str, Any] = dict(options)
        found = said(UsageError, lambda given=given: lfp.load(NAME, **given))  # type: ignore[misc]
        assert found.endswith(f"is an integer network, which is complete and runs on the CPU: leave out {left_out}")


def test_what_an_export_made_is_shown_in_a_line(tmp_path: Path) -> None:
    made = exported(tmp_path)
    assert repr(made) == f"Exported(files={{'artifact': {tmp_path / 'net.h5'!r}}}, refused={{}})"
