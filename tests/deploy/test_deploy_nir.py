"""NIR graphs: there and back, read by nir, norse and snnTorch with equal spikes, and what NIR cannot express."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import integer_networks as integer
from spiking_lfp.deploy.conformance import read_by_norse, read_by_snntorch
from spiking_lfp.deploy.formats.nir import read_nir, write_nir
from spiking_lfp.deploy.model import Conv, IntegerNetwork, MaxPool, Spiking
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import AvgPool2d, Flatten, MaxPool2d
from spiking_lfp.nn.spiking import LIF

nir = pytest.importorskip("nir", reason="nir is not installed")

SHAPE = (2, 8, 8)
# norse and snnTorch keep a graph's numbers in float32, which holds these exactly
DT = 2.0**-13


def network(
    reset: Reset = "zero",
    beta: float | Tensor = 0.875,
    pool: nn.Module | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Weights are multiples of 1/1024."""
    modules: list[nn.Module] = [LIF(nn.Conv2d(2, 4, 3, padding="same", bias=False), beta, 0.25, reset)]
    if pool is not None:
        modules.append(pool)
    modules.append(Flatten())
    modules.append(LIF(nn.Linear(256 if pool is None else 64, 20), 0.75, 0.125, reset))
    modules.append(LIF(nn.Linear(20, 10, bias=False), 0.5, 0.125, reset))
    net = nn.Sequential(*modules).to(dtype)
    with torch.no_grad():
        for values in net.parameters():
            values.copy_((values * 1024).round() / 1024)
    return net


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return ((torch.rand(30, 3, *SHAPE) * 128).round() / 64).to(dtype)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert 0.02 < expected.detach().mean() < 0.9
    assert int((found != expected).sum()) == 0


def again(net: nn.Module | IntegerNetwork, path: Path, **arguments: Any) -> Any:
    write_nir(net, path, **arguments)
    return read_nir(path)


def simple(beta: float = 0.875) -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(8, 6), beta, 0.25, "zero")).double()


