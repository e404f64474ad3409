"""Integer networks whose neurons see their own spikes, and whose inputs are other integers in every step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile
from torch import nn
from typer.testing import CliRunner

from helpers import integer_networks as make
from spiking_lfp import LI, LIF, Flatten, RecurrentLIF, export, fit
from spiking_lfp.cli.main import app
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.costs import MULTIPLY_8, costs
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.layers import Pad, Recurrent
from spiking_lfp.deploy.live import write_live
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import convert_files, predict_files
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import Stream, simulate, with_golden_run
from spiking_lfp.errors import ExportError, RunError
from spiking_lfp.training import resume

no_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler: install cc, gcc or clang")
STRICT = CRuntime(
    ("-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)


def random_network(seed: int, levels: int, in_time: bool, factor: int, bits: int) -> IntegerNetwork:
    frac_bits = 6 if levels == 1 else 0
    factor = min(factor, 20 * levels)
    first = make.recurrent("0", 7, 9, seed, factor, frac_bits=min(frac_bits, 3), levels=levels, bits=bits)
    second = make.recurrent("1", 9, 4, seed + 1, reset="zero", bits=bits)
    return make.network([first, second], 6, levels, (-1.5, 2.5) if in_time and levels > 1 else None)


cases = given(
    st.integers(0, 2**31), st.sampled_from([1, 15, 255]), st.booleans(), st.integers(1, 400), st.sampled_from([2, 4, 8])
)


@settings(max_examples=25)
@cases
def test_they_are_the_rule_neuron_by_neuron(seed: int, levels: int, in_time: bool, factor: int, bits: int) -> None:
    net = random_network(seed, levels, in_time, factor, bits)
    inputs = make.inputs_for(net, 2, seed)
    for name, spikes in make.slowly(net, inputs).items():
        np.testing.assert_array_equal(simulate(net, inputs, record=True).spikes[name], spikes)


@no_compiler
@settings(max_examples=12)
@cases
def test_they_run_in_c(seed: int, levels: int, in_time: bool, factor: int, bits: int) -> None:
    net = random_network(seed, levels, in_time, factor, bits)
    inputs = make.inputs_for(net, 3, seed)
    found = STRICT.run(net, inputs)
    for name, spikes in simulate(net, inputs, record=True).spikes.items():
        np.testing.assert_array_equal(found[name], spikes)


@pytest.mark.parametrize("in_time", [False, True])
def test_files_hold_them(in_time: bool, tmp_path: Path) -> None:
    net = random_network(3, 255, in_time, 30, 8)
    net = with_golden_run(net, make.inputs_for(net, 2))
    save_network(net, tmp_path / "net.h5")
    found = load_network(tmp_path / "net.h5")
    assert found.span == net.span
    for mine, theirs in zip(found.layers, net.layers, strict=True):
        make.assert_same_fields(mine, theirs)
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        assert file.attrs["schema"] == 3
        assert ("span" in file) == in_time
        if in_time:
            file["span"][:] = [2.5, -1.5]
        else:
            file["layers/000/recurrent"][0, 0] = -128
    said = "stand for 2.5 to -1.5, expected two numbers" if in_time else "a recurrent weight is 128, 8 bits hold 127"
    with pytest.raises(ExportError, match=said):
        load_network(tmp_path / "net.h5")


def test_currents_of_own_spikes_count_for_the_room_of_membranes() -> None:
    layer = make.recurrent("0", 4, 200, factor=4000, frac_bits=0)
    with pytest.raises(ExportError, match=r"layer 0: the currents of one step may add up to \d+, the"):
        make.network([layer])
    own = np.abs(layer.recurrent.astype(int)).max()
    quiet = replace(layer, recurrent=np.zeros_like(layer.recurrent))
    assert own == 127
    make.network([quiet])


def test_memory_synapses_and_operations_are_those_of_all_weights() -> None:
    net = random_network(1, 255, True, 30, 8)
    layer, inputs = net.spiking[0], make.inputs_for(net, 5)
    assert (layer.weights, layer.synapses) == (7 * 9 + 81, 7 * 9 + 81)
    outcome = simulate(net, inputs, record=True)
    # those of the last step reach nobody any more
    own = int((outcome.spikes["0"][:-1] != 0).sum()) * 9
    counted = outcome.counters["0"]
    assert (counted.recurrent, counted.synops) == (own, own + int((inputs != 0).sum()) * 9)
    first = costs(net, outcome).layers[0]
    assert (first.synops, first.macs) == pytest.approx((own / 5, int((inputs != 0).sum()) * 9 / 5))
    # a spike of its own takes no multiplication
    without = costs(net, replace(outcome, counters={**outcome.counters, "0": replace(counted, recurrent=0)})).layers[0]
    assert without.energy_45nm - first.energy_45nm == pytest.approx(own / 5 * MULTIPLY_8.picojoules)


def test_what_cannot_hold_them_says_so(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    own = make.network([make.recurrent("0", 5, 4, reset="zero")])
    own = replace(own, layers=(replace(own.layers[0], bias=np.zeros(4, np.int32)),))
    plain = make.dense("0", 5, 4, reset="zero", levels=9)
    in_time = make.network([replace(plain, bias=plain.bias * 0)], 6, 9, (0.0, 9.0))
    writers: dict[str, Callable[[IntegerNetwork], Any]] = {
        "netx": lambda net: write_netx(net, tmp_path / "x"),
        "NIR": lambda net: write_nir(net, tmp_path / "x", dynamics_in_metadata=True),
        "the Verilog core": lambda net: write_verilog(net, tmp_path / "x"),
    }
    said = {
        "netx": "inputs are 0..9, netx layers take spikes",
        "NIR": "integers 0..9 of every step, and integer networks",
    }
    for where, write in writers.items():
        with pytest.raises(ExportError, match=f"layer 0: Recurrent is not supported by {where}"):
            write(own)
        with pytest.raises(ExportError, match=said.get(where, "inputs 0..9 of every step: the core takes spikes")):
            write(in_time)
    assert backend("sanafe").unsupported(own) == "layer 0: Recurrent is not supported by external simulators"
    assert "takes spikes, and the network takes integers 0..9" in str(backend("sanafe").unsupported(in_time))
    assert not any(tmp_path.iterdir())
    assert not any("Recurrent" in reason for reason in check(own, "loihi"))


# from a network


def recurrent_network(inputs: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    hidden = RecurrentLIF(nn.Linear(inputs, 20), threshold=0.5), RecurrentLIF(nn.Linear(20, 12), reset="zero")
    return nn.Sequential(*hidden, LI(nn.Linear(12, 3)))


LABELS = torch.arange(40) % 3


def test_recurrent_weights_that_integers_hold_give_the_spikes_of_the_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(RecurrentLIF(nn.Linear(6, 20), 1.0, 40.0), RecurrentLIF(nn.Linear(20, 3), 1.0, 25.0, "zero"))
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randint(-90, 128, weight.shape))
        for layer in net:
            layer.synapse.weight[0, 0] = layer.recurrent.weight[0, 0] = 127.0
    x = (torch.rand(40, 12, 6) < 0.3).float()
    found = export(net, (x, LABELS), out=tmp_path, scale="max").network
    outcome = simulate(found, x.transpose(0, 1).byte(), record=True)
    expected = x.transpose(0, 1)
    for name, layer in net.named_children():
        expected = layer(expected)
        assert 0.05 < expected.mean() < 0.95
        np.testing.assert_array_equal(outcome.spikes[name], expected.detach().numpy())


@pytest.mark.parametrize("bits", [8, 4])
def test_real_sequences_become_integers_of_a_span(bits: int, tmp_path: Path) -> None:
    x = torch.randn(40, 12, 6) * 3 + 1
    net = recurrent_network()
    exported = export(net, (x, LABELS), out=tmp_path, bits=bits)
    found, report = exported.network, exported.report
    assert (found.encoder, found.levels, found.span) == ("sequence", 255, (float(x.min()), float(x.max())))
    assert report is not None
    assert report.layers[0].disagreement < (0.05 if bits == 8 else 0.2)
    # the integers stand for values half a unit away at most, and what lies beyond is cut off
    integers = found.integers(x)
    unit = (found.span[1] - found.span[0]) / 255
    np.testing.assert_allclose(integers * unit + found.span[0], x.numpy(), atol=unit / 2 * (1 + 1e-6))
    assert found.integers([-1e9, 1e9, np.inf]).tolist() == [0, 255, 255]
    with pytest.raises(ExportError, match="inputs hold NaN"):
        found.integers([0.0, np.nan])
    # a step at a time
    stream = Stream(found, 40)
    for t, spikes in enumerate(simulate(found, integers.swapaxes(0, 1), record=True).spikes["0"]):
        np.testing.assert_array_equal(stream.step(integers[:, t])["0"], spikes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["spikes", "sequence", "constant"])
def test_networks_of_other_precisions_are_exported(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    x = torch.randn(40, 12, 6) if kind == "sequence" else (torch.rand(40, 12, 6) < 0.3).float()
    values, steps = (torch.rand(40, 6), 12) if kind == "constant" else (x, None)
    exported = export(recurrent_network().to(dtype), (values, LABELS), steps=steps, out=tmp_path)
    assert exported.network.encoder == kind
    assert exported.report is not None
    assert exported.report.layers[0].disagreement < 0.05


def test_a_sequence_of_one_value_has_a_span(tmp_path: Path) -> None:
    found = export(recurrent_network(), (torch.full((40, 12, 6), 0.5), LABELS), out=tmp_path).network
    assert found.span == (0.5, 1.5)


def test_counts_of_events_stay_as_they_are(tmp_path: Path) -> None:
    x = torch.poisson(torch.rand(40, 12, 6) * 3)
    found = export(nn.Sequential(LIF(nn.Linear(6, 3), threshold=0.3)), (x, LABELS), out=tmp_path).network
    assert found.span == (0.0, 255.0)
    assert torch.equal(torch.from_numpy(found.integers(x)).float(), x)


def test_a_padded_convolution_has_a_border_of_the_integer_for_0(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(LIF(nn.Conv1d(2, 5, 3, padding=1), threshold=0.4), Flatten(), LIF(nn.Linear(20, 3)))
    x = torch.randn(40, 12, 2, 4).clamp(-2, 3)
    made = export(net, (x, LABELS), out=tmp_path)
    border = made.network.layers[0]
    assert isinstance(border, Pad)
    assert border.fill.tolist() == [102, 102]  # 0 of -2..3 in 0..255
    assert made.report is not None
    assert made.report.layers[0].disagreement < 0.03
    with pytest.raises(ExportError, match="layer 0: pads its inputs with zeros, which lie outside of what the calibra"):
        export(net, (x.abs() + 0.1, LABELS), out=tmp_path)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Notes of two kinds, `CLASS/N.wav`."""
    folder = tmp_path_factory.mktemp("sounds") / "notes"
    time = np.arange(4000) / 8000
    for name, pitch in (("low", 300), ("high", 1900)):
        (folder / name).mkdir(parents=True)
        for k in range(8):
            wave = np.sin(2 * np.pi * pitch * (1 + k / 40) * time) * 12_000
            wavfile.write(folder / name / f"{k}.wav", 8000, wave.astype(np.int16))
    return folder


