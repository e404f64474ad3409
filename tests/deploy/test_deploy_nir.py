"""NIR graphs: there and back, read by other packages with equal spikes, and what NIR cannot express."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import integer_networks as integer
from spiking_lfp.deploy.backends.workers.nir_reader import RUN
from spiking_lfp.deploy.formats.nir import READERS, write_nir
from spiking_lfp.deploy.formats.nir_graphs import CHECKSUM, GraphReader
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.hdf5 import digest
from spiking_lfp.deploy.interop import to_norse
from spiking_lfp.deploy.layers import Conv, MaxPool, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import Flatten
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LI, LIF, CubaLIF, RecurrentLIF

nir = pytest.importorskip("nir", reason="nir is not installed")

SHAPE = (2, 8, 8)
# float32 holds what follows from it exactly
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
@pytest.mark.parametrize("reader", ["norse", "spikingjelly"])
def test_what_is_written_for_others_comes_back_with_equal_spikes(
    reader: str, pool: nn.Module | None, tmp_path: Path
) -> None:
    net, x = network(beta=torch.linspace(0.2, 0.9, 4).view(4, 1, 1), pool=pool), images()
    assert_equal(again(net, tmp_path / "n.nir", in_shape=SHAPE, reader=reader)(x), net(x))


@pytest.mark.parametrize("reader", ["snntorch", "spikingjelly"])
@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv1d(2, 4, 5, 2, 1, bias=False),
        nn.Conv1d(2, 4, 3, padding="same", dilation=2),
        nn.Conv1d(4, 2, 3, padding="valid"),
    ],
)
def test_convolutions_of_signals_come_back(convolution: nn.Conv1d, reader: str, tmp_path: Path) -> None:
    channels, length = convolution.in_channels, 16
    inner = LIF(convolution.double(), torch.rand(convolution.out_channels, 1) / 2, 0.1, "zero")
    width = inner(torch.zeros(1, 1, channels, length).double())[0].numel()
    net = nn.Sequential(inner, Flatten(), LIF(nn.Linear(width, 9).double(), 0.75, 0.1, "zero"))
    x = (torch.rand(30, 3, channels, length) < 0.3).double()
    assert_equal(again(net, tmp_path / "n.nir", in_shape=(channels, length), reader=reader)(x), net(x))
    graph = nir.read(tmp_path / "n.nir")
    assert type(graph.nodes["layer0_weights"]).__name__ == "Conv1d"
    assert list(graph.nodes["layer0_weights"].input_type["input"]) == [channels, length]
    for other in ("norse", "spyx"):
        with pytest.raises(ExportError, match=f"layer 0: {other} has no convolutions of signals: choose another"):
            write_nir(net, tmp_path / "other.nir", (channels, length), None, other, dynamics_in_metadata=True)
    assert not (tmp_path / "other.nir").exists()


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
    assert kinds == ["Input", "Conv2d", "LIF", "AvgPool2d", "LIF", "Flatten", "Affine", "LIF", "Linear", "LIF"]
    lif = graph.nodes["layer0_neurons"]
    for found, expected in ((lif.tau, DT / 0.125), (lif.r, 8.0), (lif.v_leak, 0), (lif.v_threshold, 0.25)):
        assert found.shape == (4, 8, 8)
        assert found.dtype == np.float64
        assert (found == expected).all()
    assert (lif.v_reset == 0).all()
    # a quarter of what one of four spikes adds to the mean
    assert (graph.nodes["layer1_any"].v_threshold == 1 / 16).all()
    assert (graph.nodes["layer2_flatten"].start_dim, graph.nodes["layer2_flatten"].end_dim) == (-3, -1)
    assert graph.nodes["layer0_weights"].metadata["layer"] == "0"
    write_nir(net, path, SHAPE, DT, "norse")
    graph = nir.read(path)
    assert type(graph.nodes["layer1_pool"]).__name__ == "SumPool2d"
    assert (graph.nodes["layer0_neurons"].r == 1).all()
    scaled = graph.nodes["layer3_weights"]
    assert np.array_equal(scaled.weight, 4 * net[3].synapse.weight.detach().numpy())
    assert np.array_equal(scaled.bias, 4 * net[3].synapse.bias.detach().numpy())


@pytest.mark.parametrize("reader", ["snntorch", "norse"])
def test_pools_of_spikes_and_neurons_are_max_pooling(reader: str, tmp_path: Path) -> None:
    # what the two nodes say, computed from nir's own numbers
    net, x = network(pool=MaxPool2d(2)), images()
    write_nir(net, tmp_path / "n.nir", SHAPE, DT, reader)
    nodes = nir.read(tmp_path / "n.nir").nodes
    pool, neurons = nodes["layer1_pool"], nodes["layer1_any"]
    spikes = net[0](x)
    pooled = nn.functional.avg_pool2d(spikes.flatten(0, 1), tuple(pool.kernel_size), tuple(pool.stride))
    pooled = pooled.unflatten(0, x.shape[:2]) * (4 if reader == "norse" else 1)
    v, found = torch.zeros_like(pooled[0]), []
    for current in pooled:
        r = 1.0 if reader == "norse" else torch.from_numpy(neurons.r)  # norse does not know r
        v = v + torch.from_numpy(DT / neurons.tau) * (r * current - v)
        fired = v > torch.from_numpy(neurons.v_threshold)
        v = v * ~fired
        found.append(fired.double())
    assert_equal(torch.stack(found), net[1](spikes))


# what an equation by hand says


def stepped(weights: Tensor, nodes: Any, x: Tensor, back: Tensor | None = None) -> Tensor:
    """NIR's equations for one layer, Euler steps of DT, one sample and step at a time."""
    v, i, fired, out = torch.zeros(x.shape[1], len(weights)), 0.0, torch.zeros(x.shape[1], len(weights)), []
    v, fired = v.double(), fired.double()
    for step in x:
        current = step @ weights.T + (0 if back is None else fired @ back.T)
        if type(nodes).__name__ == "CubaLIF":
            w_in, tau_syn, tau = (torch.from_numpy(each) for each in (nodes.w_in, nodes.tau_syn, nodes.tau_mem))
            i = i + DT / tau_syn * (w_in * current - i)
            current = i
        else:
            tau = torch.from_numpy(nodes.tau)
        v = v + DT / tau * (torch.from_numpy(nodes.r) * current - v)
        fired = (v > torch.from_numpy(nodes.v_threshold)).double()
        v = v * (1 - fired)
        out.append(fired)
    return torch.stack(out)


