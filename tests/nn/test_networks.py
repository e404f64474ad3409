"""The papers' networks."""

from typing import Any

import pytest
import torch
from torch import nn

from spiking_lfp import (
    LIF,
    AvgPool2d,
    Dropout,
    Flatten,
    MaxPool2d,
    NormalizeFeedback,
    RecurrentLIF,
    UsageError,
    constant,
    lenet,
    mlp,
    propagate,
)
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.layers import SynapticLayer
from spiking_lfp.nn.networks import NETWORKS, build_network, stack, with_mono_readout


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def kinds(network: nn.Sequential) -> list[type]:
    return [type(module) for module in network]


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + outputs


@pytest.mark.parametrize(
    ("network", "parameters", "layers"),
    [
        # 784-1000-1000-10
        (mlp(), dense(784, 1000) + dense(1000, 1000) + dense(1000, 10), [Flatten, LIF, LIF, LIF]),
        # 784-1000-10
        (mlp(hidden=(1000,)), dense(784, 1000) + dense(1000, 10), [Flatten, LIF, LIF]),
        # no hidden layer
        (mlp(hidden=()), dense(784, 10), [Flatten, LIF]),
        # 12C5-MP2-64C5-MP2-1024-10: 28 -> 24 -> 12 -> 8 -> 4
        (
            lenet(),
            conv(1, 12, 5) + conv(12, 64, 5) + dense(64 * 4 * 4, 1024) + dense(1024, 10),
            [LIF, MaxPool2d, LIF, MaxPool2d, Flatten, LIF, LIF],
        ),
        # 12C5-MP2-64C5-MP2-10
        (
            lenet(hidden=()),
            conv(1, 12, 5) + conv(12, 64, 5) + dense(64 * 4 * 4, 10),
            [LIF, MaxPool2d, LIF, MaxPool2d, Flatten, LIF],
        ),
    ],
)
def test_paper_sizes(network: nn.Sequential, parameters: int, layers: list[type]) -> None:
    assert count(network) == parameters
    assert kinds(network) == layers


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"in_shape": (2, 34, 34), "classes": 11, "hidden": (5, 4)}),
        ("mlp", {"in_shape": (6,), "classes": 1, "hidden": ()}),
        ("lenet", {"in_shape": (2, 16, 13), "classes": 7, "channels": (3, 4), "hidden": (6,), "kernel": 3}),
        ("lenet", {"in_shape": (3, 9, 8), "classes": 2, "channels": (3,), "hidden": (), "kernel": 5}),
        ("lenet", {"in_shape": (1, 4, 4), "classes": 2, "channels": (), "hidden": ()}),
    ],
)
def test_networks_give_one_spike_train_per_class(name: str, arguments: dict[str, Any]) -> None:
    network = build_network(name, **arguments)
    spikes = network(constant(torch.rand(3, *arguments["in_shape"]), 6))
    assert spikes.shape == (6, 3, arguments["classes"])
    propagate(spikes, torch.ones_like(spikes))
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_constants_reach_every_layer(name: str) -> None:
    network = build_network(name, beta=0.7, threshold=0.4, reset="none")
    layers = [module for module in network if isinstance(module, LIF)]
    assert len(layers) > 2
    for layer in layers:
        assert (layer.beta.item(), layer.threshold.item(), layer.reset) == (0.7, 0.4, "none")


@pytest.mark.parametrize("name", NETWORKS)
def test_normalisation_stands_between_the_layers(name: str) -> None:
    plain, normalised = build_network(name), build_network(name, normalize_feedback=True)
    spiking = sum(isinstance(module, LIF) for module in plain)
    assert kinds(normalised).count(NormalizeFeedback) == spiking - 1
    assert [kind for kind in kinds(normalised) if kind is not NormalizeFeedback] == kinds(plain)
    for place, kind in enumerate(kinds(normalised)):
        if kind is NormalizeFeedback:  # in front of a layer, but not of the first
            assert kinds(normalised)[place + 1] is LIF
            assert LIF in kinds(normalised)[:place]


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_named_after_their_place(name: str) -> None:
    network = build_network(name)
    for place, module in network.named_children():
        if isinstance(module, SynapticLayer):
            assert module.name == place