@no_compiler
def test_sound_from_the_file_to_the_class(sounds: Path, tmp_path: Path) -> None:
    """Trained by the recurrent stack on bands, exported, asked by commands, in C, and shown in a page."""
    how = {
        "encoding": "sequence",
        "mel_bands": 8,
        "steps": 10,
        "normalize": True,
        "layers": "16R",
        "readout": "membrane",
    }
    run = fit("stack", str(sounds), out=tmp_path / "run", epochs=8, lr=5e-3, batch_size=4, progress=False, **how)
    exported = export(run, out=tmp_path / "out", to=["artifact", "c"])
    net = exported.network
    assert isinstance(net.layers[0], Recurrent)
    files = sorted(sounds.glob("*/*.wav"))
    names, said = predict_files(net, files)
    assert [said.class_names[k] for k in said.labels] == [Path(name).parent.name for name in names]
    np.testing.assert_allclose(said.scores, run.predict_files(files)[1].scores, atol=0.5)
    call = CliRunner().invoke(app, ["predict", str(tmp_path / "out" / "net.h5"), *map(str, files[:2])])
    assert call.exit_code == 0, call.output
    assert call.output.count("high") >= 2
    save_network(net, tmp_path / "net.h5")
    write_live(tmp_path / "live.html", net)
    assert "other ones in each of 10 steps" in (tmp_path / "live.html").read_text()
    write_c(net, tmp_path / "c")
    found = STRICT.run(net, net.golden.inputs if net.golden else np.empty(0))
    assert net.golden is not None
    for name, values in net.golden.spikes.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_report_draws_sequences(tmp_path: Path) -> None:
    net = random_network(1, 255, True, 30, 8)
    write_report(tmp_path / "report.html", net, make.inputs_for(net, 3), np.array([0, 1, 2]))
    text = (tmp_path / "report.html").read_text()
    assert "integers 0 to 255, other ones in each of 6 steps" in text
    assert text.count("data:image/png") >= 3