def dyadic(net: nn.Sequential) -> nn.Sequential:
    with torch.no_grad():
        for values in net.double().parameters():
            values.copy_((values * 1024).round() / 1024)
    return net


@pytest.mark.parametrize(
    ("kind", "constants"),
    [(LIF, (0.75, 0.25, "zero")), (CubaLIF, (0.5, 0.75, 0.5, "zero")), (RecurrentLIF, (0.75, 0.25, "zero"))],
)
@pytest.mark.parametrize("reader", ["snntorch", "spikingjelly"])
def test_the_equations_of_the_nodes_spike_alike(kind: Any, constants: Any, reader: str, tmp_path: Path) -> None:
    layer = kind(nn.Linear(8, 6, bias=False), *constants)
    net, x = dyadic(nn.Sequential(layer)), (torch.rand(40, 5, 8).double() * 128).round() / 64
    write_nir(net, tmp_path / "n.nir", None, DT, reader)
    nodes = nir.read(tmp_path / "n.nir").nodes
    back = nodes.get("layer0_recurrent")
    weights = torch.from_numpy(nodes["layer0_weights"].weight)
    recurrent = None if back is None else torch.from_numpy(back.weight)
    expected = net(x)
    assert (recurrent is not None) == isinstance(layer, RecurrentLIF)
    assert_equal(stepped(weights, nodes["layer0_neurons"], x, recurrent), expected)
    found = read_nir(tmp_path / "n.nir")
    assert isinstance(found, nn.Sequential)
    assert_equal(found(x), expected)


