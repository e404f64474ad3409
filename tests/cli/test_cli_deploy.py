"""From a finished run to integers, files, simulators and the page, by commands."""

import inspect
import json
import re
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from helpers import integer_networks as make
from helpers.small_recordings import write_nmnist
from spiking_lfp.cli import deploy
from spiking_lfp.cli.deploy import _backends, export
from spiking_lfp.data import load_dataset
from spiking_lfp.deploy import conformance
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import compiler
from spiking_lfp.deploy.chips import backends
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import FOLDER, card, markdown, network_names, network_path, rows
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import Agreement

Call = Callable[..., Any]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


@pytest.fixture
def exported(call: Call, finished: Path) -> Path:
    answer = call("export", finished, "--bits", "8", "--calibration", "20", "-o", "out")
    assert (answer.code, answer.err) == (0, "")
    return Path("out/net.h5")


def test_export_writes_every_format_asked_for(call: Call, finished: Path) -> None:
    answer = call("export", finished, "--to", "artifact", "c", "verilog", "--calibration", "20", "-o", "a/b")
    assert (answer.code, answer.err) == (0, "")
    assert sorted(path.name for path in Path("a/b").iterdir()) == ["c", "net.h5", "verilog"]
    for line in ("artifact: a/b/net.h5", "c: a/b/c", "verilog: a/b/verilog"):
        assert line in answer.out
    network = load_network(Path("a/b/net.h5"))
    assert network.steps == 3
    assert network.golden is not None
    assert network.golden.inputs.shape == (4, 1, 28, 28)
    report = json.loads(network.notes["quantisation"])
    assert [line["name"] for line in report["layers"]] == ["1", "2"]
    for line in report["layers"]:
        assert f"{line['disagreement']:.2%}" in answer.out
    for step in report["accuracy"]:
        assert f"{step['accuracy']:.2%}" in answer.out


def test_what_a_format_cannot_hold_is_said_and_the_others_are_complete(call: Call, finished: Path) -> None:
    answer = call("export", finished, "--to", "netx", "artifact", "--calibration", "20", "-o", "out")
    assert answer.code == 1
    refusal, error = answer.err.splitlines()
    assert refusal.startswith("netx: layer 1: ")
    assert error == "error: not every format was written, for the reasons above; the others were"
    assert [path.name for path in Path("out").iterdir()] == ["net.h5"]


