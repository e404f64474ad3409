"""Mono-nets stay monotone under every optimiser, from every first weight, and refuse weights that are not."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers.mono_replicas import dense_net, image_net
from spiking_lfp import SignSGD, UsageError
from spiking_lfp.mono import (
    INITIALS,
    FeedbackAlignment,
    FeedforwardNet,
    convolutional,
    fully_connected,
    loss_gradient,
)

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 3.0, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.3, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.3),
    "rprop": lambda p: torch.optim.Rprop(p, 0.3),
    "sign": lambda p: SignSGD(p, 0.3),
}


def step(net: FeedforwardNet, optimizer: torch.optim.Optimizer) -> None:
    x, labels = torch.randn(8, 6, dtype=torch.float64), torch.randint(2, (8,))
    activations = net.activations(x)
    FeedbackAlignment(net, "mdfa", x).assign(activations, loss_gradient(activations[-1], labels))
    optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("monotone", ["later", "all"])
def test_no_optimiser_makes_weights_negative(monotone: str, optimizer: str) -> None:
    net = dense_net([6, 5, 4, 1], "tanh", monotone)
    made = OPTIMIZERS[optimizer](net.parameters())
    net.keep_monotone(made)
    touched = 0
    for _ in range(20):
        step(net, made)
        for index in range(0 if monotone == "all" else 1, 3):
            weight = net.parameters_of(index)[0].detach()
            assert float(weight.min()) >= 0
            touched += int((weight == 0).sum())
    assert touched > 0  # without the projection they would have been negative
    if monotone == "later":
        assert float(net.parameters_of(0)[0].detach().min()) < 0


def test_the_projection_outlives_states_that_are_loaded() -> None:
    net = dense_net([6, 5, 1], "tanh", "later")
    made = torch.optim.Adam(net.parameters(), 0.3)
    net.keep_monotone(made)
    step(net, made)
    state = copy.deepcopy((net.state_dict(), made.state_dict()))
    net.load_state_dict(state[0])
    made.load_state_dict(state[1])
    for _ in range(10):
        step(net, made)
        net.check_monotone()


def test_negative_weights_are_refused_when_loaded_and_when_used() -> None:
    net = dense_net([6, 5, 1], "tanh", "later")
    state = copy.deepcopy(net.state_dict())
    state["synapses.1.weight"][0, 2] = -0.25
    with pytest.raises(UsageError, match=r"layer 1 of a monotone network has negative weights, down to -0.25: call"):
        net.load_state_dict(state)
    net = dense_net([6, 5, 1], "tanh", "later")
    made = torch.optim.SGD(net.parameters(), 100.0)
    step(net, made)
    with pytest.raises(UsageError, match="negative weights"):
        net(torch.zeros(1, 6, dtype=torch.float64))
    net.project()
    net(torch.zeros(1, 6, dtype=torch.float64))


@pytest.mark.parametrize("initial", INITIALS)
@pytest.mark.parametrize("monotone", ["no", "later", "all"])
def test_first_weights(monotone: str, initial: str) -> None:
    net = fully_connected(100, (400, 300), 1, "tanh", monotone, initial)  # type: ignore[arg-type]
    for index, inputs in enumerate((100, 400, 300)):
        weight, bias = net.parameters_of(index)
        weight = weight.detach()
        assert bias is not None
        assert not bias.any()
        bounded = monotone == "all" or (monotone == "later" and index > 0)
        sizes = weight.abs()
        if initial == "zeros":
            assert not weight.any()
        elif initial == "uniform":
            assert float(sizes.max()) <= inputs**-0.5
            assert float(sizes.mean()) == pytest.approx(inputs**-0.5 / 2, rel=0.1)
            if bounded:
                assert float(weight.min()) >= 1e-3
        else:
            assert float(weight.square().mean()) == pytest.approx(1 / inputs, rel=0.2)
        if initial != "zeros":
            assert bool((weight >= 0).all()) is bounded


def test_the_networks_of_the_paper() -> None:
    net = fully_connected(3 * 32 * 32)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 1)
    assert [tuple(net.parameters_of(index)[0].shape) for index in range(3)] == [(1024, 3072), (1024, 1024), (1, 1024)]
    net = convolutional((3, 32, 32), outputs=5)
    known = net.activations(torch.rand(2, 3, 32, 32))
    assert [tuple(h.shape[1:]) for h in known] == [(3, 32, 32), (96, 14, 14), (96, 6, 6), (96, 4, 4), (5,)]


@given(st.integers(0, 1000))
def test_a_network_can_be_copied_and_saved_whole(seed: int) -> None:
    torch.manual_seed(seed)
    net = image_net(2, "hard-tanh", "later")
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    x = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), net(x))


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least one layer"):
        FeedforwardNet([])
    with pytest.raises(UsageError, match="unknown activation 'sigmoid'"):
        FeedforwardNet([nn.Linear(2, 1)], "sigmoid")
    with pytest.raises(UsageError, match="layer sizes must be at least 1"):
        fully_connected(3, (0,))
    with pytest.raises(UsageError, match=r"layer sizes must be an integer, at least 1, found 2\.5"):
        fully_connected(2.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"in_shape must be \(channels, height, width\), found \(3, 8\)"):
        convolutional((3, 8))
    with pytest.raises(UsageError, match=r"layer 0 must be \(channels, kernel, stride\), found \(4, 3\)"):
        convolutional((3, 8, 8), ((4, 3),))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stride of layer 0 must be at least 1, found 0"):
        convolutional((3, 8, 8), ((4, 3, 0),))
    net = fully_connected(3, (2,), monotone="later")
    with pytest.raises(UsageError, match="LBFGS evaluates the network within a step"):
        net.keep_monotone(torch.optim.LBFGS(net.parameters()))
    with pytest.raises(UsageError, match="this SGD has none of the weights that must not be negative"):
        net.keep_monotone(torch.optim.SGD(fully_connected(3, (2,), monotone="later").parameters()))
    with pytest.raises(UsageError, match=r"layer 0: expected samples of 3 features, found \[4\]"):
        fully_connected(3, (2,))(torch.zeros(1, 4))
    with pytest.raises(UsageError, match=r"layer 0: expected samples of \[3, height >= 3, width >= 3\]"):
        convolutional((3, 8, 8), ((4, 3, 2),))(torch.zeros(1, 2, 8, 8))
    with pytest.raises(UsageError, match="layer 1: a kernel of 3 does not fit into 2 x 2"):
        convolutional((3, 8, 8))
    with pytest.raises(UsageError, match=r"a synapse must be an nn\.Linear or a convolution .*, found ReLU"):
        FeedforwardNet([nn.ReLU()])
    with pytest.raises(UsageError, match="lr must be greater than 0"):
        SignSGD([torch.zeros(1)], 0.0)


def test_layers_that_share_weights_are_refused() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    for shared in (one, other):
        with pytest.raises(UsageError, match=r"^layers 0 and 1 share their weights: give each a synapse of its own$"):
            FeedforwardNet([one, shared, nn.Linear(4, 1)])