@pytest.mark.parametrize("beta", [0.75, 1.0, torch.linspace(0.5, 1.0, 6)])
@pytest.mark.parametrize("reader", ["snntorch", "spyx"])
def test_leaky_integrators_are_readouts(beta: Any, reader: str, tmp_path: Path) -> None:
    reset = READERS[reader].resets[0]
    hidden = LIF(nn.Linear(8, 9, bias=False), 0.75, 0.25, reset)
    net = dyadic(nn.Sequential(hidden, LI(nn.Linear(9, 6, bias=False), beta)))
    x = (torch.rand(40, 5, 8).double() * 128).round() / 64
    write_nir(net, tmp_path / "n.nir", None, DT, reader)
    found = read_nir(tmp_path / "n.nir")
    assert isinstance(found, nn.Sequential)
    assert [type(layer) for layer in found] == [LIF, LI]
    assert torch.equal(found(x), net(x))
    node = nir.read(tmp_path / "n.nir").nodes["layer1_neurons"]
    assert type(node).__name__ == ("I" if reader == "spyx" and np.all(np.asarray(beta) == 1) else "LI")
    v = torch.zeros(5, 6, dtype=torch.float64)
    for spikes, expected in zip(net[0](x), net(x), strict=True):
        current = torch.from_numpy(node.r) * (spikes @ net[1].synapse.weight.T)
        v = v + (DT * current if type(node).__name__ == "I" else DT / torch.from_numpy(node.tau) * (current - v))
        torch.testing.assert_close(v, expected, rtol=1e-12, atol=1e-12)


# NIR graphs in other packages: all are in the table of conformance, each in an environment of its own


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("reader", ["norse", "snntorch"])
def test_batches_are_read_with_equal_spikes(reader: str, tmp_path: Path, capsys: Any) -> None:
    for package in ("nirtorch", reader):
        pytest.importorskip(package, reason=f"{package} is not installed")
    net, x = network(beta=0.9, pool=AvgPool2d(2), dtype=torch.float32), images(torch.float32)
    write_nir(net, tmp_path / "n.nir", SHAPE, reader=reader)
    assert_equal(torch.from_numpy(RUN[reader](nir.read(tmp_path / "n.nir"), x.numpy())), net(x))


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
def test_norse_would_read_other_spikes_from_what_is_not_written_for_it(tmp_path: Path) -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    net, x = network(dtype=torch.float32), images(torch.float32)
    write_nir(net, tmp_path / "n.nir", SHAPE)
    assert not np.array_equal(RUN["norse"](nir.read(tmp_path / "n.nir"), x.numpy()), net(x).detach().numpy())


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


def lif(size: int = 6, **changed: Any) -> Any:
    fields = {"tau": np.full(size, 0.01), "r": np.ones(size), "v_leak": np.zeros(size), "v_threshold": np.ones(size)}
    return nir.LIF(**{**fields, **changed})


@pytest.mark.usefixtures("unchecked")
def test_a_reset_that_the_writer_lost_can_be_given(tmp_path: Path) -> None:
    # as snntorch.export_to_nir writes Leaky(0.75, reset_mechanism="subtract")
    weight = np.round(np.random.default_rng(0).normal(size=(6, 8)) * 64) / 64
    beta, path = 0.75, tmp_path / "n.nir"
    neurons = lif(tau=np.full(6, DT / (1 - beta)), r=np.full(6, 1 / (1 - beta)))
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(weight), neurons))
    ours = nn.Sequential(LIF(nn.Linear(8, 6, bias=False), beta, 1.0, "subtract")).double()
    with torch.no_grad():
        ours[0].synapse.weight.copy_(torch.from_numpy(weight))
    x = torch.rand(40, 5, 8).double() * 3
    found, plain = read_nir(path, DT, "subtract"), read_nir(path, DT)
    assert isinstance(found, nn.Module)
    assert isinstance(plain, nn.Module)
    assert_equal(found(x), ours(x))
    assert not torch.equal(plain(x), ours(x))
    write_nir(simple(), path)
    with pytest.raises(ExportError, match="it was written with the resets of its neurons: omit reset"):
        read_nir(path, reset="subtract")
    with pytest.raises(ExportError, match="reset is 'never', expected subtract, zero, none"):
        read_nir(path, reset="never")  # type: ignore[arg-type]


