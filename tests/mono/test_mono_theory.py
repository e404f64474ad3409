"""Theorems of the mDFA paper: signs of gradients for one output, not for two; monotone, and as able as any network."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.mono_replicas import MODULES, dense_net, gradients, grads, image_net
from spiking_lfp import SignSGD
from spiking_lfp.mono import ACTIVATIONS, FeedbackAlignment, FeedforwardNet, from_sigmoid, loss_gradient

SEEDS = st.integers(0, 2**32 - 1)


def mdfa(net: FeedforwardNet, x: Tensor, labels: Tensor, alignment: FeedbackAlignment | None = None) -> list[Tensor]:
    alignment = alignment or FeedbackAlignment(net, "mdfa", x)
    activations = net.activations(x)
    alignment.assign(activations, loss_gradient(activations[-1], labels))
    return grads(net)


@given(SEEDS, st.lists(st.integers(1, 6), min_size=1, max_size=6), st.sampled_from(sorted(ACTIVATIONS)))
def test_theorem_2_every_update_of_a_sample_has_the_sign_of_the_gradient(
    seed: int, hidden: list[int], activation: str
) -> None:
    torch.manual_seed(seed)
    net = dense_net([4, *hidden, 1], activation, "later")
    x, labels = torch.randn(1, 4, dtype=torch.float64), torch.randint(2, (1,))
    for update, gradient in zip(mdfa(net, x, labels), gradients(net, x, labels), strict=True):
        assert bool((update * gradient >= 0).all())
        # and where the gradient is not zero, neither is the update
        assert torch.equal(update.sign()[gradient != 0], gradient.sign()[gradient != 0])


@given(SEEDS, st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from([1.0, 0.2]))
def test_theorem_2_in_convolutions_is_about_units_and_biases(seed: int, activation: str, density: float) -> None:
    # a weight is shared by all places, where the units below it may differ in sign: their sum is not covered
    torch.manual_seed(seed)
    net = image_net(1, activation, "later")
    x = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    labels = torch.randint(2, (1,))
    alignment = FeedbackAlignment(net, "mdfa", x, density=density)
    activations = net.activations(x)
    error = loss_gradient(activations[-1], labels)
    direct = alignment.deltas(activations, error)
    exact = FeedbackAlignment(net, "bp", x).deltas(activations, error)
    # at every unit of every place the signs are the gradient's, and so is that of every bias
    for one, other in zip(direct, exact, strict=True):
        assert bool((one * other >= 0).all())
    alignment.assign(activations, error)
    for update, gradient in zip(grads(net)[1::2], gradients(net, x, labels)[1::2], strict=True):
        assert bool((update * gradient >= 0).all())


def test_theorem_2_is_about_one_sample_updates_of_a_batch_may_point_away() -> None:
    # one hidden unit is steep for the one sample, the other unit for the other; feedback weights do not know
    net = dense_net([1, 1, 1, 1], "tanh", "later")
    with torch.no_grad():
        for synapse, weight, bias in zip(net.synapses, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), strict=True):
            nn.init.constant_(synapse.weight, weight)  # type: ignore[arg-type]
            nn.init.constant_(synapse.bias, bias)  # type: ignore[arg-type]
    x = torch.tensor([[0.1], [2.0]], dtype=torch.float64)
    alignment = FeedbackAlignment(net, "mdfa", x)
    activations = net.activations(x)
    slopes = [1 - activations[index] ** 2 for index in (1, 2)]
    # errors of both signs, whose sum over samples at the first layer differs in sign from the gradient's
    share = slopes[0][0] / slopes[0][1]
    steeper = share * (slopes[1][0] / slopes[1][1])
    error = torch.stack([torch.ones(1, dtype=torch.float64), -(share * steeper).sqrt()])
    direct = alignment.deltas(activations, error)[0].sum()
    exact = FeedbackAlignment(net, "bp", x).deltas(activations, error)[0].sum()
    assert float(direct * exact) < 0


def test_theorem_5_with_two_outputs_a_sample_is_enough() -> None:
    # the example of app. A.3: W_2 the identity, both feedback weights into the first unit, errors of two signs
    net = dense_net([2, 2, 2], "relu", "later")
    x = torch.ones(1, 2, dtype=torch.float64)
    with torch.no_grad():
        for synapse in net.synapses:
            synapse.weight.copy_(torch.eye(2))  # type: ignore[union-attr, operator]
            synapse.bias.zero_()  # type: ignore[union-attr, operator]
    alignment = FeedbackAlignment(net, "mdfa", x)
    alignment.get_buffer("feedback1").copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    activations = net.activations(x)
    error = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    direct = alignment.deltas(activations, error)[0]
    exact = FeedbackAlignment(net, "bp", x).deltas(activations, error)[0]
    assert direct.tolist() == [[-1.0, 1.0]]
    assert exact.tolist() == [[1.0, -1.0]]


@given(SEEDS, st.integers(1, 5), st.integers(1, 8), st.integers(1, 3))
def test_theorem_1_a_sigmoid_network_as_a_mono_net_of_twice_the_units(
    seed: int, inputs: int, units: int, outputs: int
) -> None:
    torch.manual_seed(seed)
    hidden, output = nn.Linear(inputs, units).double(), nn.Linear(units, outputs, bias=seed % 2 == 0).double()
    net = from_sigmoid(hidden, output)
    assert net.parameters_of(0)[0].shape == (2 * units, inputs)
    assert net.monotone == "later"
    net.check_monotone()
    x = 3 * torch.randn(9, inputs, dtype=torch.float64)
    torch.testing.assert_close(net(x), output(torch.sigmoid(hidden(x))), rtol=0, atol=1e-10)


@given(SEEDS, st.sampled_from(sorted(ACTIVATIONS)), st.integers(1, 3))
def test_outputs_grow_with_every_hidden_unit_and_with_every_input_if_all_is_monotone(
    seed: int, activation: str, outputs: int
) -> None:
    torch.manual_seed(seed)
    whole = dense_net([3, 4, 4, outputs], activation, "all")
    x = torch.randn(5, 3, dtype=torch.float64)
    more = x + torch.rand(5, 3, dtype=torch.float64)
    assert bool((whole(more) >= whole(x)).all())
    net = dense_net([3, 4, 4, outputs], activation, "later")
    above = nn.Sequential(*[part for synapse in net.synapses[1:] for part in (synapse, MODULES[activation])][:-1])
    h = torch.randn(5, 4, dtype=torch.float64)
    assert bool((above(h + torch.rand_like(h)) >= above(h)).all())


def test_one_sample_at_a_time_the_signs_make_the_same_network_as_those_of_gradients() -> None:
    torch.manual_seed(1)
    exact, direct = (dense_net([5, 6, 4, 1], "tanh", "later") for _ in range(2))
    direct.load_state_dict(exact.state_dict())
    alignment = FeedbackAlignment(direct, "mdfa", torch.zeros(1, 5, dtype=torch.float64))
    optimizers = [SignSGD(net.parameters(), 1e-3) for net in (exact, direct)]
    for net, optimizer in zip((exact, direct), optimizers, strict=True):
        net.keep_monotone(optimizer)
    start = [parameter.clone() for parameter in exact.parameters()]
    for _ in range(200):
        x, labels = torch.randn(1, 5, dtype=torch.float64), torch.randint(2, (1,))
        gradients(exact, x, labels)
        mdfa(direct, x, labels, alignment)
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(exact.parameters(), direct.parameters(), start, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, before)
