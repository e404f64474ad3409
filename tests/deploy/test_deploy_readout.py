"""A mono readout goes with the network: the host's scores are those of training, files hold it, chips do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from spiking_lfp import MonoReadout, constant, mlp, run_in_integers
from spiking_lfp.cli.main import app
from spiking_lfp.deploy.artifact import checksum, load_network, save_network
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError
from spiking_lfp.nn.networks import with_mono_readout

STEPS = 7
IMAGES = torch.randint(0, 256, (20, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
NAMES = ("a", "b", "c")


def trained(**arguments: Any) -> nn.Sequential:
    torch.manual_seed(0)
    network = with_mono_readout(mlp((1, 6, 6), 3, (13,), gain=3.0), (5, 4), "pairwise")
    if arguments:
        network[-1] = MonoReadout(13, 3, (5, 4), **arguments)
    return network.eval()


def exported(network: nn.Sequential) -> IntegerNetwork:
    return quantize(network, IMAGES, torch.zeros(20, dtype=torch.long), STEPS, NAMES)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scheme": "one-vs-rest", "windows": 3},
        {"beta": 0.8, "windows": 2, "activation": "relu"},
        {"activation": "hard-tanh"},
    ],
)
def test_the_hosts_scores_are_those_of_training_in_integers(arguments: dict[str, Any]) -> None:
    network = trained(**arguments)
    run_in_integers(network, 8)
    outcome = simulate(exported(network), IMAGES.numpy())
    with torch.no_grad():
        scores = network(constant(IMAGES.float() / 255, STEPS))[0]
    assert outcome.scores is not None
    assert outcome.counts.any()
    np.testing.assert_allclose(outcome.scores, scores.numpy(), rtol=1e-4, atol=1e-5)
    assert outcome.predictions.tolist() == scores.argmax(1).tolist()
    assert len(np.unique(outcome.scores.round(3))) > 3


def test_a_file_holds_it_whole(tmp_path: Path) -> None:
    network = with_golden_run(exported(trained(windows=2, beta=0.9)), IMAGES.numpy()[:3])
    save_network(network, tmp_path / "net.h5")
    found = load_network(tmp_path / "net.h5")
    assert checksum(found) == checksum(network)
    one, other = (simulate(each, IMAGES.numpy()) for each in (network, found))
    assert one.scores is not None
    assert other.scores is not None
    assert np.array_equal(one.scores, other.scores)
    # every number of the readout counts in the checksum
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        file["readout/001/002/bias"][0] += 1
    with pytest.raises(ExportError, match="is damaged: its content has checksum"):
        load_network(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        del file["readout/001/002/bias"]
    with pytest.raises(ExportError, match=r"/readout/001/002/bias is missing, expected a data set float32 \[any\]"):
        load_network(tmp_path / "net.h5")


def test_what_does_not_fit_is_refused() -> None:
    network = exported(trained())
    readout = network.readout
    assert readout is not None
    lost = np.full_like(readout.nets[0][0][0], np.nan)
    for change, message in (
        ({"windows": 8}, "8 windows, beta 1.0 and activation 'tanh' do not fit 7 steps"),
        ({"activation": "sigmoid"}, "activation 'sigmoid'"),
        ({"polarity": readout.polarity[1:]}, "a polarity of 1 or -1 for each of 13 neurons"),
        ({"code": readout.code[:, 1:]}, r"a code of \[3, 2\] does not fit 3 decisions"),
        ({"nets": readout.nets[::-1]}, "a layer of decision 0 does not fit its 5 inputs"),
        ({"nets": tuple(net[:-1] for net in readout.nets)}, "decision 0 has 4 outputs, expected 1"),
        ({"nets": (((lost, readout.nets[0][0][1]), *readout.nets[0][1:]), *readout.nets[1:])}, "NaN or infinite"),
    ):
        with pytest.raises(ExportError, match=message):
            replace(network, readout=replace(readout, **change)).check()
    with pytest.raises(ExportError, match=r"outputs are \[3\], but there are 2 class names"):
        replace(network, class_names=("a", "b")).check()


def test_chips_leave_it_out(tmp_path: Path) -> None:
    network = exported(trained())
    chip = network.without_readout().check()
    assert chip.class_names[12] == "neuron 12"
    assert simulate(chip, IMAGES.numpy()).scores is None
    assert chip.without_readout() is chip
    [agreement] = verify(network, IMAGES.numpy()[:3], ["c"])
    assert agreement.agrees or "compiler" in agreement.reason
    write_nir(chip, tmp_path / "net.nir", dynamics_in_metadata=True)
    with pytest.raises(ExportError, match="a network with a readout on the host has none"):
        write_report(tmp_path / "r.html", network, IMAGES.numpy(), np.zeros(20, np.int64))


def test_from_training_to_the_simulator_by_the_command(tmp_path: Path) -> None:
    run, made = str(tmp_path / "run"), str(tmp_path / "out")
    settings = ["--set", "hidden=40", "--readout", "mono", "--epochs", "1", "--steps", "5", "--out", run]
    for words, said in (
        (["train", "mnist-mlp", *settings], "test accuracy"),
        (["export", run, "--to", "artifact", "c", "-o", made], "without the readout, which runs on the host"),
        (["simulate", f"{made}/net.h5", "--data", "mnist-subset", "--samples", "500"], "accuracy"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        assert said in result.output
    assert float(result.output.split("accuracy ")[1].split("%")[0]) > 70
