"""Integer networks as NIR graphs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from helpers import integer_networks as integer
from helpers.nir_networks import again, assert_equal, resealed
from spiking_lfp.deploy.backends.workers.nir_reader import RUN
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.layers import Conv, MaxPool, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError

nir = pytest.importorskip("nir", reason="nir is not installed")


def without_leak(net: IntegerNetwork) -> IntegerNetwork:
    layers = (integer.changed(layer, decay=0) if isinstance(layer, Spiking) else layer for layer in net.layers)
    return replace(net, layers=tuple(layers))


@pytest.mark.parametrize("golden", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        integer.mlp(), integer.lenet(), integer.lenet(reset="zero", levels=1), integer.mlp(reset="subtract_decayed"),
        integer.with_decays(integer.lenet()),
    ],
)  # fmt: skip
def test_integer_networks_come_back_unchanged(net: IntegerNetwork, golden: bool, tmp_path: Path) -> None:
    net = replace(net, notes={"made": "for a test"})
    if golden:
        net = with_golden_run(net, integer.inputs_for(net))
    back = again(net, tmp_path / "n.nir", dynamics_in_metadata=True)
    for found, expected in zip(back.layers, net.layers, strict=True):
        assert type(found) is type(expected)
        integer.assert_same_fields(found, expected)
    for name in ("encoder", "levels", "steps", "class_names", "notes"):
        assert getattr(back, name) == getattr(net, name)
    inputs = integer.inputs_for(net, 4, seed=3)
    expected = simulate(net, inputs, record=True).spikes
    assert all(spikes.any() for spikes in expected.values())
    for name, spikes in simulate(back, inputs, record=True).spikes.items():
        assert np.array_equal(spikes, expected[name])
    if golden:
        assert np.array_equal(back.golden.inputs, net.golden.inputs)
        assert all(np.array_equal(back.golden.spikes[name], net.golden.spikes[name]) for name in expected)
    else:
        assert back.golden is None


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("reader", ["norse", "snntorch"])
def test_integer_networks_without_leak_are_read_with_equal_spikes(reader: str, tmp_path: Path, capsys: Any) -> None:
    for package in ("nirtorch", reader):
        pytest.importorskip(package, reason=f"{package} is not installed")
    net = without_leak(integer.mlp(reset="zero"))
    inputs = integer.inputs_for(net)
    write_nir(net, tmp_path / "n.nir", reader=reader)
    graph = nir.read(tmp_path / "n.nir")
    assert graph.nodes["layer0_weights"].weight.dtype == np.int8
    found = torch.from_numpy(RUN[reader](graph, inputs.astype(np.float32)))
    assert_equal(found, torch.from_numpy(simulate(net, inputs, record=True).spikes["1"]).float())


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("layer0_neurons/metadata/decay", 409, "/node/nodes/layer0_neurons/r is .*, expected"),
        ("layer0_neurons/metadata/decay", 5000, "layer 0: decay is 5000, expected 0..4095"),
        ("layer0_neurons/metadata/decay", np.arange(20, dtype="i4"), "/node/nodes/layer0_neurons/r is .*, expected"),
        ("layer0_neurons/metadata/decay", np.arange(19), r"layer 0: decay is int32 \[19\], expected int32 \[20\]"),
        ("layer0_neurons/metadata/decay", 0.5, "node layer0_neurons: decay is float64"),
        ("layer0_neurons/metadata/theta", np.ones(20), "node layer0_neurons: theta is float64"),
        ("layer0_neurons/metadata/golden_spikes", np.full((12, 1, 20), 2, "u1"), "golden run, layer 0: a spike is 2"),
        ("layer0_neurons/tau", np.ones(20), "/node/nodes/layer0_neurons/tau is"),
        ("layer0_weights/weight", np.ones((20, 30)), "layer 0: weight is float64"),
        ("layer0_weights/more", 1, "node layer0_weights: Affine has no field 'more'"),
    ],
)
def test_integer_networks_that_were_changed_are_refused(where: str, value: Any, message: str, tmp_path: Path) -> None:
    net, path = integer.mlp(), tmp_path / "n.nir"
    write_nir(with_golden_run(net, integer.inputs_for(net, 1)), path, dynamics_in_metadata=True)
    with h5py.File(path, "r+") as file:
        file["node/nodes"].pop(where, None)
        file["node/nodes"][where] = value
    with pytest.raises(ExportError, match=message):
        read_nir(resealed(path))


def grouped() -> IntegerNetwork:
    conv = integer.conv("a", (2, 4, 5), 2, groups=2, reset="zero", decay=0)
    flat = integer.Flatten("b", conv.out_shape)
    return integer.network([conv, flat, integer.dense("c", 12, 3, reset="zero", decay=0)])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (integer.mlp(reset="subtract_decayed"), "layer 0: its reset is 'subtract_decayed', which NIR cannot express"),
        (integer.mlp(reset="zero"), "layer 0: its leak of 410 / 4096 truncates the membrane to 6 fraction bits"),
        (replace(without_leak(integer.mlp(reset="zero")), steps=900), "layer 0: its membranes may saturate at 24 bits"),
        (
            grouped(),
            "layer a: nir reads its convolution as",
        ),
    ],
)  # fmt: skip
def test_integer_networks_that_nir_cannot_say_are_refused(net: IntegerNetwork, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        write_nir(net, tmp_path / "n.nir")


def test_weights_of_integer_networks_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="layer 0: norse needs weights divided by 1 - beta, and those of integer"):
        write_nir(integer.mlp(reset="zero"), tmp_path / "n.nir", reader="norse", dynamics_in_metadata=True)


def test_max_pooling_without_leak_needs_no_leave(tmp_path: Path) -> None:
    net = without_leak(integer.lenet(reset="zero", levels=1))
    assert any(isinstance(layer, MaxPool) for layer in net.layers)
    assert any(isinstance(layer, Conv) for layer in net.layers)
    write_nir(net, tmp_path / "n.nir")
    assert nir.read(tmp_path / "n.nir").metadata["dynamics"] == "nodes"