@pytest.mark.parametrize("encoding", ["rate", "latency"])
def test_a_run_in_integers_on_encoded_spikes_and_its_export_answer_alike(encoding: str, tmp_path: Path) -> None:
    """In the commands, too; what is drawn at random is the same each time."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (60, 12)).astype(np.uint8)
    np.savez(tmp_path / "pixels.npz", x=values, y=values[:, 0] > 127)
    np.save(tmp_path / "new.npy", values[:9])
    how = {"encoding": encoding, "steps": 9, "quantize": 8, "threshold": 0.3, "gain": 4.0, "hidden": (10,)}
    run = fit("mlp", str(tmp_path / "pixels.npz"), out=tmp_path / "run", epochs=2, batch_size=4, progress=False, **how)
    first, second = (export(run, out=tmp_path / name).network for name in "ab")
    assert (tmp_path / "a" / "net.h5").read_bytes() == (tmp_path / "b" / "net.h5").read_bytes()
    assert first.golden is not None
    assert second.golden is not None
    assert np.array_equal(first.golden.inputs, second.golden.inputs)
    _, said = predict_files(first, tmp_path / "new.npy")
    _, expected = run.predict_files(tmp_path / "new.npy")
    assert said.scores.any()
    np.testing.assert_allclose(said.scores, expected.scores, rtol=1e-6)
    assert convert_files(first, tmp_path / "new.npy") == convert_files(first, tmp_path / "new.npy")
    found = CliRunner().invoke(
        app, ["simulate", str(tmp_path / "a" / "net.h5"), "--data", str(tmp_path / "pixels.npz")]
    )
    assert found.output.startswith(f"accuracy {run.evaluate().accuracy:.2%} on ")
    content = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    content["data"]["levels"] = 255
    torch.save(content, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(RunError, match="integers of which 255 stand for an input of 1, it is 1 now: train again"):
        resume(tmp_path / "run", progress=False)


def sequences_in_files(folder: Path, lengths: tuple[int, ...]) -> list[Path]:
    paths = [folder / f"{number}.npy" for number in range(len(lengths))]
    for path, length in zip(paths, lengths, strict=True):
        np.save(path, np.random.default_rng(length).normal(size=(length, 4)).astype(np.float32))
    return paths


def test_files_of_other_lengths_are_neither_brought_to_bins_nor_scored_by_the_steps_of_the_calibration(
    tmp_path: Path,
) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(LIF(nn.Linear(4, 8), threshold=0.3), LIF(nn.Linear(8, 3), threshold=0.1))
    made = export(network, (torch.randn(9, 10, 4), [0, 1, 2] * 3), out=tmp_path).network
    paths = sequences_in_files(tmp_path, (10, 20, 20, 7))
    _, found = predict_files(made, paths)
    for path, scores in zip(paths, found.scores, strict=True):
        x = made.integers(np.load(path)[:, None])
        np.testing.assert_array_equal(scores, simulate(made, x).counts[0] / len(x))
    assert found.scores.count_nonzero()
    assert len(convert_files(made, paths[0])[1]) == 10 * 4
    with pytest.raises(ExportError, match=r"1\.npy has 20 steps, the network takes 10"):
        convert_files(made, paths[1])