# float networks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.9, 1.0, torch.linspace(0.2, 0.9, 4).view(4, 1, 1), torch.linspace(0.2, 0.9, 8)])
@pytest.mark.parametrize("reset", RESETS)
def test_networks_come_back_unchanged(reset: Reset, beta: float | Tensor, dtype: torch.dtype, tmp_path: Path) -> None:
    net = network(reset, beta, MaxPool2d(2), dtype)
    allowed = reset != "zero"
    back = again(net, tmp_path / "n.nir", in_shape=SHAPE, dynamics_in_metadata=allowed)
    assert [str(layer) for layer in back] == [str(layer).replace("padding=same", "padding=(1, 1)") for layer in net]
    for found, expected in zip(back.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(found.to(dtype), expected)
    assert {values.dtype for values in back.parameters()} == {dtype}
    x = images(dtype)
    assert_equal(back(x), net(x))
    graph = nir.read(tmp_path / "n.nir")
    assert graph.metadata["dynamics"] == ("metadata" if allowed else "nodes")


@pytest.mark.parametrize("pool", [None, MaxPool2d(2), AvgPool2d(2)])
def test_weights_with_the_gain_in_them_come_back_with_equal_spikes(pool: nn.Module | None, tmp_path: Path) -> None:
    net, x = network(beta=torch.linspace(0.2, 0.9, 4).view(4, 1, 1), pool=pool), images()
    assert_equal(again(net, tmp_path / "n.nir", in_shape=SHAPE, gain="weights")(x), net(x))


def test_the_nodes_are_those_of_the_convention(tmp_path: Path) -> None:
    net, path = network(pool=MaxPool2d(2)), tmp_path / "n.nir"
    write_nir(net, path, SHAPE, DT)
    graph = nir.read(path)
    assert graph.edges == [
        ("input", "layer0_weights"), ("layer0_weights", "layer0_neurons"), ("layer0_neurons", "layer1_pool"),
        ("layer1_pool", "layer1_any"), ("layer1_any", "layer2_flatten"), ("layer2_flatten", "layer3_weights"),
        ("layer3_weights", "layer3_neurons"), ("layer3_neurons", "layer4_weights"),
        ("layer4_weights", "layer4_neurons"), ("layer4_neurons", "output"),
    ]  # fmt: skip
    kinds = [type(graph.nodes[key]).__name__ for key, _ in graph.edges]
    assert kinds == ["Input", "Conv2d", "LIF", "SumPool2d", "Threshold", "Flatten", "Affine", "LIF", "Linear", "LIF"]
    lif = graph.nodes["layer0_neurons"]
    for found, expected in ((lif.tau, DT / 0.125), (lif.r, 8.0), (lif.v_leak, 0), (lif.v_threshold, 0.25)):
        assert found.shape == (4, 8, 8)
        assert found.dtype == np.float64
        assert (found == expected).all()
    assert (lif.v_reset == 0).all()
    assert (graph.nodes["layer1_any"].threshold == 0.5).all()
    assert graph.nodes["layer0_weights"].metadata["layer"] == "0"
    write_nir(net, path, SHAPE, DT, "weights")
    scaled = nir.read(path).nodes["layer3_weights"]
    assert np.array_equal(scaled.weight, 4 * net[3].synapse.weight.detach().numpy())
    assert np.array_equal(scaled.bias, 4 * net[3].synapse.bias.detach().numpy())


def test_sums_over_spikes_and_a_threshold_are_max_pooling(tmp_path: Path) -> None:
    # what the two nodes say, computed from nir's own numbers
    net, x = network(pool=MaxPool2d(2)), images()
    write_nir(net, tmp_path / "n.nir", SHAPE)
    nodes = nir.read(tmp_path / "n.nir").nodes
    pool, bound = nodes["layer1_pool"], nodes["layer1_any"]
    spikes = net[0](x)
    means = nn.functional.avg_pool2d(spikes.flatten(0, 1), tuple(pool.kernel_size), tuple(pool.stride))
    sums = means * float(np.prod(pool.kernel_size))
    assert_equal((sums > torch.from_numpy(bound.threshold)).double(), net[1](spikes).flatten(0, 1))


# NIR graphs in other packages


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("beta", [0.875, 1.0])
def test_norse_reads_equal_spikes(beta: float, tmp_path: Path) -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    net, x = network(beta=beta), images()
    write_nir(net, tmp_path / "n.nir", SHAPE, DT, "weights")
    assert_equal(read_by_norse(nir.read(tmp_path / "n.nir"), DT, x), net(x))


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
def test_norse_would_read_other_spikes_from_resistances(tmp_path: Path) -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    net, x = network(), images()
    write_nir(net, tmp_path / "n.nir", SHAPE, DT, "resistance")
    assert not torch.equal(read_by_norse(nir.read(tmp_path / "n.nir"), DT, x), net(x))


@pytest.mark.parametrize("gain", ["resistance", "weights"])
@pytest.mark.parametrize("pool", [None, AvgPool2d(2)])
def test_snntorch_reads_equal_spikes(gain: Any, pool: nn.Module | None, tmp_path: Path) -> None:
    pytest.importorskip("nirtorch", reason="nirtorch is not installed")
    net, x = network(pool=pool), images()
    write_nir(net, tmp_path / "n.nir", SHAPE, gain=gain)
    assert_equal(read_by_snntorch(nir.read(tmp_path / "n.nir"), 1e-4, x), net(x))


def test_a_graph_of_norse_is_read_with_equal_spikes(tmp_path: Path) -> None:
    # by hand: norse's own export writes dt times tau for tau
    norse = pytest.importorskip("norse.torch", reason="norse is not installed")
    linear, tau, dt = nn.Linear(8, 6).double(), np.linspace(0.002, 0.01, 6), 0.001
    graph = nir.NIRGraph.from_list(
        nir.Affine(linear.weight.detach().numpy() * 4, linear.bias.detach().numpy()),
        nir.LIF(tau, np.ones(6), np.zeros(6), np.full(6, 0.25)),
    )
    nir.write(tmp_path / "n.nir", graph)
    with torch.no_grad():
        linear.weight.mul_(4)
    inverse, bound = torch.from_numpy(1 / tau), torch.tensor(0.25, dtype=torch.float64)
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=inverse, v_th=bound), dt=dt)
    theirs, x = norse.Lift(norse.SequentialState(linear, cell)), torch.rand(40, 5, 8, dtype=torch.float64)
    found = read_nir(tmp_path / "n.nir", dt)
    assert isinstance(found, nn.Sequential)
    assert_equal(found(x), theirs(x)[0])


# what NIR cannot express


def mixed() -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(8, 6), torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5, 0.5]), reset="zero"))


