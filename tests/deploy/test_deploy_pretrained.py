"""The networks in the package: that they are what their cards say, and are found by name."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spiking_lfp
from spiking_lfp.data import load_samples
from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.backends.c import compiler
from spiking_lfp.deploy.costs import costs, footprint
from spiking_lfp.deploy.export import network_inputs
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import reader_of
from spiking_lfp.deploy.pretrained import FOLDER, card, markdown, network_names, network_path
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError, RunError, UsageError
from spiking_lfp.training import preset_config

ROOT = Path(__file__).parents[2]
NAMES = network_names()
REAL = os.environ.get("SPIKING_LFP_DATA")


@pytest.fixture(scope="module")
def networks() -> dict[str, IntegerNetwork]:
    return {name: load_network(network_path(name)) for name in NAMES}


def test_there_are_networks_and_every_one_has_a_card_and_a_licence() -> None:
    assert {path.suffix for path in FOLDER.iterdir()} == {".h5", ".toml", ".md"}
    assert sorted(path.stem for path in FOLDER.glob("*.h5")) == NAMES
    licences = (FOLDER / "LICENSE.md").read_text()
    assert {"mnist", "n-mnist", "braille"} == {card(name).data.name for name in NAMES}
    for name in NAMES:
        assert f"`{name}.h5`" in licences
        assert card(name).licence.name in licences
    # they are in every wheel
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_of_its_network(name: str, networks: dict[str, IntegerNetwork]) -> None:
    it, network = card(name), networks[name]
    assert it.sha256 == hashlib.sha256((FOLDER / f"{name}.h5").read_bytes()).hexdigest()
    assert it.network.weights == sum(layer.weight.size for layer in network.spiking)
    assert it.network.memory == sum(footprint(layer).total for layer in network.spiking)
    assert {it.network.bits} == {layer.bits for layer in network.spiking}
    assert it.network.steps == network.steps
    assert it.network.layers.endswith(f"-{len(network.class_names)}")
    # the command that made it has these settings
    train, export = it.training.commands
    _, _, preset, *words = train.split()
    changes = dict(word.removeprefix("--set=").split("=", 1) for word in words if word.startswith("--set="))
    config = preset_config(preset, changes)
    assert (config.data, config.steps) == (it.data.name, network.steps)
    assert reader_of(network).recipe == config.recipe
    assert not config.validation
    assert (it.results.real_accuracy is None) == bool(config.quantize)
    assert config.quantize in (0, it.network.bits)
    assert export.startswith(f"spiking-lfp export runs/{name}")
    for part in (it.data, it.network, it.training, it.results, it.licence):
        for key, value in part.model_dump().items():
            assert value or (key, value) in (("macs", 0), ("real_accuracy", None)), key


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_run_is_what_simulator_and_c_do(name: str, networks: dict[str, IntegerNetwork]) -> None:
    network = networks[name]
    assert network.golden is not None
    again = simulate(network, network.golden.inputs, record=True).spikes
    assert again.keys() == network.golden.spikes.keys()
    for layer, spikes in again.items():
        assert spikes.any()
        np.testing.assert_array_equal(spikes, network.golden.spikes[layer])
    if compiler() is None:
        pytest.skip("the simulator agrees; there is no C compiler")
    assert all(line.agrees for line in verify(network, network.golden.inputs, ["c"]))


def on_test_samples(network: IntegerNetwork, data: str, root: str | None = None) -> tuple[float, Any]:
    """Return the accuracy on all test samples, and what an inference costs."""
    reader = reader_of(network)
    recipe = reader.recipe.model_copy(update={"augment": (), "copies": 1})  # of training samples only
    split = load_samples(data, recipe, reader.inputs, root).test
    inputs, labels, _ = network_inputs(split, len(split))
    outcome = simulate(network, inputs.numpy())
    return float((outcome.predictions == labels.numpy()).mean()), costs(network, outcome).total


@pytest.mark.parametrize("name", [name for name in NAMES if card(name).data.name == "mnist"])
def test_digits_in_the_package_are_recognised_as_the_card_says(name: str, networks: dict[str, IntegerNetwork]) -> None:
    said = card(name).results
    accuracy, total = on_test_samples(networks[name], "mnist-subset")
    # a fifth of the test samples: four standard deviations
    assert accuracy == pytest.approx(said.accuracy, abs=4 * (said.accuracy * (1 - said.accuracy) / 2000) ** 0.5)
    assert total.spikes == pytest.approx(said.spikes, rel=0.02)
    assert total.synops == pytest.approx(said.synops, rel=0.02)


@pytest.mark.skipif(REAL is None, reason="needs SPIKING_LFP_DATA, a folder with complete data sets")
@pytest.mark.parametrize("name", [name for name in NAMES if "conv" not in name or card(name).data.name != "mnist"])
def test_results_on_all_test_samples_are_those_of_the_card(
    name: str, networks: dict[str, IntegerNetwork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path))
    said = card(name).results
    accuracy, total = on_test_samples(networks[name], card(name).data.name, REAL)
    assert accuracy == pytest.approx(said.accuracy, abs=1e-12)
    assert (total.spikes, total.synops, total.macs) == pytest.approx((said.spikes, said.synops, said.macs))
    assert total.energy_45nm / 1000 == pytest.approx(said.energy_45nm)
    assert total.energy_loihi / 1000 == pytest.approx(said.energy_loihi)


def test_the_page_is_that_of_the_cards() -> None:
    assert (ROOT / "docs" / "networks.md").read_text() == markdown()


def test_a_name_is_a_network_and_a_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = NAMES[:2]
    network = spiking_lfp.load(first)
    assert isinstance(network, IntegerNetwork)
    assert network.in_shape == load_network(FOLDER / f"{first}.h5").in_shape
    shutil.copy(FOLDER / f"{second}.h5", first)
    assert network_path(first) == Path(first)
    found = spiking_lfp.load(first)
    assert isinstance(found, IntegerNetwork)
    assert found.notes == load_network(FOLDER / f"{second}.h5").notes


def test_unknown_names_are_told_from_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = ", ".join(NAMES)
    sentence = f"^unknown path or network 'mnist-mpl-int8': did you mean 'mnist-mlp-int8'\\? known are {known}$"
    for door in (spiking_lfp.load, network_path, spiking_lfp.export):
        with pytest.raises(UsageError, match=sentence):
            door("mnist-mpl-int8")
    with pytest.raises(UsageError, match=r"^unknown network '\.\./networks/mnist-mlp-int8'"):
        card("../networks/mnist-mlp-int8")
    for path in ("mnist-mlp-int8.h5", "runs/mnist-mlp-int8", ""):
        assert network_path(path) == Path(path)
    with pytest.raises(RunError, match=r"there is no mnist-mlp-int8\.h5: give the folder of a run"):
        spiking_lfp.load("mnist-mlp-int8.h5")


def test_a_network_in_integers_is_exported_as_it_is(tmp_path: Path, networks: dict[str, IntegerNetwork]) -> None:
    name = NAMES[0]
    for network in (name, network_path(name), networks[name]):
        made = spiking_lfp.export(network, out=tmp_path, to=["artifact", "c"])
        assert made.report is None
        assert (tmp_path / "net.h5").read_bytes() == (FOLDER / f"{name}.h5").read_bytes()
        assert (tmp_path / "c" / "slfp.c").is_file()
    for settings in ({"bits": 4}, {"scale": "max"}, {"per_channel": True}, {"reset": "zero"}, {"steps": 3}):
        with pytest.raises(UsageError, match=r"^the network is in integers already, as it stays: leave out"):
            spiking_lfp.export(name, out=tmp_path, **settings)
    with pytest.raises(ExportError):
        spiking_lfp.export(name, out=tmp_path, to=["netx"])