def test_weights_are_initialised_as_torch_does() -> None:
    torch.manual_seed(5)
    network = mlp((6,), 2, (4,))
    torch.manual_seed(5)
    for layer, reference in zip(network[1:], (nn.Linear(6, 4), nn.Linear(4, 2)), strict=True):
        assert torch.equal(layer.synapse.weight, reference.weight)
        assert torch.equal(layer.synapse.bias, reference.bias)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mlp", {"hidden": (0,)}, "layer sizes must be at least 1"),
        ("mlp", {"classes": 0}, "layer sizes must be at least 1"),
        ("mlp", {"in_shape": (0, 28)}, "layer sizes must be at least 1"),
        ("mlp", {"beta": 1.5}, "beta must be greater than 0 and at most 1, found 1.5"),
        ("mlp", {"threshold": 0.0}, "threshold must be finite and greater than 0"),
        ("mlp", {"reset": "soft"}, "reset must be one of subtract, zero, none, found 'soft'"),
        ("lenet", {"in_shape": (28, 28)}, r"in_shape must be \(channels, height, width\), found \(28, 28\)"),
        ("lenet", {"in_shape": (1, 15, 28)}, r"samples of \(1, 15, 28\) are too small for 2 convolutions of 5"),
        ("lenet", {"in_shape": (1, 28, 15)}, r"samples of \(1, 28, 15\) are too small for 2 convolutions of 5"),
        ("lenet", {"channels": (12, 0)}, "layer sizes must be at least 1"),
        ("lenet", {"kernel": 0}, "layer sizes must be at least 1"),
        ("lenet", {"classes": -1}, "layer sizes must be at least 1"),
        ("mlp", {"gain": 0}, "gain must be finite and greater than 0, found 0: weights of exactly 0 never learn"),
        ("mlp", {"hidden": 100}, r"hidden must be integers in a tuple or a list, as \(100,\), found 100"),
        ("lenet", {"in_shape": 28}, r"in_shape must be integers in a tuple or a list, as \(100,\), found 28"),
        ("lenet", {"channels": (12, 6.5)}, "channels must be integers in a tuple or a list, .* found .12, 6.5."),
        ("stack", {"in_shape": "12C5-256"}, "in_shape must be integers in a tuple or a list, .* found '12C5-256'"),
        ("stack", {"layers": ["12C5"]}, "layers must be a text such as 12C5-MP2-256, found list"),
    ],
)
def test_arguments_that_cannot_be_used(unchecked: None, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(name, **arguments)


@pytest.mark.parametrize("shape", [(1, 16, 28), (1, 28, 16)])
def test_the_smallest_samples_that_two_convolutions_of_5_take(shape: tuple[int, ...]) -> None:
    """16 -> 12 -> 6 -> 2 -> 1."""
    assert lenet(shape, 3, (2, 2), ())(torch.rand(2, 1, *shape)).shape == (2, 1, 3)


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"unknown network 'lenett': did you mean 'lenet'\? known are lenet, mlp"):
        build_network("lenett")
    with pytest.raises(UsageError, match="unknown network 'xyz': known are lenet, mlp"):
        build_network("xyz")


def test_an_unknown_argument_gets_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"hiden.*did you mean 'hidden'"):
        build_network("mlp", hiden=(100,))