@pytest.mark.parametrize(
    ("net", "arguments", "message"),
    [
        (network("subtract"), {"in_shape": SHAPE}, "layer 0: its reset is 'subtract', which NIR cannot express"),
        (network("none"), {"in_shape": SHAPE}, "layer 0: its reset is 'none', which NIR cannot express"),
        (nn.Sequential(MaxPool2d(2), *network(pool=MaxPool2d(2))[:1]), {"in_shape": SHAPE}, "layer 0: the maximum of"),
        (mixed(), {}, "layer 0: beta is 1 for some neurons only"),
        (network(), {}, "layer 0: the shape of its inputs does not follow from it; give in_shape"),
        (network(), {"in_shape": (3, 8, 8)}, r"layer 0: cannot take inputs \[3, 8, 8\]"),
        (simple(), {"in_shape": (2, 8)}, r"layer 0: takes one axis, found inputs \[2, 8\]"),
        (nn.Sequential(LIF(nn.Conv2d(2, 2, (3, 2)), reset="zero")), {"in_shape": SHAPE}, "assumes square kernels"),
        (nn.Sequential(LIF(nn.Conv2d(2, 2, 3, groups=2), reset="zero")), {"in_shape": SHAPE}, "and one group"),
        (simple(), {"gain": "neither"}, "gain is 'neither' and dt 0.0001, expected"),
        (simple(), {"dt": float("nan")}, "gain is 'resistance' and dt nan, expected"),
        (nn.Sequential(nn.Linear(8, 6)), {}, "layer 0: Linear has no counterpart"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_what_nir_cannot_say_is_refused(net: nn.Module, arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        write_nir(net, tmp_path / "n.nir", **arguments)
    assert not list(tmp_path.iterdir())


def written(path: Path) -> Path:
    write_nir(simple(), path)
    return path


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    path = tmp_path / "n.nir"
    with pytest.raises(ExportError, match=r"there is no file .*n\.nir"):
        read_nir(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ExportError, match=r"n\.nir is no NIR graph that nir can read"):
        read_nir(path)
    with pytest.raises(ExportError, match=r"cannot write .*missing"):
        write_nir(simple(), tmp_path / "missing" / "n.nir")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("node/metadata/schema", 9, "has schema 9, this version reads 1"),
        ("node/nodes/layer0_neurons/tau", np.full(6, 0.5), "node layer0_neurons: its beta is not the one in"),
        ("node/nodes/layer0_neurons/v_threshold", np.ones(6), "node layer0_neurons: its threshold is not the one in"),
        ("node/nodes/layer0_neurons/v_reset", np.ones(6), "node layer0_neurons: v_leak or v_reset is not 0"),
    ],
)
def test_files_that_were_changed_are_refused(where: str, value: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "n.nir")
    with h5py.File(path, "r+") as file:
        del file[where]
        file[where] = value
    with pytest.raises(ExportError, match=message):
        read_nir(path)


def lif(size: int = 6) -> Any:
    return nir.LIF(np.full(size, 0.01), np.ones(size), np.zeros(size), np.ones(size))


def test_graphs_of_others_that_differ_are_refused(tmp_path: Path) -> None:
    path, weights = tmp_path / "n.nir", np.ones((6, 6))
    leaks = nir.LIF(np.full(6, 0.01), np.ones(6), np.ones(6), np.ones(6))
    pair = (nir.Linear(weights), lif())
    for nodes, dt, message in (
        (pair, None, "does not have its time step: give dt in seconds"),
        (pair, 0.02, "layer linear: beta must be greater than 0"),
        ((nir.Linear(weights), leaks), 0.001, "node lif: v_leak or v_reset is not 0"),
        ((nir.Linear(weights),), 0.001, "node linear: Linear is followed by the output, expected LIF or IF"),
        ((lif(),), 0.001, "node lif: LIF is not read here"),
        ((*pair, nir.Scale(np.ones(6))), 0.001, "node scale: Scale is not read here"),
    ):
        nir.write(path, nir.NIRGraph.from_list(*nodes))
        with pytest.raises(ExportError, match=message):
            read_nir(path, dt)
    edges = [("input", "w"), ("w", "n"), ("n", "w"), ("n", "output")]
    nodes = {"input": nir.Input(np.array([6])), "w": pair[0], "n": pair[1], "output": nir.Output(np.array([6]))}
    nir.write(path, nir.NIRGraph(nodes, edges))
    with pytest.raises(ExportError, match="4 nodes and 4 edges that form no chain"):
        read_nir(path, 0.001)
    with pytest.raises(ExportError, match=r"was written for dt = 0\.0001, found dt = 0\.001"):
        read_nir(written(path), 0.001)


# integer networks


def without_leak(net: IntegerNetwork) -> IntegerNetwork:
    layers = (integer.changed(layer, decay=0) if isinstance(layer, Spiking) else layer for layer in net.layers)
    return replace(net, layers=tuple(layers))


@pytest.mark.parametrize("golden", [False, True])
@pytest.mark.parametrize(
    "net",
    [integer.mlp(), integer.lenet(), integer.lenet(reset="zero", levels=1), integer.mlp(reset="subtract_decayed")],
)
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
def test_norse_reads_equal_spikes_from_an_integer_network_without_leak(tmp_path: Path) -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    net = without_leak(integer.mlp(reset="zero"))
    inputs = integer.inputs_for(net)
    write_nir(net, tmp_path / "n.nir")
    graph = nir.read(tmp_path / "n.nir")
    assert graph.nodes["layer0_weights"].weight.dtype == np.int8
    found = read_by_norse(graph, 1e-4, torch.from_numpy(inputs).double())
    assert_equal(found, torch.from_numpy(simulate(net, inputs, record=True).spikes["1"]).double())


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
    with pytest.raises(ExportError, match="the weights of an integer network stay as they are"):
        write_nir(net, tmp_path / "n.nir", gain="weights")


def test_max_pooling_without_leak_needs_no_leave(tmp_path: Path) -> None:
    net = without_leak(integer.lenet(reset="zero", levels=1))
    assert any(isinstance(layer, MaxPool) for layer in net.layers)
    assert any(isinstance(layer, Conv) for layer in net.layers)
    write_nir(net, tmp_path / "n.nir")
    assert nir.read(tmp_path / "n.nir").metadata["dynamics"] == "nodes"
