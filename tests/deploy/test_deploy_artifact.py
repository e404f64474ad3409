"""The file of an integer network: what is in it, field by field; what is refused; damage."""

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import integer_networks as make
from spiking_lfp.deploy.artifact import checksum, load_network, save_network
from spiking_lfp.deploy.layers import Conv, Dense, Flatten, MaxPool, Spiking
from spiking_lfp.deploy.model import GoldenRun, IntegerNetwork
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import INTEGER_RESETS, IntegerReset

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def assert_same(found: IntegerNetwork, expected: IntegerNetwork) -> None:
    """Every field, with types."""
    for what in ("encoder", "levels", "steps", "class_names", "notes"):
        assert getattr(found, what) == getattr(expected, what)
    assert len(found.layers) == len(expected.layers)
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        assert type(mine) is type(theirs)
        make.assert_same_fields(mine, theirs)
    assert (found.golden is None) == (expected.golden is None)
    if found.golden is not None and expected.golden is not None:
        make.assert_equal(found.golden.inputs, expected.golden.inputs)
        assert list(found.golden.spikes) == list(expected.golden.spikes)
        for name, spikes in expected.golden.spikes.items():
            make.assert_equal(found.golden.spikes[name], spikes)


def with_golden(net: IntegerNetwork, samples: int = 2) -> IntegerNetwork:
    return with_golden_run(net, make.inputs_for(net, samples))


def a_network() -> IntegerNetwork:
    """One layer of each kind, two golden samples."""
    first = make.conv("body.0/a", (2, 6, 6), 4, (3, 2), stride=(1, 2), padding=(1, 0), groups=2)
    pool = MaxPool("pool", first.out_shape, 2, 1)
    flat = Flatten("flat", pool.out_shape)
    last = make.dense("ausgang ü", flat.out_shape[0], 3, bits=4, reset="zero")
    net = make.network([first, pool, flat, last], 3)
    return with_golden(replace(net, class_names=("null", "eins", ""), notes={"made by": "a test", "ß": '"quoted"'}))


@settings(max_examples=25)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.integers(0, 4095), st.sampled_from([1, 255]),
    st.integers(1, 5), st.integers(2, 8), st.booleans(), st.lists(NAMES, min_size=5, max_size=5),
    st.dictionaries(NAMES, NAMES, max_size=3),
)  # fmt: skip
def test_dense_networks_come_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, reset: IntegerReset, decay: int, levels: int, steps: int,
    bits: int, golden: bool, names: list[str], notes: dict[str, str],
) -> None:  # fmt: skip
    net = make.mlp((13, 8, 5), seed, decay, reset, steps, levels, bits)
    layers = [replace(layer, name=f"{name}{k}") for k, (layer, name) in enumerate(zip(net.layers, names, strict=False))]
    net = replace(net, layers=tuple(layers), class_names=tuple(names), notes=notes)
    net = with_golden(net) if golden else net
    path = tmp_path_factory.mktemp("artifact") / "net.h5"
    save_network(net, path)
    assert_same(load_network(path), net)


@settings(max_examples=15)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([1, 2]), st.sampled_from([1, 255]),
)  # fmt: skip
def test_convolutions_come_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, reset: IntegerReset, kernel: tuple[int, int],
    stride: tuple[int, int], padding: tuple[int, int], groups: int, levels: int,
) -> None:  # fmt: skip
    layer = make.conv(
        "0", (2, 5, 6), 4, kernel, seed, 300, reset, stride, padding, groups, 0.2, 0 if levels > 1 else 6, levels
    )
    flat = Flatten("1", layer.out_shape)
    net = with_golden(
        make.network([layer, flat, make.dense("2", flat.out_shape[0], 3, seed, 300, reset)], 4, levels), 1
    )
    path = tmp_path_factory.mktemp("artifact") / "net.h5"
    save_network(net, path)
    assert_same(load_network(path), net)


