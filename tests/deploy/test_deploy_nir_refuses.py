"""What NIR cannot express, and files and graphs that are refused."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from helpers.nir_networks import SHAPE, again, assert_equal, lif, network, resealed, simple
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_graphs import CHECKSUM
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.interop import to_norse
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LIF

nir = pytest.importorskip("nir", reason="nir is not installed")


def mixed() -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(8, 6), torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5, 0.5]), reset="zero"))


@pytest.mark.parametrize(
    ("net", "arguments", "message"),
    [
        (network("subtract"), {"in_shape": SHAPE}, "layer 0: its reset is 'subtract', which NIR cannot express"),
        (network("none"), {"in_shape": SHAPE}, "layer 0: its reset is 'none', which NIR cannot express"),
        (nn.Sequential(MaxPool2d(2), *network(pool=MaxPool2d(2))[:1]), {"in_shape": SHAPE}, "layer 0: the maximum of"),
        (mixed(), {"reader": "norse"}, "layer 0: beta is 1 for some neurons, so that its weights cannot be divided"),
        (network(), {}, "layer 0: the shape of its inputs does not follow from it; give in_shape"),
        (network(), {"in_shape": (3, 8, 8)}, r"layer 0: cannot take inputs \[3, 8, 8\]"),
        (simple(), {"in_shape": (2, 8)}, r"layer 0: takes one axis, found inputs \[2, 8\]"),
        (nn.Sequential(LIF(nn.Conv2d(2, 2, (3, 2)), reset="zero")), {"in_shape": SHAPE}, "assumes square kernels"),
        (nn.Sequential(LIF(nn.Conv2d(2, 2, 3, groups=2), reset="zero")), {"in_shape": SHAPE}, "and one group"),
        (simple(), {"dt": float("nan")}, "dt is nan, expected a time step in seconds"),
        (simple(), {"reader": "spyx"}, "layer 0: its reset is 'zero', not 'subtract', so spyx would run it"),
        (network("subtract"), {"in_shape": SHAPE, "reader": "spyx"}, "layer 1: spyx flattens .4, 8, 8. in another"),
        (simple(), {"reader": "sinabs"}, "sinabs takes no metadata, .* choose another reader"),
        (nn.Sequential(network()[0], AvgPool2d(2, padding=1)), {"in_shape": SHAPE, "reader": "norse"},
         "layer 1: norse ignores the padding of a pooling window"),
        (nn.Sequential(network()[0], AvgPool2d(2)), {"in_shape": SHAPE, "reader": "norse"},
         "layer 1: norse has sums in place of means, and no weights follow that could divide them"),
        (nn.Sequential(nn.Linear(8, 6)), {}, "layer 0: Linear has no counterpart"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_what_nir_cannot_say_is_refused(net: nn.Module, arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        write_nir(net, tmp_path / "n.nir", **arguments)
    with pytest.raises(UsageError, match=r"unknown reader of NIR 'nirvana': .*known are norse, sinabs, snn"):
        write_nir(net, tmp_path / "n.nir", reader="nirvana")
    assert not list(tmp_path.iterdir())


def written(path: Path) -> Path:
    write_nir(simple(), path)
    return path


def test_neurons_without_leak_are_written_beside_others(tmp_path: Path) -> None:
    net, x = mixed(), torch.rand(30, 4, 8)
    assert_equal(again(net, tmp_path / "n.nir")(x), net(x))


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    path = tmp_path / "n.nir"
    with pytest.raises(ExportError, match=r"there is no file .*n\.nir: name the file of a NIR graph"):
        read_nir(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ExportError, match=r"n\.nir is no HDF5 file, expected that of a NIR graph"):
        read_nir(path)
    with h5py.File(path, "w") as file:
        file["layer"] = 1
    with pytest.raises(ExportError, match=r"n\.nir: /node is missing"):
        read_nir(path)
    with pytest.raises(ExportError, match=r"cannot write .*missing"):
        write_nir(simple(), tmp_path / "missing" / "n.nir")


def edited(path: Path, where: str, value: Any) -> Path:
    with h5py.File(path, "r+") as file:
        del file[where]
        if value is not None:
            file[where] = value
    return path


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("node/metadata/schema", 9, "has schema 9, this version reads 2"),
        ("node/metadata/schema", 2.5, "metadata: schema is float64 .*, expected integers"),
        ("node/metadata/dt", "soon", "metadata: dt is a str, expected a number"),
        ("node/metadata/reader", "me", "metadata: reader is 'me', expected snntorch or"),
        ("node/metadata/kind", None, "metadata: kind is missing"),
        ("node/nodes/layer0_neurons/tau", np.full(6, 0.5), "node layer0_neurons: its beta is not the one in"),
        ("node/nodes/layer0_neurons/v_threshold", np.ones(6), "node layer0_neurons: its threshold is not the one in"),
        ("node/nodes/layer0_neurons/v_reset", np.ones(6), "node layer0_neurons: v_leak or v_reset is not 0"),
        (
            "node/nodes/layer0_neurons/tau",
            np.full(6, "a", "S1"),
            r"node layer0_neurons: tau is \|S1 .6., expected num",
        ),
        ("node/nodes/layer0_neurons/tau", np.full(6, np.nan), "node layer0_neurons: tau is not finite"),
        ("node/nodes/layer0_neurons/tau", np.ones(5), r"node layer0_neurons: its tau is for \[5\], but it gets \[6\]"),
        ("node/nodes/layer0_neurons/tau", None, "node layer0_neurons: tau is missing"),
        ("node/nodes/layer0_neurons/type", "Scale", "node layer0_neurons: Scale is not read here; expected Input"),
        (
            "node/nodes/layer0_neurons/metadata/reset",
            "never",
            "node layer0_neurons: reset is 'never', expected sub",
        ),
        (
            "node/nodes/layer0_neurons/metadata/beta",
            np.ones(5),
            r"beta is of shape \[5\], expected one that fits",
        ),
        (
            "node/nodes/layer0_weights/weight",
            np.ones((6, 8), complex),
            "weight is complex128, expected numbers or",
        ),
        ("node/nodes/layer0_weights/weight", np.ones((6, 7)), r"its weight is for \[7\], but it gets \[8\]"),
        ("node/nodes/layer0_weights/bias", np.ones(7), r"its bias is for \[7\], but it gets \[6\]"),
        ("node/edges", np.ones((3, 2)), "the graph: its edges are not pairs of names"),
        ("node/nodes/input/shape", np.array([2**40]), r"node input: shape is \[1099511627776\], expected integers"),
        ("node/nodes/output/shape", np.array([7]), r"node output: its shape is for \[7\], but it gets \[6\]"),
        ("node/nodes/output", None, "the graph: an edge is of 'output', which is no node"),
        ("node/type", "Graph", "the graph: its type is 'Graph', expected 'NIRGraph'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_files_that_were_changed_are_refused(where: str, value: Any, message: str, tmp_path: Path) -> None:
    path = edited(written(tmp_path / "n.nir"), where, value)
    if where != "node/metadata/schema":
        with pytest.raises(ExportError, match=r"n\.nir is damaged: its content has checksum|expected numbers or texts"):
            read_nir(path)
    with pytest.raises(ExportError, match=message):  # complex numbers already from the helper
        read_nir(resealed(path))


def test_nothing_leads_out_of_a_file_or_around_in_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["weight"] = np.ones((6, 8))
    path, where = tmp_path / "n.nir", "node/nodes/layer0_weights/weight"
    layout = h5py.VirtualLayout((6, 8), "<f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "weight", (6, 8))
    edits: list[tuple[Any, str]] = [
        (h5py.ExternalLink("elsewhere.h5", "/weight"), "weight is a link to somewhere else .ExternalLink"),
        (h5py.SoftLink("/node/nodes/layer0_weights/bias"), "weight is a link to somewhere else .SoftLink"),
        (layout, "weight is stored in another file"),
    ]
    for new, message in edits:
        edited(written(path), where, None)
        with h5py.File(path, "r+") as file:
            if new is layout:
                file.create_virtual_dataset(where, layout)
            else:
                file[where] = new
        with pytest.raises(ExportError, match=message):
            read_nir(path)
    written(path)
    with h5py.File(path, "r+") as file:
        file["node/nodes/layer0_weights/metadata/again"] = file["node/nodes"]
    with pytest.raises(ExportError, match="is at two places, or inside itself"):
        read_nir(path)


def test_other_tools_read_a_file_and_write_it_again(tmp_path: Path) -> None:
    net, x = simple(), torch.rand(20, 3, 8).double()
    write_nir(net, tmp_path / "n.nir")
    nir.write(tmp_path / "again.nir", nir.read(tmp_path / "n.nir"))
    found = read_nir(tmp_path / "again.nir")
    assert isinstance(found, nn.Module)
    assert_equal(found(x), net(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda heap: heap + 1, "the heap at [0-9]+ is none, expected one of texts"),
        (lambda heap: 2**63, "the heap at [0-9]+ is none"),
    ],
)
def test_texts_that_are_not_where_they_should_be_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "n.nir"
    write_nir(simple(), path)
    with h5py.File(path, "r") as file:
        text = file["node/nodes/layer0_neurons/type"]
        place = text.id.get_offset()
    content = bytearray(path.read_bytes())
    heap = int.from_bytes(content[place + 4 : place + 12], "little")
    assert content[heap : heap + 4] == b"GCOL"
    content[place + 4 : place + 12] = change(heap).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_nir(path)
    # a text of the heap that is not there, and one that is longer than it is stored
    content[place + 4 : place + 12] = heap.to_bytes(8, "little")
    for where, number in ((place + 12, 60_000), (place, 4000)):
        changed = content.copy()
        changed[where : where + 4] = number.to_bytes(4, "little")
        path.write_bytes(changed)
        with pytest.raises(ExportError, match="layer0_neurons/type is not in the file, expected a text of"):
            read_nir(path)


def test_texts_in_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.nir"
    write_nir(simple(), path)
    with h5py.File(path, "r+") as file:
        edges = file["node/edges"][()]
        del file["node/edges"]
        file["node"].create_dataset("edges", data=edges, chunks=(1, 2), dtype=h5py.string_dtype())
    with pytest.raises(ExportError, match="edges is in parts, or compressed, expected texts in one piece"):
        read_nir(path)


def test_a_file_that_says_it_is_ours_needs_our_checksum(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="/node/metadata/checksum is missing"):
        read_nir(edited(written(tmp_path / "n.nir"), CHECKSUM, None))
    with pytest.raises(ExportError, match="metadata: writer is missing, expected spiking_lfp"):
        read_nir(edited(written(tmp_path / "n.nir"), "node/metadata/writer", None))


def test_graphs_of_others_that_differ_are_refused(tmp_path: Path) -> None:
    path, weights = tmp_path / "n.nir", np.ones((6, 6))
    pair = (nir.Linear(weights), lif())
    back = {"v_reset": np.zeros(6), "w_in": np.ones(6)}
    cuba = nir.CubaLIF(np.full(6, 5e-4), np.full(6, 0.01), np.ones(6), np.zeros(6), np.ones(6), **back)
    images = nir.Input(np.array([2, 4, 4]))
    sums = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    for nodes, dt, message in (
        (pair, None, "does not have its time step: give dt in seconds"),
        (
            pair,
            0.02,
            r"node lif: tau is 0\.01 s, too short for steps of dt = 0\.02 s: beta = 1 - dt / tau = -1 must",
        ),
        (
            (pair[0], cuba),
            0.001,
            r"node cubalif: tau_syn is 0\.0005 s, too short .* alpha = 1 - dt / tau_syn = -1 ",
        ),
        ((pair[0], lif(tau=np.zeros(6))), 0.001, "node lif: tau is 0, expected seconds, greater than 0"),
        ((pair[0], lif(v_leak=np.ones(6))), 0.001, "node lif: v_leak or v_reset is not 0"),
        ((pair[0], lif(v_threshold=np.zeros(6))), 0.001, "layer linear: threshold must be"),
        ((nir.Linear(weights),), 0.001, "node linear: Linear is followed by the output, expected LIF or IF"),
        ((lif(),), 0.001, "node lif: LIF is not read here"),
        ((*pair, nir.Scale(np.ones(6))), 0.001, "node scale: Scale is not read here"),
        ((images, sums), 0.001, "node sumpool2d: sums that are the output are not read here"),
        ((images, sums, nir.Threshold(np.full((2, 2, 2), 0.5))), 0.001, "node sumpool2d: followed by Threshold, read"),
    ):
        nir.write(path, nir.NIRGraph.from_list(*nodes))
        with pytest.raises(ExportError, match=message) as caught:
            read_nir(path, dt)
        assert str(path) in str(caught.value)
    edges = [("input", "w"), ("w", "n"), ("n", "w"), ("n", "output")]
    nodes = {"input": nir.Input(np.array([6])), "w": pair[0], "n": pair[1], "output": nir.Output(np.array([6]))}
    nir.write(path, nir.NIRGraph(nodes, edges))
    with pytest.raises(ExportError, match="4 nodes and 4 edges that form no chain"):
        read_nir(path, 0.001)
    with pytest.raises(ExportError, match=r"was written for dt = 0\.0001, found dt = 0\.001"):
        read_nir(written(path), 0.001)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dt", [0, -1e-3, np.inf, np.nan, "1ms", True])
def test_what_is_no_time_step_is_refused(tmp_path: Path, dt: Any) -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    network, path = nn.Sequential(LIF(nn.Linear(4, 3), reset="zero")), tmp_path / "net.nir"
    message = re.escape(f"dt is {dt!r}, expected a time step in seconds, finite and greater than 0")
    for made in (lambda: write_nir(network, path, dt=dt), lambda: read_nir(path, dt), lambda: to_norse(network, dt)):
        with pytest.raises(ExportError, match=f"^{message}$"):
            made()


def test_a_graph_in_place_of_a_path_is_named(unchecked: None) -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 2))))
    with pytest.raises(UsageError, match=r"^path must be a path, found NIRGraph$"):
        read_nir(graph)
