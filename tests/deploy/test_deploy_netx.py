"""netx files: what is in them, there and back with equal spikes, and what netx cannot represent."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from helpers import integer_networks as integer
from spiking_lfp.deploy.formats.netx import read_netx, write_netx
from spiking_lfp.deploy.hdf5 import Reader, digest, write_attribute
from spiking_lfp.deploy.layers import Flatten, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError


class Plain(Reader[None]):
    noun = remedy = ""

    def content(self) -> None:
        """Nothing."""


def changed(net: IntegerNetwork, **fields: Any) -> IntegerNetwork:
    """Set fields of all layers with neurons."""
    layers = (integer.changed(layer, **fields) if isinstance(layer, Spiking) else layer for layer in net.layers)
    return replace(net, layers=tuple(layers))


def without_bias(net: IntegerNetwork) -> IntegerNetwork:
    layers = (replace(each, bias=each.bias * 0) if isinstance(each, Spiking) else each for each in net.layers)
    return replace(net, layers=tuple(layers))


def mlp(**arguments: Any) -> IntegerNetwork:
    return without_bias(integer.mlp(reset="zero", **arguments))


def convolutional() -> IntegerNetwork:
    first = integer.conv("a", (2, 9, 8), 4, (3, 2), reset="zero", stride=(2, 1), padding=(1, 0))
    second = integer.conv("b", first.out_shape, 6, (2, 2), 1, reset="zero", groups=2)
    flat = Flatten("c", second.out_shape)
    layers = [first, second, flat, integer.dense("d", flat.out_shape[0], 5, 2, reset="zero")]
    return without_bias(integer.network(layers, steps=20))


@pytest.mark.parametrize("net", [mlp(), convolutional(), replace(mlp(), notes={"made": "for a test"})])
def test_networks_come_back_with_equal_spikes(net: IntegerNetwork, tmp_path: Path) -> None:
    write_netx(net, tmp_path / "n.net")
    back = read_netx(tmp_path / "n.net")
    for found, expected in zip(back.layers, net.layers, strict=True):
        assert type(found) is type(expected)
        integer.assert_same_fields(found, expected)
    for name in ("encoder", "levels", "steps", "class_names", "notes"):
        assert getattr(back, name) == getattr(net, name)
    inputs = integer.inputs_for(net)
    expected = simulate(net, inputs, record=True).spikes
    assert all(spikes.any() for spikes in expected.values())
    for name, spikes in simulate(back, inputs, record=True).spikes.items():
        assert np.array_equal(spikes, expected[name])


def test_biases_are_written_where_they_may_act_early(tmp_path: Path) -> None:
    net = integer.mlp(reset="zero")
    write_netx(net, tmp_path / "n.net", early_bias=True)
    for found, expected in zip(read_netx(tmp_path / "n.net").spiking, net.spiking, strict=True):
        assert expected.bias.any()
        assert np.array_equal(found.bias, expected.bias)


def test_the_file_is_what_lava_dl_reads(tmp_path: Path) -> None:
    net = convolutional()
    write_netx(net, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        layers = file["layer"]
        # its reader takes the first element of these arrays
        assert [layers[f"{i}/type"][0] for i in range(5)] == [b"input", b"conv", b"conv", b"flatten", b"dense"]
        assert {layers[f"{i}/type"].dtype for i in range(5)} == {np.dtype("S10")}
        assert [list(layers[f"{i}/shape"]) for i in (0, 1, 4)] == [[2, 9, 8], [4, 5, 7], [5]]
        conv, neuron = layers["1"], layers["1/neuron"]
        assert conv["weight"].dtype == conv["bias"].dtype == np.float32
        assert np.array_equal(conv["weight"], net.spiking[0].weight)
        pairs = ("kernelSize", "stride", "padding", "dilation")
        assert [list(conv[name]) for name in pairs] == [[3, 2], [2, 1], [1, 0], [1, 1]]
        assert [layers[f"{i}/{name}"][()] for i in (1, 2) for name in ("inChannels", "outChannels", "groups")] == [
            2, 4, 1, 4, 6, 2
        ]  # fmt: skip
        assert neuron["type"][0] == b"CUBA"
        numbers = {name: neuron[name][()] for name in ("iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike")}
        theta = int(net.spiking[0].neuron.theta[0])
        assert numbers == {"iDecay": 4096, "vDecay": 410, "vThMant": theta, "refDelay": 1, "gradedSpike": False}
        assert layers["4/weight"].shape == (5, net.spiking[2].in_shape[0])


def uneven(net: IntegerNetwork) -> IntegerNetwork:
    last = net.spiking[-1]
    last = integer.changed(last, theta=last.neuron.theta + np.arange(5, dtype=np.int32))
    return replace(net, layers=(*net.layers[:-1], last))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (changed(mlp(), reset="subtract"), "layer 0: its reset is 'subtract', netx neurons reset to 'zero' only"),
        (changed(mlp(), reset="subtract_decayed"), "layer 0: its reset is 'subtract_decayed'"),
        (changed(mlp(), frac_bits=5), "layer 0: its membrane has 5 fraction bits, netx has 6"),
        (uneven(mlp()), r"layer 1: its theta is \d+\.\.\d+, netx has one threshold per layer"),
        (without_bias(integer.lenet(reset="zero", levels=1)), "layer 1: netx has no max pooling"),
        (changed(mlp(levels=15), frac_bits=6), r"layer 0: its inputs are 0\.\.15, netx layers take spikes"),
        (integer.mlp(reset="zero"), "layer 0: its bias is not zero, and Lava adds it before the first inputs arrive"),
        (replace(mlp(), steps=0), "steps must be at least 1"),
    ],
)
def test_what_netx_cannot_represent_is_refused(net: IntegerNetwork, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        write_netx(net, tmp_path / "n.net")
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    path = tmp_path / "n.net"
    with pytest.raises(ExportError, match=r"there is no file .*n\.net"):
        read_netx(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ExportError, match=r"n\.net is no HDF5 file, expected that of a netx network"):
        read_netx(path)
    h5py.File(path, "w").close()
    with pytest.raises(ExportError, match=r"n\.net was not written by write_netx"):
        read_netx(path)
    with pytest.raises(ExportError, match=r"cannot write .*missing"):
        write_netx(mlp(), tmp_path / "missing" / "n.net")


def edited(path: Path, edit: Callable[[h5py.File], Any], checksum: bool = True) -> Path:
    """Write a file and edit it, with the checksum that the edited content has."""
    write_netx(mlp(), path)
    with h5py.File(path, "r+") as file:
        edit(file)
        if checksum:
            records = ((where, value) for where, value in Plain(path, file).everything(file) if where != "/checksum")
            write_attribute(file, "checksum", digest(records))
    return path


def replaced(where: str, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[where]
        file[where] = value

    return edit


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"n\.net is damaged: its content has checksum"):
        read_netx(edited(tmp_path / "n.net", replaced("layer/1/neuron/vDecay", 409), checksum=False))
    found = read_netx(edited(tmp_path / "n.net", replaced("layer/1/neuron/vDecay", 409)))
    assert found.spiking[0].neuron.decay == 409


def half(file: h5py.File) -> None:
    file["layer/1/weight"][0, 0] += 0.5


def big(file: h5py.File) -> None:
    file["layer/1/weight"][0, 0] = 300


def linked(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file["layer/1/weight"] = h5py.ExternalLink("elsewhere.h5", "/weight")


def virtual(file: h5py.File) -> None:
    shape = file["layer/1/weight"].shape
    layout = h5py.VirtualLayout(shape, "<f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "weight", shape)
    del file["layer/1/weight"]
    file.create_virtual_dataset("layer/1/weight", layout)


def inside_itself(file: h5py.File) -> None:
    file["layer/1/neuron/again"] = file["layer"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replaced("layer/1/type", np.array([b"average"], "S10")), "/layer/1/type is b'average', expected dense, conv"),
        (replaced("layer/1/neuron/iDecay", 2048), "iDecay is 2048, expected 4096"),
        (replaced("layer/1/neuron/vDecay", 5000), "layer 0: decay is 5000"),
        (replaced("layer/1/neuron/vDecay", 410.5), r"vDecay is float64 \[\], expected int64 \[\]"),
        (replaced("layer/1/neuron/vDecay", -1), r"vDecay is \[-1\], expected 0"),
        (
            replaced("layer/1/neuron/type", np.array([b"LIF"], "S10")),
            "/layer/1/neuron/type is .b'LIF'., expected .b'CUBA'.",
        ),
        (
            replaced("layer/1/weight", np.ones((20, 30), complex)),
            "/layer/1/weight is complex128, expected numbers or t",
        ),
        (replaced("layer/1/weight", np.full((20, 30), b"1")), r"/layer/1/weight is \|S1 \[20, 30\], expected float32"),
        (replaced("layer/1/weight", np.ones((20, 30))), r"/layer/1/weight is float64 \[20, 30\], expected float32"),
        (half, "/layer/1/weight is .*5 somewhere, expected integers, -127..127"),
        (big, r"/layer/1/weight is 300\.0 somewhere, expected integers, -127..127"),
        (lambda file: file.__delitem__("layer/1/weight"), "/layer/1/weight is missing, expected a data set float32"),
        (lambda file: file["layer/1"].__setitem__("more", 1), "/layer/1/more is 1, expected missing"),
        (lambda file: file["layer"].__delitem__("2"), "/layer/2 is missing|there are 5 class names"),
        (lambda file: file["layer"].create_group("3"), "/layer/3/type is missing"),
        (lambda file: write_attribute(file, "encoder", "rate"), "/encoder is 'rate', expected constant or spikes"),
        (lambda file: write_attribute(file, "notes", "[]"), "/notes is a JSON list"),
        (lambda file: file["layer/1"].attrs.__setitem__("scale", np.full(20, np.nan)), "scale must be finite"),
        (lambda file: write_attribute(file["layer/1"], "in_shape", (2**31 - 1, 2**31 - 1)), "in_shape is .* 1..8 axes"),
    ],
)
def test_what_write_netx_does_not_write_is_refused_even_if_the_checksum_fits(
    edit: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):  # some already from the helper, which reads the file too
        read_netx(edited(tmp_path / "n.net", edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (linked, r"/layer/1/weight is a link to somewhere else \(ExternalLink\)"),
        (virtual, "/layer/1/weight is stored in another file"),
        (inside_itself, "is at two places, or inside itself, expected at one place"),
        (lambda file: file.attrs.__delitem__("checksum"), "/checksum is missing"),
    ],
)
def test_nothing_leads_out_of_a_file_or_around_in_it(edit: Any, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["weight"] = np.ones((20, 30), np.float32)
    with pytest.raises(ExportError, match=message):
        read_netx(edited(tmp_path / "n.net", edit, checksum=False))
