"""Every method's deltas against autograd or a replica, in float64, for dense and convolutional networks."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.mono_replicas import dense_net, gradients, gradients_from, grads, image_net, loss, slope, taped
from spiking_lfp import NonFiniteError, UsageError
from spiking_lfp.mono import ACTIVATIONS, METHODS, FeedbackAlignment, FeedforwardNet, fully_connected, loss_gradient

NETS = ["dense", "deep", "images"]


def case(kind: str, activation: str, outputs: int, monotone: str = "later") -> tuple[FeedforwardNet, Tensor, Tensor]:
    if kind == "deep":
        net, x = dense_net([6, 6, 6, 6, 4, 4, outputs], activation, monotone), torch.randn(7, 6, dtype=torch.float64)
    elif kind == "dense":
        net, x = dense_net([6, 5, 4, 3, outputs], activation, monotone), torch.randn(7, 6, dtype=torch.float64)
    else:
        net, x = image_net(outputs, activation, monotone), torch.randn(7, 2, 9, 8, dtype=torch.float64)
    return net, x, torch.randint(max(outputs, 2), (7,))


def assigned(net: FeedforwardNet, method: str, x: Tensor, labels: Tensor, seed: int = 0) -> list[Tensor]:
    net.zero_grad()
    alignment = FeedbackAlignment(net, method, x, seed)
    activations = net.activations(x)
    alignment.assign(activations, loss_gradient(activations[-1], labels))
    return grads(net)


def close(actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("outputs", [1, 3, 4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", NETS)
def test_backpropagation_is_autograds(kind: str, activation: str, outputs: int) -> None:
    net, x, labels = case(kind, activation, outputs, "no")
    torch.testing.assert_close(net(x), taped(net, x)[0], rtol=1e-13, atol=1e-13)
    close(assigned(net, "bp", x, labels), gradients(net, x, labels))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("method", ["fa", "sign-symmetry"])
@pytest.mark.parametrize("kind", NETS)
def test_feedback_alignment_is_autograd_with_other_weights(kind: str, method: str, outputs: int) -> None:
    net, x, labels = case(kind, "tanh", outputs)
    assigned_gradients = assigned(net, method, x, labels, seed=3)
    alignment = FeedbackAlignment(net, method, x, seed=3)
    out, sums = taped(net, x)
    deltas = [torch.autograd.grad(loss(out, labels), out)[0]]
    for index in range(len(net.synapses) - 1, 0, -1):
        random = alignment.get_buffer(f"feedback{index}")
        weight = net.parameters_of(index)[0]
        assert random.shape == weight.shape
        # the same layer with other weights, from the sum before
        z = sums[index - 1].detach().requires_grad_()
        h = torch.tanh(z)
        other = copy.deepcopy(net.synapses[index])
        assert isinstance(other, nn.Linear | nn.Conv2d)
        with torch.no_grad():
            other.weight.copy_(weight.sign() * random.abs() if method == "sign-symmetry" else random)
        above = other(h.flatten(1) if isinstance(other, nn.Linear) else h)
        deltas.insert(0, torch.autograd.grad(above, z, deltas[0])[0])
    close(assigned_gradients, gradients_from(net, x, deltas))


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["dfa", "mdfa", "drtp"])
@pytest.mark.parametrize("kind", NETS)
def test_direct_feedback_neuron_by_neuron(kind: str, method: str, activation: str, outputs: int) -> None:
    net, x, labels = case(kind, activation, outputs)
    alignment = FeedbackAlignment(net, method, x, seed=1)
    out, sums = taped(net, x)
    error = torch.autograd.grad(loss(out, labels), out)[0]
    sent = error
    if method == "drtp":
        sent = ((1 - 2 * labels[:, None]) if outputs == 1 else -F.one_hot(labels, outputs)).double() / 7
    deltas = []
    for index, z in enumerate(sums[:-1], 1):
        random = alignment.get_buffer(f"feedback{index}").flatten(1)
        back = torch.zeros_like(z).flatten(1)
        for sample in range(len(x)):
            for unit in range(back.shape[1]):
                back[sample, unit] = sum(sent[sample, k] * random[k, unit] for k in range(outputs))
        deltas.append(back.view_as(z) * slope(net, z))
    close(assigned(net, method, x, labels, seed=1), gradients_from(net, x, [*deltas, error]))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_gradient_of_the_loss_is_autograds(outputs: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    out = torch.randn(batch, outputs, dtype=torch.float64).requires_grad_()
    labels = torch.randint(max(outputs, 2), (batch,))
    torch.testing.assert_close(loss_gradient(out, labels), torch.autograd.grad(loss(out, labels), out)[0])


@pytest.mark.parametrize("method", METHODS)
def test_feedback_weights_follow_the_seed_and_the_state(method: str) -> None:
    net, x, _ = case("images", "tanh", 2)
    one, same, other = (FeedbackAlignment(net, method, x, seed) for seed in (4, 4, 5))
    state = one.state_dict()
    assert all(torch.equal(state[name], same.state_dict()[name]) for name in state)
    assert len(state) == (0 if method == "bp" else 3)
    if state:
        assert not any(torch.equal(state[name], other.state_dict()[name]) for name in state)
        other.load_state_dict(state)
        assert all(torch.equal(state[name], other.state_dict()[name]) for name in state)
    if method == "mdfa":
        assert all(float(random.min()) >= 0 for random in state.values())


def test_uniform_feedback_lies_within_its_bounds() -> None:
    net, x, _ = case("dense", "tanh", 4)
    feedback_weights = FeedbackAlignment(net, "dfa", x, feedback="uniform").state_dict().values()
    assert all(0.3 < float(random.abs().max()) <= 0.5 for random in feedback_weights)


@pytest.mark.parametrize("method", METHODS)
def test_density_thins_the_direct_feedback_to_convolutions(method: str) -> None:
    net, x, _ = case("images", "tanh", 200)
    thinned = FeedbackAlignment(net, method, x, density=0.1).state_dict()
    for weights in thinned.values():
        share = float((weights != 0).double().mean())
        assert share == pytest.approx(0.1 if METHODS[method].path == "direct" else 1, abs=0.03)
        assert weights[weights != 0].std() > 0
    net, x, _ = case("dense", "tanh", 3)
    thinned = FeedbackAlignment(net, method, x, density=0.1).state_dict()
    whole = FeedbackAlignment(net, method, x).state_dict()
    assert all(torch.equal(weights, whole[name]) for name, weights in thinned.items())


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, torch.nan])
def test_a_density_that_is_no_share(density: float) -> None:
    net, x, _ = case("images", "tanh", 1)
    with pytest.raises(UsageError, match="density must be above 0 and at most 1, found"):
        FeedbackAlignment(net, "mdfa", x, density=density)


@pytest.mark.parametrize("kind", NETS)
def test_the_error_at_the_inputs(kind: str) -> None:
    net, x, labels = case(kind, "tanh", 1, "all")
    alignment = FeedbackAlignment(net, "mdfa", x, to_inputs=True)
    activations = net.activations(x)
    first = alignment.deltas(activations, loss_gradient(activations[-1], labels))[0]
    layer = copy.deepcopy(net.synapses[0])
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    with torch.no_grad():
        layer.weight.copy_(alignment.get_buffer("feedback0"))
    shown = x.clone().requires_grad_()
    expected = torch.autograd.grad(layer(shown), shown, first)[0]
    torch.testing.assert_close(alignment.input_feedback(first, x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_taped(dtype: torch.dtype) -> None:
    net, x, _ = case("dense", "tanh", 1)
    net, x = net.to(dtype), x.to(dtype)
    assert not any(h.requires_grad for h in net.activations(x))
    with pytest.raises(RuntimeError, match="does not require grad"):
        net(x).sum().backward()
    with pytest.raises(UsageError, match=r"layer 0: input is torch\.float16 on cpu, weights are"):
        net(x.half())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", NETS)
def test_autocast_changes_nothing(kind: str, method: str) -> None:
    net, x, labels = case(kind, "tanh", 1, "later")
    net, x = net.float(), x.float()
    alignment = FeedbackAlignment(net, method, x)
    outcomes = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            activations = net.activations(x)
            alignment.assign(activations, loss_gradient(activations[-1], labels))
        outcomes.append([*activations, *(parameter.grad for parameter in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("method", ["fa", "sign-symmetry", "dfa"])
def test_feedback_keeps_its_size_on_the_way(method: str) -> None:
    net = fully_connected(300, (500, 400), 200, "tanh", "later", "normal")
    x = torch.rand(8, 300)
    alignment = FeedbackAlignment(net, method, x)
    assert all(
        0.6 < float(alignment.get_buffer(f"feedback{index}").square().mean()) * units < 1.5
        for index, units in ((1, 400 if METHODS[method].path == "layers" else 200), (2, 200))
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_receive_nothing(method: str) -> None:
    net, x = fully_connected(5, (4,), outputs=2, monotone="later"), torch.rand(3, 5)
    net.synapses[0].requires_grad_(False)
    net.synapses[1].bias.requires_grad_(False)
    alignment, activations = FeedbackAlignment(net, method, x), net.activations(x)
    alignment.assign(activations, loss_gradient(activations[-1], torch.tensor([0, 1, 1])))
    learns = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learns == {"synapses.1.weight"}


def test_feedback_weights_that_did_not_move_with_their_network_are_refused() -> None:
    net, x = fully_connected(5, (4,), outputs=2), torch.rand(3, 5)
    alignment = FeedbackAlignment(net, "dfa", x)
    activations = net.double().activations(x.double())
    error = loss_gradient(activations[-1], torch.tensor([0, 1, 1]))
    with pytest.raises(
        UsageError, match=r"^error is torch\.float64 on cpu, the feedback weights are torch\.float32 on cpu; move "
    ):
        alignment.assign(activations, error)
    alignment.double().assign(activations, error)


def test_what_cannot_be() -> None:
    net, x, _ = case("dense", "tanh", 1, "no")
    with pytest.raises(UsageError, match="unknown method 'mdafa': did you mean 'mdfa'"):
        FeedbackAlignment(net, "mdafa", x)
    with pytest.raises(UsageError, match="unknown feedback 'gaussian'"):
        FeedbackAlignment(net, "dfa", x, feedback="gaussian")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"feedback alignment is for a FeedforwardNet, .*, found Linear"):
        FeedbackAlignment(nn.Linear(3, 1), "dfa", x)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="mdfa needs a network with monotone='later' or 'all'"):
        FeedbackAlignment(net, "mdfa", x)
    alignment = FeedbackAlignment(net, "dfa", x)
    activations = net.activations(x)
    with pytest.raises(UsageError, match="create the FeedbackAlignment with to_inputs=True"):
        alignment.input_feedback(activations[1], x)
    with pytest.raises(UsageError, match=r"the error must have the shape \[7, 1\] of the outputs, found \[7, 2\]"):
        alignment.assign(activations, torch.zeros(7, 2, dtype=torch.float64))
    with pytest.raises(UsageError, match=r"activations must be the \d that net.activations returned, found \d"):
        alignment.assign(activations[1:], torch.zeros(7, 1, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="layer 0: its feedback holds NaN or infinity"):
        alignment.assign(activations, torch.full((7, 1), torch.nan, dtype=torch.float64))
    with pytest.raises(UsageError, match=r"labels must lie in 0\.\.1 for 2 classes, found 0\.\.2"):
        loss_gradient(activations[-1], torch.tensor([0, 1, 2, 0, 0, 0, 0]))


@pytest.mark.usefixtures("unchecked")
def test_labels_of_another_number_or_kind() -> None:
    out = torch.zeros(7, 1)
    with pytest.raises(UsageError, match=r"targets are \[6\] of .*, expected class indices \[7\]"):
        loss_gradient(out, torch.zeros(6, dtype=torch.long))
    with pytest.raises(UsageError, match=r"targets are \[7\] of torch.float32, expected class indices"):
        loss_gradient(out, torch.zeros(7))
    with pytest.raises(UsageError, match=r"targets are \[7, 1\] of torch.int64, expected class indices"):
        loss_gradient(out, torch.zeros(7, 1, dtype=torch.long))