@pytest.mark.parametrize("form", ["artifact", "nir", "c", "arduino", "zephyr", "verilog"])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_an_export_as_it_was_and_is_no_fault_of_the_network(
    form: str, before: bool, call: Call
) -> None:
    if form == "nir":
        pytest.importorskip("nir")
    metadata = ["--nir-metadata"] if form == "nir" else []
    words = ("export", "mnist-mlp-ternary", *metadata, "--to", form, "-o", "a/out")
    if before:
        assert call("export", "mnist-mlp-int8", *words[2:]).code == 0
    found = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the largest of the files of a network has more, others have less
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, limits[1]))
    try:
        answer = call(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 1
    says = r"error: cannot write a/out/[\w./]+: File too large; raise the limit of file sizes \(ulimit -f\) or choose "
    assert re.fullmatch(says + r"another folder\n", answer.err)
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == found


def test_a_format_that_cannot_be_written_is_an_error_and_the_others_are_complete(call: Call) -> None:
    Path("out").mkdir()
    Path("out/c").touch()
    answer = call("export", "mnist-mlp-int8", "--to", "c", "artifact", "-o", "out")
    assert (answer.code, answer.err) == (1, "error: cannot create out/c: File exists; choose another folder\n")
    load_network("out/net.h5")


def test_the_example_of_the_help_runs(call: Call, finished: Path) -> None:
    example = (inspect.getdoc(export) or "").splitlines()[-1].split()
    assert example[:3] == ["spiking-lfp", "export", "runs/mnist-mlp"]
    answer = call("export", finished, *example[3:], "--calibration", "20")
    assert (answer.code, answer.err) == (0, "")


def test_what_is_refused_can_be_allowed_by_the_option_that_is_named(call: Call, finished: Path) -> None:
    answer = call("export", finished, "--to", "nir", "netx", "--reset", "zero", "--calibration", "20")
    assert answer.code == 1
    assert "dynamics_in_metadata" not in answer.err
    assert "nir: layer 1: its leak of" in answer.error
    assert "allow it with --nir-metadata" in answer.error
    options = ["--nir-metadata", "--netx-early-bias"]
    answer = call("export", finished, "--to", "nir", "netx", "--reset", "zero", "--calibration", "20", *options)
    assert "nir: out/net.nir\n" in answer.out
    answer = call("export", finished, "--to", "nir", "--nir-for", "sinabs", "--calibration", "20")
    assert (answer.code, answer.error.split(" takes")[0]) == (1, "nir: sinabs")
    answer = call("export", finished, "--to", "nir", "--nir-for", "sinbas", "--calibration", "20")
    assert (answer.code, answer.error[:56]) == (2, "unknown reader of NIR 'sinbas': did you mean 'sinabs'? k")


def test_bits_of_the_training_are_those_of_the_export(call: Call, settings: list[str]) -> None:
    answer = call("train", *settings, "--quantize", "6", "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert call("export", "run", "--calibration", "20").code == 0
    network = load_network(Path("out/net.h5"))
    assert {layer.bits for layer in network.spiking} == {6}
    accuracy = float(call("evaluate", "run").out.split("test accuracy ")[1].split("%")[0])
    answer = call("simulate", "out/net.h5", "--data", "mnist")
    assert f"accuracy {accuracy:.2f}% on 30 samples of mnist" in answer.out


def test_simulate_counts_what_the_simulator_counts(call: Call, exported: Path) -> None:
    answer = call("simulate", exported, "--data", "mnist", "--samples", "7")
    assert (answer.code, answer.err) == (0, "")
    assert "on 7 samples of mnist" in answer.out
    assert "energies are estimates" in answer.out
    network = load_network(exported)
    assert network.golden is not None
    outcome = simulate(network, network.golden.inputs)
    answer = call("simulate", exported)  # the golden run
    assert "accuracy" not in answer.out
    for counters in outcome.counters.values():
        assert f"{counters.synops / 4:,.0f}" in answer.out


def test_check_says_whether_a_network_fits_and_why_not(call: Call, exported: Path) -> None:
    answer = call("check", exported, "--target", "fpga-small")
    assert (answer.code, answer.out, answer.err) == (0, "the network fits fpga-small\n", "")
    answer = call("check", exported, "--target", "loihi")
    reason = "has inputs 0..255, loihi takes spikes only: run this layer elsewhere and send its spikes"
    assert (answer.code, answer.error) == (1, "the network does not fit loihi")
    assert answer.out.splitlines() == [f"layer 1: {reason}", "layer 2: reset is subtract, loihi has zero"]
    answer = call("check", exported)
    assert (answer.code, answer.err) == (0, "")
    for name, fits in (("fpga-small", "yes"), ("loihi", "no"), ("sanafe-loihi", "no")):
        assert any(name in line and fits in line for line in answer.out.splitlines())
    assert "layer 2: reset is subtract, loihi has zero" in answer.out
    answer = call("check", exported, "--target", "loihi2")
    assert answer.code == 2
    assert answer.error.startswith("unknown target 'loihi2': did you mean 'loihi'? known are fpga-small, loihi")


@needs_compiler
def test_verify_compares_and_says_what_it_could_not(call: Call, exported: Path) -> None:
    answer = call("verify", exported, "--with", "c", "lava", "--data", "mnist")
    assert (answer.code, answer.error) == (
        1,
        "nothing was compared with lava: the table says why; install it, or name others in --with",
    )
    lines = [line.split("│") for line in answer.out.splitlines() if line.startswith("│")]
    assert [line[1].strip() for line in lines] == ["c", "c", "lava"]
    assert [line[6].strip() for line in lines[:2]] == ["equal", "equal"]
    assert lines[2][6].strip().startswith("not run: ")


@needs_compiler
def test_a_difference_ends_in_an_error(call: Call, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spiking_lfp.deploy.backends import c

    run = c.CRuntime.run

    def flipped(self: Any, network: Any, inputs: Any) -> Any:
        spikes = run(self, network, inputs)
        spikes["1"][0, 0, 0] ^= 1
        return spikes

    monkeypatch.setattr(c.CRuntime, "run", flipped)
    answer = call("verify", exported)
    assert answer.code == 1
    assert answer.error == "not every layer agrees"
    assert "different" in answer.out


@needs_compiler
def test_verify_names_layers_that_are_silent(call: Call, tmp_path: Path) -> None:
    net = make.mlp((6, 5, 3))
    net = replace(net, layers=tuple(replace(layer, bias=np.zeros_like(layer.bias)) for layer in net.spiking))
    save_network(with_golden_run(net, np.zeros((net.steps, 2, 6), np.uint8)), tmp_path / "net.h5")
    answer = call("verify", tmp_path / "net.h5")
    names = ", ".join(layer.name for layer in net.layers)
    said = f"nothing was compared of {names}, silent for these inputs: give others with --data"
    assert (answer.code, answer.error) == (1, said)


@pytest.mark.parametrize("command", ["simulate", "verify"])
def test_more_samples_than_the_golden_run_has_are_refused(command: str, call: Call, exported: Path) -> None:
    golden = load_network(exported).golden
    assert golden is not None
    count = len(golden.inputs)
    answer = call(command, exported, "--samples", count + 1)
    said = f"the golden run in the file has {count} samples, found --samples {count + 1}: name a data set with --data"
    assert (answer.code, answer.error) == (2, said)
    assert call(command, exported, "--samples", count).code != 2


def test_nothing_compared_is_not_all_is_well(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "nonexistent")
    answer = call("verify", "mnist-mlp-int8")
    assert (answer.code, answer.error[:34]) == (1, "nothing was compared with c: the t")
    assert "not run: a C compiler is needed" in answer.out
    # a chip by the name that was given; one of its backends is enough
    for ran, code in ((set(), 1), ({"brian2-loihi"}, 0)):
        lines = [
            Agreement(name, "1", 5, 0, 9) if name in ran else Agreement(name, None, reason="not there")
            for name in ("brian2-loihi", "lava")
        ]
        monkeypatch.setattr("spiking_lfp.deploy.verify.verify", lambda *_, lines=lines: lines)
        answer = call("verify", "mnist-mlp-int8", "--with", "loihi")
        assert answer.code == code
        assert ("nothing was compared with loihi" in answer.err) == bool(code)


def test_a_page_that_compared_nothing_is_written_and_ends_in_an_error(
    call: Call, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "nonexistent")
    answer = call("report", exported, "--data", "mnist", "--samples", "9", "--with", "c", "-o", "page.html")
    assert (answer.code, answer.error[:34]) == (1, "nothing was compared with c: the t")
    assert "a C compiler is needed" in Path("page.html").read_text()


def test_conformance_with_nothing_is_no_agreement(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [conformance.Row("norse", "all", "skipped", reason="norse is not installed")]
    monkeypatch.setattr(conformance, "conformance", lambda: rows)
    for words in ([], ["--nir-readers"]):
        answer = call("conformance", *words)
        assert (answer.code, answer.error) == (1, "nothing was compared: none of the other packages is installed")


INTEGERS = "the network is in integers already, as it stays: leave out {}, or give the run that it was made from"
UNUSED: list[tuple[list[str], str]] = [
    (["export", "{net}", "--calibration", "3"], INTEGERS.format("--calibration")),
    (["export", "{net}", "--bits", "3", "--per-channel"], INTEGERS.format("--bits and --per-channel")),
    (["export", "{net}", "--data-root", "x"], INTEGERS.format("--data-root")),
    (
        ["export", "{net}", "--to", "c", "--nir-for", "norse", "--nir-metadata", "--netx-early-bias"],
        "no format nir is written: leave out --nir-for and --nir-metadata, or add the format nir",
    ),
    (
        ["export", "{net}", "--netx-early-bias"],
        "no format netx is written: leave out --netx-early-bias, or add the format netx",
    ),
    (["export", "{net}", "--lanes", "3"], "no format verilog is written: leave out --lanes, or add the format verilog"),
    (["export", "{net}", "--board", "rv32"], "no format c is written: leave out --board rv32, or add the format c"),
    (["networks", "{net}", "--markdown"], "--markdown prints all cards: leave out {net}"),
    (["simulate", "{net}", "--data-root", "x"], "no data set is named with --data: leave out --data-root"),
    (["verify", "{net}", "--data-root", "x"], "no data set is named with --data: leave out --data-root"),
    (["report", "{net}", "--live", "--data-root", "x"], "no data set is named with --data: leave out --data-root"),
    (["experiment", "--scale", "paper", "--seeds", "3"], "no experiment is named: leave out --scale and --seeds"),
    (["animate", "{net}", "--frames", "3", "--fps", "9"], "--frames makes one picture: leave out --fps"),
]


@pytest.mark.parametrize(("words", "sentence"), UNUSED)
def test_options_that_would_change_nothing_are_refused(call: Call, words: list[str], sentence: str) -> None:
    name = "mnist-mlp-int8"
    answer = call(*(word.format(net=name) for word in words))
    assert (answer.code, answer.error) == (2, sentence.format(net=name))
    assert list(Path().iterdir()) == []


def test_predict_runs_an_integer_network_on_the_cpu(call: Call) -> None:
    np.save("digit.npy", np.zeros((1, 1, 28, 28), np.uint8))
    assert call("predict", "mnist-mlp-int8", "digit.npy", "--device", "cpu").code == 0
    answer = call("predict", "mnist-mlp-int8", "digit.npy", "--device", "cuda")
    assert answer.code == 2
    assert answer.error.endswith("is complete and runs on the CPU: leave out device cuda")


def test_samples_of_a_live_page_are_there_or_asked_for(call: Call) -> None:
    network = load_network(network_path("mnist-mlp-int8"))
    save_network(replace(network, golden=None), "net.h5")
    answer = call("report", "net.h5", "--live", "--samples", "3")
    assert (answer.code, answer.error) == (2, "the file holds no golden run: name a data set with --data")


def test_a_chip_stands_for_all_its_backends() -> None:
    assert _backends(["c", "verilog", "icarus", "loihi"]) == ["c", "icarus", "verilator", "brian2-loihi", "lava"]


def test_the_page_is_written_beside_the_network(call: Call, exported: Path) -> None:
    answer = call("report", exported, "--data", "mnist", "--samples", "9")
    assert (answer.code, answer.err, answer.out) == (0, "", "out/report.html\n")
    assert "<html" in Path("out/report.html").read_text()
    assert call("report", exported, "--data", "mnist", "-o", "page.html").code == 0
    assert Path("page.html").is_file()


def test_conformance_shows_a_line_for_each_case(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        conformance.Row("snntorch", "dense, to snntorch", "equal", 1234, 5000),
        conformance.Row(f"{conformance.NIR_READ_BY}norse", "LI readout", "refused", reason="[left] out there"),
    ]
    monkeypatch.setattr(conformance, "conformance", lambda: rows)
    answer = call("conformance")
    assert (answer.code, answer.err) == (0, "")
    for text in ("snntorch", "1,234", "equal", "LI readout", "refused", "[left]"):
        assert text in answer.out
    answer = call("conformance", "--nir-readers")
    assert answer.out == "| network | norse |\n|---|---|\n| LI readout | refused (1) |\n\n1. [left] out there\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--to", "onnx"], "unknown format 'onnx'"),
        (["--scale", "maxx"], "unknown scale 'maxx': did you mean 'max'?"),
        (["--reset", "none"], "unknown reset 'none'"),
        (["--bits", "1"], "bits must be 2..8, found 1"),
    ],
)
def test_words_that_export_does_not_know(call: Call, finished: Path, words: list[str], error: str) -> None:
    answer = call("export", finished, *words)
    assert answer.code == 2
    assert answer.error.startswith(error)
    assert not Path("out").exists()


