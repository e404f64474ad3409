"""Feedback of inputs against the formula of one layer, and what must not change meanwhile."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    Affine,
    Composite,
    Dropout,
    Flatten,
    MaxPool2d,
    ThresholdBatchNorm,
    UsageError,
    constant,
    propagate,
)
from spiking_lfp.nn.explain import input_feedback


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        LIF(nn.Conv2d(2, 3, 3), threshold=0.3),
        MaxPool2d(2),
        Flatten(),
        LIF(nn.Linear(27, 8), threshold=0.3),
        LIF(nn.Linear(8, 4), threshold=0.3),
    ).double()  # fmt: skip


def events(seed: int = 0, rate: float = 0.4) -> Tensor:
    torch.manual_seed(seed + 100)
    return (torch.rand(6, 3, 2, 8, 8) < rate).double()


@given(seed=st.integers(0, 1000))
def test_one_layer_is_its_formula(seed: int) -> None:
    torch.manual_seed(seed)
    layer = LIF(nn.Linear(5, 3), threshold=0.4).double()
    x = (torch.rand(4, 2, 5) < 0.6).double()
    classes = torch.randint(0, 3, (2,))
    feedback = input_feedback(layer, x, classes)
    weight, bias = layer.synapse.weight.detach(), layer.synapse.bias.detach()
    for sample, answer in enumerate(classes.tolist()):
        before, membranes = torch.tensor(0.0).double(), []
        for t in range(4):
            total = 0.9 * before + weight[answer] @ x[t, sample] + bias[answer]
            membranes.append((before, total))
            before = total - 0.4 * float(before > 0.4)
        carried = torch.tensor(0.0).double()
        expected = torch.zeros(4, 5).double()
        for t in reversed(range(4)):
            before, total = membranes[t]
            past = before if t else torch.tensor(0.0).double()
            q = (1 / 4 + carried) / (past.abs() + (total - past).abs() + 1e-6)
            carried = 0.9 * past * q
            expected[t] = x[t, sample] * weight[answer] * q
        torch.testing.assert_close(feedback[:, sample], expected, rtol=1e-12, atol=1e-12)


def test_it_is_what_propagate_hands_to_the_inputs() -> None:
    net, x, classes = network(), events(), torch.tensor([2, 0, 3])
    feedback = input_feedback(net, x, classes)
    shown = x.clone().requires_grad_()
    spikes = net(shown)
    reward = torch.zeros_like(spikes)
    for sample, answer in enumerate(classes):
        reward[:, sample, answer] = 1 / 6
    propagate(spikes, reward)
    assert shown.grad is not None
    torch.testing.assert_close(feedback, shown.grad, rtol=1e-12, atol=0)
    assert feedback.any()


def test_silent_inputs_get_nothing_and_the_network_stays_as_it_is() -> None:
    net, x = network(), events()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    feedback = input_feedback(net, x, torch.tensor([1, 1, 1]))
    assert not feedback[x == 0].any()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    assert not x.requires_grad


def test_an_image_shown_in_every_step_has_feedback_in_every_step() -> None:
    net = nn.Sequential(Flatten(), LIF(nn.Linear(6, 3)))
    images = torch.rand(2, 1, 2, 3)
    feedback = input_feedback(net, constant(images, 5), torch.tensor([0, 2]))
    assert feedback.shape == (5, 2, 1, 2, 3)
    assert feedback.any()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("classes", [[0, 1, 4], [0, -1, 1], [0, 1]])
def test_classes_must_be_the_networks(classes: list[int]) -> None:
    with pytest.raises(UsageError, match=r"expected a class in 0..3 for each of 3 samples"):
        input_feedback(network(), events(), torch.tensor(classes))


def test_outputs_that_are_not_one_for_each_class_are_refused() -> None:
    network = nn.Sequential(LIF(nn.Conv2d(1, 3, 3)))  # three classes, 6 x 6 places each
    with pytest.raises(
        UsageError, match=r"^the network returned \[5, 2, 3, 6, 6\], expected outputs \[T, B, classes\]"
    ):
        input_feedback(network, torch.rand(5, 2, 1, 8, 8), [0, 2])


class Changed(nn.Module):
    """A network that does something to its inputs first, and to its outputs at last."""

    def __init__(self, first: Callable[[Tensor], Tensor], last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.first, self.last = LIF(nn.Linear(4, 3), threshold=0.3), first, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x)))


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (lambda x: (x - 0.5) / 0.2, nn.Identity(), r"between the outputs and the inputs the network runs Div "),
        (torch.sigmoid, nn.Identity(), r"between the outputs and the inputs the network runs Sigmoid "),
        (nn.Identity(), torch.sigmoid, r"between the outputs and the inputs the network runs Sigmoid "),
        (Tensor.detach, nn.Identity(), r"no feedback comes back to the inputs: "),
    ],
)
def test_operations_that_hand_on_gradients_are_refused(
    first: Callable[[Tensor], Tensor], last: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        input_feedback(Changed(first, last), torch.rand(5, 2, 4), [0, 2])


def test_models_of_torch_are_explained_by_a_composite() -> None:
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.rand(1, 2, 4)
    with pytest.raises(UsageError, match=r"the network runs Addmm .* or run the network inside Composite\(\)"):
        input_feedback(model, x, [0, 2])
    with Composite().applied(model):
        found = input_feedback(model, x, [0, 2])
    first, last = Affine(model[0]), Affine(model[2])
    at_input = x.clone().requires_grad_()
    hidden = first(at_input)
    propagate(hidden, input_feedback(last, hidden.detach().relu(), [0, 2]))  # a rectifier hands on what it gets
    assert at_input.grad is not None
    torch.testing.assert_close(found, at_input.grad)


def test_what_moves_values_is_explained() -> None:
    network = Changed(lambda x: x.flip(2), nn.Identity())
    x = torch.rand(5, 2, 4)
    found = input_feedback(network, x, [0, 2])
    assert torch.equal(found.flip(2), input_feedback(network.layer, x.flip(2), [0, 2]))


def test_integers_have_no_feedback() -> None:
    network = nn.Sequential(LIF(nn.Linear(4, 3)))
    with pytest.raises(UsageError, match=r"^the inputs are torch.int64, expected real numbers of the network's type"):
        input_feedback(network, torch.ones(5, 2, 4, dtype=torch.int64), [0, 2])


def test_nothing_is_dropped_and_no_statistics_are_learned_in_training_mode_either() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(
        Dropout(0.9),
        LIF(nn.Linear(20, 8), threshold=0.2, norm=ThresholdBatchNorm(8)),
        LIF(nn.Linear(8, 3), threshold=0.2),
    )
    x = torch.rand(6, 4, 20)
    network(x)  # the first batch sets the statistics
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = input_feedback(network.eval(), x, [0, 1, 2, 0])
    assert expected.any()
    assert torch.equal(input_feedback(network.train(), x, [0, 1, 2, 0]), expected)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_padding_earns_no_reward() -> None:
    net = nn.Sequential(LIF(nn.Linear(4, 6)), LIF(nn.Linear(6, 3))).eval()
    x = torch.rand(9, 2, 4)
    x[5:, 0] = 0
    alone = input_feedback(net, x[:5, :1], [2])
    padded = input_feedback(net, x, [2, 1], lengths=[5, 9])
    torch.testing.assert_close(padded[:5, :1], alone)
    assert not padded[5:, 0].any()
    torch.testing.assert_close(padded[:, 1:], input_feedback(net, x[:, 1:], [1]))
    with pytest.raises(UsageError, match=r"^expected a length in 1\.\.9 for each of 2 samples, found \[5, 10\]"):
        input_feedback(net, x, [2, 1], lengths=[5, 10])
