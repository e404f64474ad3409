"""NIR graphs: there and back, and read by other packages with equal spikes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.nir_networks import SHAPE, again, assert_equal, images, lif, network, simple
from spiking_lfp.deploy.backends.workers.nir_reader import RUN
from spiking_lfp.deploy.formats.nir import READERS, write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import Flatten
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LI, LIF, CubaLIF, RecurrentLIF

nir = pytest.importorskip("nir", reason="nir is not installed")

# float32 holds what follows from it exactly
DT = 2.0**-13


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


def test_networks_of_bfloat16_are_written_as_the_numbers_that_they_hold(tmp_path: Path) -> None:
    network, path = nn.Sequential(LIF(nn.Linear(4, 3), beta=0.5, reset="zero")).bfloat16(), tmp_path / "net.nir"
    write_nir(network, path)
    x = torch.rand(5, 2, 4)
    assert torch.equal(read_nir(path)(x), network.float()(x))