def test_files_and_numbers_that_do_not_fit(call: Call, exported: Path) -> None:
    Path("foreign.h5").write_bytes(b"nothing")
    answer = call("simulate", "foreign.h5")
    assert answer.code == 1
    assert "foreign.h5" in answer.error
    answer = call("simulate", exported, "--samples", "0")
    assert (answer.code, answer.error) == (2, "samples must be at least 1, found 0")
    answer = call("verify", exported, "--with", "spinnaker")
    assert answer.code == 2
    assert all(name in answer.error for name in backends())
    answer = call("verify", exported, "--with", "fpga-small")
    assert answer.error.startswith("unknown backend 'fpga-small'")
    answer = call("export", "nowhere")
    assert answer.code == 2
    assert answer.error.startswith("unknown path or network 'nowhere': known are ")
    Path("blocked").write_text("a file")
    answer = call("report", exported, "--data", "mnist", "-o", "blocked/page.html")
    assert answer.code == 1
    assert "blocked" in answer.error


def test_a_network_of_recordings_is_exported_and_simulated_on_recordings(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    write_nmnist(tmp_path / "events")
    changes = ("hidden=20", "augment=", "copies=1", "threshold=0.01")
    settings = ["nmnist-mlp", "--epochs", 1, "--steps", 4, *(f"--set={change}" for change in changes)]
    root = ("--data-root", tmp_path / "events")
    trained = call("train", *settings, *root, "--out", tmp_path / "run")
    assert trained.code == 0
    assert "data: 20 training and 20 test recordings of n-mnist\n" in trained.out
    assert call("export", tmp_path / "run", *root, "--out", tmp_path / "out").code == 0
    found = call("simulate", tmp_path / "out" / "net.h5", "--data", "n-mnist", *root)
    assert found.code == 0
    assert "on 20 samples of n-mnist" in found.out
    counted = call("train", *settings, "--set", "values=count", *root, "--out", tmp_path / "counted")
    assert counted.code == 0
    assert call("export", tmp_path / "counted", *root, "--out", tmp_path / "counts").code == 0
    # numbers of events stay as they are
    assert load_network(tmp_path / "counts" / "net.h5").span == (0.0, 255.0)
    assert call("simulate", tmp_path / "counts" / "net.h5", "--data", "n-mnist", *root).code == 0


def test_the_page_is_about_the_data_of_the_training(call: Call, exported: Path) -> None:
    """Those that the file names, spikes of recordings too; before, about digits, whatever the network was for."""
    answer = call("report", exported, "--samples", "9")
    assert (answer.code, answer.err) == (0, "")
    page = Path("out/report.html").read_text()
    assert "9 samples" in page.replace("\n", " ")
    network = load_network(exported)
    assert network.notes["data"] == "mnist"
    for named in ({}, {"data": "own"}):
        notes = {key: text for key, text in network.notes.items() if key != "data"} | named
        save_network(replace(network, notes=notes), "silent.h5")
        answer = call("report", "silent.h5")
        assert (answer.code, answer.error) == (
            2,
            "the file names no data set that could be loaded: name one with --data",
        )


def test_the_page_of_a_network_for_recordings(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    write_nmnist(tmp_path / "events")
    root = ("--data-root", tmp_path / "events")
    changes = ("hidden=20", "augment=", "copies=1", "threshold=0.01")
    settings = ["nmnist-mlp", "--epochs", 1, "--steps", 6, *(f"--set={change}" for change in changes)]
    assert call("train", *settings, *root, "--out", tmp_path / "run").code == 0
    assert call("export", tmp_path / "run", *root, "--out", tmp_path / "out").code == 0
    asked: list[tuple[int, ...]] = []

    def compare(network: IntegerNetwork, inputs: Any, backends: list[str]) -> list[Agreement]:
        asked.append(inputs.shape)
        return [Agreement(name, "1", 5, 0, 9) for name in backends]

    monkeypatch.setattr("spiking_lfp.deploy.verify.verify", compare)
    answer = call("report", tmp_path / "out" / "net.h5", *root, "--with", "c")
    assert (answer.code, answer.err) == (0, "")
    assert asked == [(6, 4, 2, 34, 34)]  # few recordings, with all their steps


def test_help_names_the_defaults_that_depend_on_the_network(call: Call) -> None:
    """Rich takes what stands in brackets in a help text for markup and leaves it out."""
    for command, default in (
        ("export", "those of the training"),
        ("simulate", "golden run"),
        ("verify", "(c)"),
        ("report", "that of the training"),
    ):
        answer = call(command, "--help")
        assert answer.code == 0
        assert default in " ".join(answer.out.replace("│", " ").split())


def test_networks_in_the_package_are_listed_in_80_columns(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "out", Console(width=80))
    answer = call("networks")
    assert (answer.code, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80
    for name in network_names():
        assert any(name in line and f"{card(name).results.accuracy:.2%}" in line for line in answer.out.splitlines())
    for name in network_names():
        answer = call("networks", name)
        assert answer.code == 0
        letters = "".join(answer.out.split())
        for _, text in rows(name):
            assert "".join(text.split()) in letters
    assert call("networks", "--markdown").out == markdown()
    answer = call("networks", "mnist-mlp-in8")
    assert (answer.code, answer.error[:74]) == (
        2,
        "unknown network 'mnist-mlp-in8': did you mean 'mnist-mlp-int8'? known are ",
    )


def test_commands_take_a_name_where_they_take_a_file(call: Call, tmp_path: Path) -> None:
    name, before = "mnist-mlp-int8", sorted(FOLDER.iterdir())
    image = load_dataset("mnist-subset").test_images[0, 0].numpy()
    Image.fromarray(image).save("digit.png")
    for words in (
        ["simulate", name, "--data", "mnist-subset", "--samples", "20"],
        ["simulate", name],
        ["check", name],
        ["report", name, "--data", "mnist-subset", "--samples", "20"],
        ["convert", "digit.png", "--for", name],
        ["predict", name, "digit.png"],
        ["export", name, "--to", "c", "nir", "--nir-metadata"],
    ):
        answer = call(*words)
        assert (answer.code, answer.err) == (0, ""), words
    assert Path("samples.bin").read_bytes() == image.tobytes()
    assert sorted(path.name for path in Path().iterdir()) == ["digit.png", "out", "report.html", "samples.bin"]
    assert sorted(FOLDER.iterdir()) == before
    for command in (["simulate"], ["verify"], ["convert", "digit.png", "--for"], ["export"]):
        answer = call(*command, "mnist-mlp-int9")
        assert answer.code == 2
        assert answer.error.startswith("unknown path or network 'mnist-mlp-int9': did you mean 'mnist-mlp-int8'?")
    answer = call("predict", "mnist-mlp-int9", "digit.png")
    assert (answer.code, answer.error[:40]) == (2, "unknown path or network 'mnist-mlp-int9'")


@needs_compiler
def test_verify_takes_a_name(call: Call) -> None:
    answer = call("verify", "mnist-mlp-int8")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.count("equal") == 2


def test_the_demo_shows_digits_and_what_a_network_takes_them_for(call: Call) -> None:
    answer = call("demo")
    assert (answer.code, answer.err) == (0, "")
    network, digits = load_network(network_path("mnist-mlp-int8")), load_dataset("mnist-subset")
    right = simulate(network, digits.test_images.numpy()).predictions == digits.test_labels.numpy()
    assert f"{right.sum():,} of 2,000 test digits right" in answer.out
    assert answer.out.count(", it is ") == 3
    assert max(map(len, map(str.rstrip, answer.out.splitlines()))) <= 100