def test_the_file_holds_what_the_module_says(tmp_path: Path) -> None:
    net = a_network()
    path = tmp_path / "net.h5"
    save_network(net, path)
    first, pool, flat, last = net.layers
    assert isinstance(first, Conv)
    assert isinstance(last, Dense)
    assert net.golden is not None
    expected: dict[str, Any] = {
        "/format": "spiking_lfp integer network", "/schema": 1, "/encoder": "spikes", "/levels": 1, "/steps": 3,
        "/class_names": ["null", "eins", ""], "/notes": '{"made by": "a test", "ß": "\\"quoted\\""}',
        "/checksum": slow_checksum(net),
        "/layers/000/kind": "conv", "/layers/000/name": "body.0/a", "/layers/000/in_shape": [2, 6, 6],
        "/layers/000/decay": 410, "/layers/000/frac_bits": 6, "/layers/000/reset": "subtract",
        "/layers/000/leak": "mul12_trunc", "/layers/000/bits": 8, "/layers/000/kernel": [3, 2],
        "/layers/000/stride": [1, 2], "/layers/000/padding": [1, 0], "/layers/000/groups": 2,
        "/layers/000/weight": ("<i1", first.weight), "/layers/000/bias": ("<i4", first.bias),
        "/layers/000/scale": ("<f8", first.scale), "/layers/000/theta": ("<i4", first.neuron.theta),
        "/layers/001/kind": "max_pool", "/layers/001/name": "pool", "/layers/001/in_shape": [4, 6, 3],
        "/layers/001/kernel": 2, "/layers/001/stride": 1,
        "/layers/002/kind": "flatten", "/layers/002/name": "flat", "/layers/002/in_shape": [4, 5, 2],
        "/layers/003/kind": "dense", "/layers/003/name": "ausgang ü", "/layers/003/in_shape": [40],
        "/layers/003/decay": 410, "/layers/003/frac_bits": 6, "/layers/003/reset": "zero",
        "/layers/003/leak": "mul12_trunc", "/layers/003/bits": 4,
        "/layers/003/weight": ("<i1", last.weight), "/layers/003/bias": ("<i4", last.bias),
        "/layers/003/scale": ("<f8", last.scale), "/layers/003/theta": ("<i4", last.neuron.theta),
        "/golden/inputs": ("|u1", net.golden.inputs),
        "/golden/spikes/000": ("|u1", net.golden.spikes["body.0/a"]),
        "/golden/spikes/003": ("|u1", net.golden.spikes["ausgang ü"]),
    }  # fmt: skip
    found: dict[str, Any] = {}

    def note(_: str, item: h5py.Group | h5py.Dataset) -> None:
        for name in item.attrs:
            assert item.attrs.get_id(name).dtype.kind in "Si"
            value = item.attrs[name]
            at = f"{item.name.rstrip('/')}/{name}"
            if isinstance(value, bytes):
                found[at] = value.decode()
            else:
                found[at] = [v.decode() if isinstance(v, bytes) else v for v in value] if value.ndim else int(value)
                assert value.dtype in ("<i8",) or value.dtype.kind == "S"
        if isinstance(item, h5py.Dataset):
            found[item.name] = (item.dtype, item[()])

    with h5py.File(path, "r") as file:
        note("/", file)
        file.visititems(note)
    assert set(found) == set(expected)
    for at, value in expected.items():
        if isinstance(value, tuple):
            assert found[at][0] == np.dtype(value[0]), at
            np.testing.assert_array_equal(found[at][1], value[1])
        else:
            assert found[at] == value, at
    assert flat.out_shape == (40,)
    assert pool.out_shape == (4, 5, 2)
    assert all(spikes.any() for spikes in net.golden.spikes.values())