def test_sums_over_windows_are_means_and_a_factor(tmp_path: Path) -> None:
    # as sinabs writes them: convolution, neurons, sums, convolution
    random = np.random.default_rng(0)
    first, second = (np.round(random.normal(size=shape) * 64) / 64 for shape in ((4, 2, 3, 3), (3, 4, 2, 2)))
    bias = np.round(random.normal(size=3) * 64) / 64

    def conv(weight: Any, bias: Any) -> Any:
        return nir.Conv2d(None, weight, 1, 0, 1, 1, bias)

    def neurons(*shape: int) -> Any:
        full = np.full(shape, 4 * DT), np.full(shape, 4.0), np.zeros(shape), np.ones(shape)
        return nir.LIF(*full)

    graph = nir.NIRGraph.from_list(
        nir.Input(np.array([2, 8, 8])), conv(first, np.zeros(4)), neurons(4, 6, 6),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), conv(second, bias), neurons(3, 2, 2),
    )  # fmt: skip
    nir.write(tmp_path / "n.nir", graph)
    found = read_nir(tmp_path / "n.nir", DT)
    assert isinstance(found, nn.Sequential)
    x = (torch.rand(30, 3, 2, 8, 8).double() * 16).round() / 8
    spikes = LIF(nn.Conv2d(2, 4, 3, bias=False).double(), 0.75, 1.0, "zero")
    after = LIF(nn.Conv2d(4, 3, 2).double(), 0.75, 1.0, "zero")
    with torch.no_grad():
        spikes.synapse.weight.copy_(torch.from_numpy(first))
        after.synapse.weight.copy_(torch.from_numpy(second))
        after.synapse.bias.copy_(torch.from_numpy(bias))
        pooled = nn.functional.avg_pool2d(spikes(x).flatten(0, 1), 2) * 4
        assert_equal(found(x), after(pooled.unflatten(0, (30, 3))))


def test_graphs_in_graphs_and_recurrent_weights_are_read(tmp_path: Path) -> None:
    random, path = np.random.default_rng(1), tmp_path / "n.nir"
    weight, back = (np.round(random.normal(size=shape) * 64) / 64 for shape in ((6, 8), (6, 6)))
    shape = np.array([6])
    inner = nir.NIRGraph(
        {"input": nir.Input(shape), "lif": lif(tau=np.full(6, 4 * DT), r=np.full(6, 4.0)),
         "w": nir.Affine(back, np.zeros(6)), "output": nir.Output(shape)},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )  # fmt: skip
    nodes = {"in": nir.Input(np.array([8])), "a": nir.Linear(weight), "rnn": inner, "out": nir.Output(shape)}
    nir.write(path, nir.NIRGraph(nodes, [("in", "a"), ("a", "rnn"), ("rnn", "out")], type_check=False))
    found = read_nir(path, DT)
    assert isinstance(found, nn.Sequential)
    assert [type(layer) for layer in found] == [RecurrentLIF]
    expected = RecurrentLIF(nn.Linear(8, 6, bias=False), 0.75, 1.0, "zero").double()
    with torch.no_grad():
        expected.synapse.weight.copy_(torch.from_numpy(weight))
        expected.recurrent.weight.copy_(torch.from_numpy(back))
    x = (torch.rand(40, 5, 8).double() * 16).round() / 8
    assert_equal(found(x), expected(x))


# what NIR cannot express


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


def resealed(path: Path) -> Path:
    """Give a file that was edited the checksum that it has now."""
    with h5py.File(path, "r+") as file:
        records = GraphReader(path, file).everything(file["node"], attributes=False)
        file[CHECKSUM][()] = digest((where, value) for where, value in records if where != CHECKSUM)
    return path


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


def test_networks_of_bfloat16_are_written_as_the_numbers_that_they_hold(tmp_path: Path) -> None:
    network, path = nn.Sequential(LIF(nn.Linear(4, 3), beta=0.5, reset="zero")).bfloat16(), tmp_path / "net.nir"
    write_nir(network, path)
    x = torch.rand(5, 2, 4)
    assert torch.equal(read_nir(path)(x), network.float()(x))


# integer networks


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