def test_a_stack_is_what_is_written() -> None:
    network = stack(
        (2, 34, 34), 10, "12C5-MP2-DP0.3-8C3s2p1-AP2-20R-30", beta=0.8, threshold=0.5, reset="zero", gain=2.0
    )
    expected = [LIF, MaxPool2d, Dropout, LIF, AvgPool2d, Flatten, RecurrentLIF, LIF, LIF]
    assert kinds(network) == expected
    # 34 -> 30 -> 15 -> 8 -> 4, 8 * 4 * 4 = 128
    shapes = [tuple(layer.synapse.weight.shape) for layer in network if isinstance(layer, LIF)]
    assert shapes == [(12, 2, 5, 5), (8, 12, 3, 3), (20, 128), (30, 20), (10, 30)]
    assert (network[3].synapse.stride, network[3].synapse.padding, network[2].p) == ((2, 2), (1, 1), 0.3)
    assert {(float(m.beta), float(m.threshold), m.reset) for m in network if isinstance(m, LIF)} == {(0.8, 0.5, "zero")}
    assert network(torch.ones(3, 2, 2, 34, 34)).shape == (3, 2, 10)


def test_layers_of_a_stack_are_normalised_where_it_says_so() -> None:
    network = stack((2, 12, 12), 3, "4C3s2p1BN-MP2-5C2-8BN-6RBN-7", threshold=0.5)
    layers = [layer for layer in network if isinstance(layer, LIF)]
    assert [layer.norm is not None for layer in layers] == [True, False, True, True, False, False]
    for layer in layers:
        assert (layer.synapse.bias is None) == (layer.norm is not None)
        assert layer.norm is None or layer.norm.weight.tolist() == [0.5] * len(layer.synapse.weight)
    assert (layers[0].synapse.stride, layers[0].synapse.padding) == ((2, 2), (1, 1))
    assert network(torch.ones(3, 2, 2, 12, 12)).shape == (3, 2, 3)


def test_gain_makes_first_weights_larger_and_nothing_else() -> None:
    torch.manual_seed(1)
    plain = stack((1, 4, 4), 3, "6")
    torch.manual_seed(1)
    larger = stack((1, 4, 4), 3, "6", gain=3.0)
    for a, b in zip(plain.parameters(), larger.parameters(), strict=True):
        assert torch.equal(b, 3 * a if a.dim() > 1 else a)


def test_a_stack_of_nothing_is_the_layer_of_the_classes() -> None:
    assert kinds(stack((1, 28, 28), 10, "")) == [Flatten, LIF]
    written = stack((1, 28, 28), 10, "12C5-MP2-64C5-MP2-1024")
    assert [tuple(p.shape) for p in written.parameters()] == [tuple(p.shape) for p in lenet().parameters()]
    assert kinds(written) == kinds(lenet())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("12C5-pool", "layer 'pool' must be written like 12C5"),
        ("12C", "layer '12C' must be written like"),
        ("128-MP2", "layer 'MP2' needs images"),
        ("4C40", "layer '4C40' is larger than its input of 28 x 28"),
        ("MP29", "layer 'MP29' does not fit its input of 28 x 28"),
        ("0C5", "the numbers of layer '0C5' must be at least 1"),
        ("0", "the neurons of layer '0' must be at least 1"),
        ("DP1", "layer 'DP1' must be written like"),
        ("MP2BN", "layer 'MP2BN' must be written like"),
    ],
)
def test_layers_that_cannot_be_built(layers: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stack((1, 28, 28), 10, layers)


def test_a_mono_readout_takes_the_place_of_the_last_layer() -> None:
    network = with_mono_readout(lenet(classes=3, hidden=(12,)), (5,), "pairwise", 2, 0.8)
    readout = network[-1]
    assert isinstance(readout, MonoReadout)
    assert (readout.windows, readout.beta) == (2, 0.8)
    assert readout.features == 12
    assert network(torch.rand(4, 2, 1, 28, 28)).shape == (1, 2, 3)
    with pytest.raises(UsageError, match="replaces a dense spiking layer at the end of a network, found MonoReadout"):
        with_mono_readout(network)
    with pytest.raises(UsageError, match="needs a hidden layer with spikes below it, and the network has none"):
        with_mono_readout(mlp(hidden=()))
    with pytest.raises(UsageError, match="90 neurons below, found 12"):
        with_mono_readout(mlp(hidden=(12,)), scheme="pairwise")