def slow_checksum(net: IntegerNetwork) -> str:
    """The definition once more, number by number, for the network of `a_network`."""
    content = b""

    def text(at: str, value: str) -> None:
        nonlocal content
        content += f"{at} utf8 {len(value.encode())}\n".encode() + value.encode()

    def number(at: str, value: int) -> None:
        nonlocal content
        content += f"{at} <i8 \n".encode() + struct.pack("<q", value)

    def numbers(at: str, *values: int) -> None:
        nonlocal content
        content += f"{at} <i8 {len(values)}\n".encode() + b"".join(struct.pack("<q", value) for value in values)

    def array(at: str, word: str, code: str, values: make.Array) -> None:
        nonlocal content
        content += f"{at} {word} {'x'.join(str(side) for side in values.shape)}\n".encode()
        content += b"".join(struct.pack(code, value) for value in values.reshape(-1).tolist())

    def neurons(at: str, layer: Spiking) -> None:
        number(f"{at}/decay", layer.neuron.decay)
        number(f"{at}/frac_bits", layer.neuron.frac_bits)
        text(f"{at}/reset", layer.neuron.reset)
        text(f"{at}/leak", "mul12_trunc")
        number(f"{at}/bits", layer.bits)
        array(f"{at}/weight", "|i1", "<b", layer.weight)
        array(f"{at}/bias", "<i4", "<i", layer.bias)
        array(f"{at}/scale", "<f8", "<d", layer.scale)
        array(f"{at}/theta", "<i4", "<i", layer.neuron.theta)

    first, _, _, last = net.layers
    assert isinstance(first, Conv)
    assert isinstance(last, Dense)
    assert net.golden is not None
    text("/format", "spiking_lfp integer network")
    number("/schema", 1)
    text("/encoder", "spikes")
    number("/levels", 1)
    number("/steps", 3)
    for k, name in enumerate(net.class_names):
        text(f"/class_names/{k}", name)
    text("/notes", '{"made by": "a test", "ß": "\\"quoted\\""}')
    text("/layers/000/kind", "conv")
    text("/layers/000/name", "body.0/a")
    numbers("/layers/000/in_shape", 2, 6, 6)
    neurons("/layers/000", first)
    numbers("/layers/000/kernel", 3, 2)
    numbers("/layers/000/stride", 1, 2)
    numbers("/layers/000/padding", 1, 0)
    number("/layers/000/groups", 2)
    text("/layers/001/kind", "max_pool")
    text("/layers/001/name", "pool")
    numbers("/layers/001/in_shape", 4, 6, 3)
    number("/layers/001/kernel", 2)
    number("/layers/001/stride", 1)
    text("/layers/002/kind", "flatten")
    text("/layers/002/name", "flat")
    numbers("/layers/002/in_shape", 4, 5, 2)
    text("/layers/003/kind", "dense")
    text("/layers/003/name", "ausgang ü")
    numbers("/layers/003/in_shape", 40)
    neurons("/layers/003", last)
    array("/golden/inputs", "|u1", "<B", net.golden.inputs)
    array("/golden/spikes/000", "|u1", "<B", net.golden.spikes["body.0/a"])
    array("/golden/spikes/003", "|u1", "<B", net.golden.spikes["ausgang ü"])
    return hashlib.sha256(content).hexdigest()


def test_layout_and_compression_do_not_matter(tmp_path: Path) -> None:
    net = a_network()
    save_network(net, tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r") as source, h5py.File(tmp_path / "other.h5", "w") as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name in ("layers", "golden"):
            source.copy(name, target)
        weight = target["layers/000/weight"][()]
        del target["layers/000/weight"]
        packed = {"chunks": (1, 1, 1, 1), "compression": "gzip", "shuffle": True, "fletcher32": True}
        target["layers/000"].create_dataset("weight", data=weight, **packed)
        target.attrs["what else somebody noted"] = "is left alone"
    assert_same(load_network(tmp_path / "other.h5"), net)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    save_network(a_network(), tmp_path / "a.h5")
    save_network(load_network(tmp_path / "a.h5"), tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_large_notes_and_many_classes(tmp_path: Path) -> None:
    net = make.mlp((5, 3000))
    net = replace(net, class_names=tuple(f"class {k:040d}" for k in range(3000)), notes={"log": "x" * 300_000})
    save_network(net, tmp_path / "net.h5")
    assert_same(load_network(tmp_path / "net.h5"), net)


def _damage(path: Path, change: Callable[[h5py.File], None]) -> Path:
    save_network(a_network(), path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def _replace(name: str, value: Any, **options: Any) -> Callable[[h5py.File], None]:
    """Replace a data set."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=value, **options)

    return change


def _set(at: str, name: str, value: Any) -> Callable[[h5py.File], None]:
    """Replace an attribute."""

    def change(file: h5py.File) -> None:
        del file[at].attrs[name]
        file[at].attrs.create(name, value, dtype=None if isinstance(value, str | np.ndarray) else "<i8")

    return change


def _text(at: str, name: str, value: str) -> Callable[[h5py.File], None]:
    return _set(at, name, np.array(value.encode()))


def _delete(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def _link(name: str, link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 40), "i1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "weight", (3, 40))
    del file["layers/003/weight"]
    file.create_virtual_dataset("layers/003/weight", layout)


def _never_written(file: h5py.File) -> None:
    del file["layers/003/weight"]
    file.create_dataset("layers/003/weight", (2**20, 2**20), "i1", chunks=(64, 64))


def _foreign_filter(file: h5py.File) -> None:
    del file["layers/003/weight"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3, 40))
    # LZF is compiled into h5py, but not into every HDF5 library
    plist.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file["layers/003"].id, b"weight", h5py.h5t.STD_I8LE, h5py.h5s.create_simple((3, 40)), plist)


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "schema": (_set("/", "schema", 5), "has schema 5, this version reads schema 1, 2, 3, 4: export the network again"),
    "another schema": (_set("/", "schema", 2), "/schema is 2, expected 1 as its layers have it"),
    "format": (_text("/", "format", "other"), "is an HDF5 file of another kind: its format is 'other'"),
    "encoder": (_text("/", "encoder", "rate"), "/encoder is 'rate', expected constant or sequence or spikes"),
    "a long text": (_set("/", "encoder", "spikes"), r"/encoder is object \[\], expected a text of fixed length"),
    "a number as text": (_text("/", "steps", "3"), r"/steps is \|S1 \[\], expected an integer, int64"),
    "a fraction": (_set("/", "steps", np.array(3.0)), r"/steps is float64 \[\], expected an integer"),
    "a list": (_set("/", "steps", [3, 3]), r"/steps is int64 \[2\], expected an integer"),
    "steps": (_set("/", "steps", 4), "damaged|golden"),
    "negative": (_set("/", "steps", -1), r"/steps is \[-1\], expected 0..2147483647"),
    "notes": (_text("/", "notes", "[1]"), "/notes is a JSON list, expected a JSON object"),
    "no notes": (_text("/", "notes", "{"), "/notes is no JSON"),
    "deep notes": (_text("/", "notes", "[" * 50_000), "/notes is no JSON"),
    "classes": (_set("/", "class_names", np.array([b"a", b"b"])), "there are 2 class names"),
    "a class": (_set("/", "class_names", np.array([b"null", b"eins", b"x"])), "damaged: its content has checksum"),
    "no utf-8": (_set("/", "class_names", np.array([b"\xff", b"b", b"c"])), "damaged .*utf-8"),
    "checksum": (_text("/", "checksum", "0" * 64), r"has checksum [0-9a-f]{16}\.\.\., expected 0000000000000000\.\.\."),
    "kind": (_text("/layers/000", "kind", "lstm"), "/layers/000/kind is 'lstm', expected dense, recurrent, conv"),
    "leak": (_text("/layers/000", "leak", "floor"), "/layers/000/leak is 'floor', expected 'mul12_trunc'"),
    "reset": (_text("/layers/003", "reset", "never"), "/layers/003/reset is 'never', expected zero, subtract"),
    "decay": (_set("/layers/003", "decay", 5000), "layer ausgang ü: decay is 5000, expected 0..4095"),
    "another decay": (_set("/layers/003", "decay", 411), "damaged: its content has checksum"),
    "kernel": (_set("/layers/000", "kernel", [2, 3]), r"kernel is \[2, 3\], expected \[3, 2\] as the weights have it"),
    "stride": (_set("/layers/000", "stride", [0, 2]), r"a: stride is \[0, 2\], expected 2 integers, at least 1"),
    "strides": (_set("/layers/000", "stride", [1, 1, 1]), "stride is 3 integers, expected 2 integers"),
    "padding": (_set("/layers/000", "padding", [2**31 - 1] * 2), r"layer pool: expects \[4, 6, 3\], gets"),
    "in_shape": (_set("/layers/000", "in_shape", [2**20] * 3), "expected 1..8 axes, 2147483647 values at most"),
    "no in_shape": (_set("/layers/000", "in_shape", []), "/layers/000/in_shape is"),
    "weights of floats": (_replace("layers/003/weight", np.ones((3, 40))), r"float64 \[3, 40\], expected int8 \[any,"),
    "axes": (_replace("layers/003/weight", np.ones((3, 20, 2), "i1")), r"is int8 \[3, 20, 2\], expected int8 \[any"),
    "empty weights": (_replace("layers/003/weight", np.ones((0, 40), "i1")), "/weight is 0 bytes, 0 of them stored"),
    "nothing": (_replace("layers/003/weight", h5py.Empty("i1")), "weight is without values, expected int8"),
    "objects": (_replace("layers/003/bias", ["a", "b", "c"]), r"bias is object \[3\], expected int32 \[3\]"),
    "big endian": (_replace("layers/003/bias", np.ones(3, ">i4")), r"bias is >i4 \[3\], expected int32 \[3\]"),
    "bias": (_replace("layers/003/bias", np.ones(4, "i4")), r"bias is int32 \[4\], expected int32 \[3\]"),
    "compound": (_replace("layers/003/bias", np.ones(3, "i4,i4")), r"bias is .* expected int32 \[3\]"),
    "not a number": (_replace("layers/003/scale", np.full(3, np.nan)), "weight scale must be finite"),
    "theta": (_replace("layers/003/theta", np.zeros(3, "i4")), "theta is 0..0 in weight units"),
    "no theta": (_delete("layers/003/theta"), r"/layers/003/theta is missing, expected a data set int32 \[3\]"),
    "no layer": (_delete("layers/001"), "/layers/001 is missing, expected a group"),
    "no layers": (_delete("layers"), "/layers is missing, expected a group"),
    "a group": (lambda file: [_delete("layers/003/bias")(file), file.create_group("layers/003/bias")][0],
                r"/layers/003/bias is a group, expected a data set int32 \[3\]"),
    "soft link": (_link("layers/003/bias", h5py.SoftLink("/layers/003/theta")), r"link to somewhere else \(SoftLink\)"),
    "dangling link": (_link("layers/003/bias", h5py.SoftLink("/nowhere")), r"a link to somewhere else \(SoftLink\)"),
    "external link": (_link("layers/003", h5py.ExternalLink("elsewhere.h5", "/")), r"somewhere else \(ExternalLink\)"),
    "external golden": (_link("golden", h5py.ExternalLink("elsewhere.h5", "/")), r"somewhere else \(ExternalLink\)"),
    "virtual": (_virtual, "stored in another file, expected stored in this one"),
    "external": (_replace("layers/003/bias", np.ones(3, "i4"), external=[("elsewhere.bin", 0, 12)]),
                 "bias is stored in another file"),
    "never written": (_never_written, "/weight is 1099511627776 bytes, 0 of them stored"),
    "filter": (_foreign_filter, "compressed by an unknown filter, expected gzip or nothing"),
    "golden inputs": (_replace("golden/inputs", np.ones((3, 2, 2, 6, 5), "u1")), "/golden/inputs is uint8"),
    "golden values": (_replace("golden/inputs", np.full((3, 2, 2, 6, 6), 2, "u1")), "its content has checksum"),
    "golden spikes": (_replace("golden/spikes/003", np.ones((3, 3, 3), "u1")),
                      r"/golden/spikes/003 is uint8 \[3, 3, 3\], expected uint8 \[3, 2, 3\]"),
    "no golden spikes": (_delete("golden/spikes/003"), "/golden/spikes/003 is missing"),
    "no golden run": (_delete("golden"), "damaged: its content has checksum"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_what_does_not_fit_is_refused_in_one_sentence(what: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    change, message = DAMAGE[what]
    # what links would lead to, so that following them would succeed
    with h5py.File("elsewhere.h5", "w") as file:
        file["weight"] = np.ones((3, 40), "i1")
    Path("elsewhere.bin").write_bytes(np.ones(3, "<i4").tobytes())
    path = _damage(tmp_path / "net.h5", change)
    with pytest.raises(ExportError, match=message) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_golden_run_is_checked_even_if_the_checksum_fits(tmp_path: Path) -> None:
    net = a_network()
    assert net.golden is not None
    bad = replace(net.golden, inputs=np.full_like(net.golden.inputs, 2))
    path = _damage(tmp_path / "net.h5", _replace("golden/inputs", bad.inputs))
    with h5py.File(path, "r+") as file:
        file.attrs.create("checksum", np.array(checksum(replace(net, golden=bad)).encode()))
    with pytest.raises(ExportError, match=r"net\.h5 holds a network .* golden run: an input is 2, expected 0\.\.1"):
        load_network(path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Even one to an undamaged network."""
    save_network(a_network(), tmp_path / "real.h5")
    for link in (h5py.ExternalLink(str(tmp_path / "real.h5"), "/layers"), h5py.SoftLink("/here")):
        with h5py.File(tmp_path / "net.h5", "w") as file, h5py.File(tmp_path / "real.h5", "r") as real:
            for name, value in real.attrs.items():
                file.attrs.create(name, value)
            real.copy("golden", file)
            real.copy("layers", file, "here")
            file["layers"] = link
        with pytest.raises(ExportError, match=r"/layers is a link to somewhere else"):
            load_network(tmp_path / "net.h5")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with pytest.raises(ExportError, match=r"there is no file .*net\.h5: name the file"):
        load_network(path)
    with pytest.raises(ExportError, match="it is a folder"):
        load_network(tmp_path)
    with pytest.raises(ExportError, match="it is no ordinary file"):
        load_network(Path(os.devnull))
    path.write_bytes(b"")
    with pytest.raises(ExportError, match="is empty, expected the HDF5 file"):
        load_network(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ExportError, match="is no HDF5 file, expected that of an exported network"):
        load_network(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ExportError, match="is damaged"):
        load_network(path)
    with h5py.File(path, "w") as file:
        file["layer/0/weight"] = np.ones(3)
    with pytest.raises(ExportError, match="is an HDF5 file of another kind: it has no attribute format"):
        load_network(path)
    with pytest.raises(ExportError, match="cannot read"):
        load_network(path / "below a file")


def test_a_flipped_weight_is_noticed(tmp_path: Path) -> None:
    net = a_network()
    path = tmp_path / "net.h5"
    save_network(net, path)
    whole = path.read_bytes()
    last = net.layers[-1]
    assert isinstance(last, Dense)
    place = whole.index(last.weight.tobytes())
    for k in range(0, last.weight.size, 5):
        damaged = bytearray(whole)
        damaged[place + k] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ExportError):
            load_network(path)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = a_network()
    path = tmp_path / "net.h5"
    save_network(net, path)
    before = path.read_bytes()
    other = replace(net, notes={})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(ExportError, match=r"cannot write .*net\.h5: No space left on device"):
                save_network(other, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_network(other, path)
    assert list(tmp_path.iterdir()) == [path]
    save_network(other, path)
    assert load_network(path).notes == {}


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    net = make.mlp()
    with pytest.raises(ExportError, match=r"cannot write .*: Is a directory; name a file, not a folder"):
        save_network(net, tmp_path)
    with pytest.raises(ExportError, match=r"cannot write .*: No such file or directory; make its folder first or"):
        save_network(net, tmp_path / "missing" / "net.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write"):
        save_network(net, tmp_path / "file" / "net.h5")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):
        with pytest.raises(ExportError, match=r"cannot write .*Permission denied"):
            save_network(net, locked / "net.h5")
    assert not any(locked.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("a",)}, "there are 1 class names"),
        ({"class_names": ("a", "b", "c", "d", "e\0")}, "texts without zero characters"),
        ({"notes": {"a": "\ud800"}}, "texts without zero characters that UTF-8 can write"),
        ({"golden": GoldenRun(np.ones((12, 1, 29), np.uint8), {})}, r"golden run: inputs are uint8 \[12, 1, 29\]"),
        ({"golden": GoldenRun(np.full((12, 1, 30), 2, np.uint8), {})}, "golden run: an input is 2, expected 0..1"),
        ({"golden": GoldenRun(np.ones((12, 1, 30), np.uint8), {})}, r"has spikes of \[\], expected of the layers"),
        (
            {
                "golden": GoldenRun(
                    np.ones((12, 1, 30), np.uint8),
                    {"0": np.ones((12, 1, 20), np.uint8), "1": np.ones((12, 2, 5), np.uint8)},
                )
            },
            r"golden run, layer 1: spikes are uint8 \[12, 2, 5\], expected uint8 \[12, 1, 5\]",
        ),
        (
            {
                "golden": GoldenRun(
                    np.ones((12, 1, 30), np.uint8),
                    {"0": np.full((12, 1, 20), 7, np.uint8), "1": np.ones((12, 1, 5), np.uint8)},
                )
            },
            "golden run, layer 0: a spike is 7",
        ),
    ],
)
def test_networks_that_do_not_fit_are_not_written(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        save_network(replace(make.mlp(), **change), tmp_path / "net.h5")
    assert not any(tmp_path.iterdir())


def test_reading_needs_neither_torch_nor_the_training_side(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    net = a_network()
    save_network(net, path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from spiking_lfp.deploy.artifact import checksum, load_network\n"
        "from spiking_lfp.deploy.simulator import simulate\n"
        f"net = load_network(Path({str(path)!r}))\n"
        "spikes = simulate(net, net.golden.inputs, record=True).spikes\n"
        "assert all((spikes[name] == golden).all() for name, golden in net.golden.spikes.items())\n"
        "print(checksum(net))\n"
        "allowed = tuple(f'spiking_lfp.{name}' for name in ('arguments', 'deploy', 'errors', 'files', 'integers'))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'torchvision', 'numba', 'jaxtyping')\n"
        "       or m.startswith('spiking_lfp.') and not m.startswith(allowed)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [checksum(net), "[]"]


def test_lists_of_layers_and_of_new_class_names_are_written(tmp_path: Path) -> None:
    net = make.mlp()
    save_network(replace(net, layers=list(net.layers), class_names=list("abcde")), tmp_path / "net.h5")
    assert load_network(tmp_path / "net.h5").class_names == ("a", "b", "c", "d", "e")
