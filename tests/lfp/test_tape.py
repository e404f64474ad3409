"""What runs backwards through layers: rewards, and what is not one, which is told of or refused."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from spiking_lfp import (
    LIF,
    Affine,
    Composite,
    FeedbackWarning,
    MonoReadout,
    NonFiniteError,
    RecurrentLIF,
    UsageError,
    constant,
    input_feedback,
    load_dataset,
    mlp,
    propagate,
    run_in_chunks,
)
from spiking_lfp.lfp import tape

LABELS = torch.tensor([0, 2, 1])


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test be the first of its process."""
    monkeypatch.setattr(tape, "_warned", False)


def spiking() -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(4, 6), threshold=0.2), LIF(nn.Linear(6, 3), threshold=0.2))


def inputs() -> Tensor:
    return torch.rand(5, 3, 4)


def cross_entropy(outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs.sum(0), LABELS)


def analogue(x: Tensor) -> Tensor:
    with Composite().applied(model := nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))):
        out: Tensor = model(x)
    return out


NETWORKS: dict[str, Callable[[Tensor], Tensor]] = {
    "spikes": lambda x: spiking()(x),
    "recurrent": lambda x: RecurrentLIF(nn.Linear(4, 3), threshold=0.2)(x),
    "the bias alone": lambda x: LIF(nn.Linear(4, 3).requires_grad_(False).apply(lambda m: m.bias.requires_grad_()))(x),
    "analogue outputs": lambda x: Affine(nn.Linear(4, 3))(x),
    "a composite": analogue,
    "mono readout": lambda x: MonoReadout(8, 3, (5,))(x.repeat(1, 1, 2)),
    "chunks": lambda x: run_in_chunks(spiking(), x, 2),
    "computed again": lambda x: checkpoint(spiking(), x, use_reentrant=False),
}


LOSSES: dict[str, Callable[[Tensor], object]] = {
    "backward": lambda loss: loss.backward(),
    "torch.autograd.backward": lambda loss: torch.autograd.backward([loss]),
    "scaled": lambda loss: (8 * loss).backward(),
}


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_loss_that_is_sent_backward_is_told_of_once(kind: str, how: str) -> None:
    for told in (True, False):
        loss = cross_entropy(NETWORKS[kind](inputs()))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            LOSSES[how](loss)
        assert [each.category for each in caught] == [FeedbackWarning] * told
        for each in caught:
            assert "propagate(-loss)" in str(each.message)
            assert each.filename == __file__


def test_a_loss_within_reentrant_checkpoints_is_told_of() -> None:
    x = inputs()
    outputs = checkpoint(spiking(), LIF(nn.Linear(4, 4), threshold=0.1)(x), use_reentrant=True)
    with pytest.warns(FeedbackWarning, match=r"propagate\(outputs, reward\)"):
        cross_entropy(outputs).backward()


def test_gradients_that_are_asked_for_parameters_are_told_of() -> None:
    network = spiking()
    with pytest.warns(FeedbackWarning):
        torch.autograd.grad(cross_entropy(network(inputs())), list(network.parameters()))


def test_where_warnings_are_errors_each_loss_is_one() -> None:
    for _ in range(2):
        with pytest.raises(FeedbackWarning):
            cross_entropy(spiking()(inputs())).backward()


def test_a_loss_is_told_of_after_a_reward() -> None:
    outputs = spiking()(inputs())
    propagate(outputs, torch.ones_like(outputs))
    with pytest.warns(FeedbackWarning):
        cross_entropy(spiking()(inputs())).backward()


def _rewarded(x: Tensor) -> None:
    outputs = spiking()(x)
    propagate(outputs, torch.ones_like(outputs))


def _given(x: Tensor) -> None:
    outputs = spiking()(x)
    outputs.backward(torch.ones_like(outputs))


def _given_to_two(x: Tensor) -> None:
    layer = LIF(nn.Linear(4, 3), threshold=0.2)
    spikes, membrane = layer.run(x)
    torch.autograd.backward([spikes, membrane], [torch.ones_like(spikes), torch.ones_like(membrane)])


def _saliency(x: Tensor) -> None:
    x.requires_grad_()
    spiking()(x)[:, 0, 1].sum().backward()
    assert x.grad is not None


def _saliency_of_images(x: Tensor) -> None:
    images = x[0].requires_grad_()
    cross_entropy(spiking()(constant((images - 0.1) / 0.3, 5))).backward()
    assert images.grad is not None


def _gradient_of_inputs(x: Tensor) -> None:
    x.requires_grad_()
    torch.autograd.grad(cross_entropy(spiking()(x)), x)


def _frozen(x: Tensor) -> None:
    x.requires_grad_()
    cross_entropy(spiking().requires_grad_(False)(x)).backward()


QUIET: dict[str, Callable[[Tensor], object]] = {
    "reward": _rewarded,
    "minus a loss": lambda x: propagate(-cross_entropy(spiking()(x))),
    "minus a loss in chunks": lambda x: propagate(-cross_entropy(run_in_chunks(spiking(), x, 2))),
    "a composite": lambda x: propagate(-cross_entropy(analogue(x))),
    "a reward to backward": _given,
    "rewards to backward": _given_to_two,
    "saliency by backward": _saliency,
    "saliency before the encoder": _saliency_of_images,
    "gradients of inputs": _gradient_of_inputs,
    "frozen layers": _frozen,
    "explanation": lambda x: input_feedback(spiking(), x, LABELS),
    "a readout alone": lambda x: cross_entropy(nn.Linear(3, 3)(spiking()(x).detach())).backward(),
}


@pytest.mark.parametrize("kind", QUIET)
def test_nothing_is_said_of(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QUIET[kind](inputs())


# ---------------------------------------------------------------- minus a loss


def test_minus_a_loss_is_the_reward_of_its_derivative() -> None:
    network, x = spiking().double(), inputs().double()
    other = copy.deepcopy(network)
    spikes = network(x)
    propagate(-cross_entropy(spikes))
    probabilities = spikes.detach().sum(0).softmax(-1)
    reward = (F.one_hot(LABELS, 3) - probabilities) / len(LABELS)
    again = other(x)
    propagate(again, reward.expand_as(again))
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=1e-14)


def test_digits_are_learned_by_minus_a_loss_and_unlearned_by_the_loss() -> None:
    digits = load_dataset("mnist-subset")
    images, labels = digits.train_images / 255, digits.train_labels
    accuracy = {}
    for sign in (1, -1):
        torch.manual_seed(0)
        network = mlp(hidden=(100,), gain=2.0)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        for batch in torch.randperm(3000).split(100):
            optimizer.zero_grad()
            propagate(-sign * F.cross_entropy(network(constant(images[batch], 5)).sum(0), labels[batch]))
            optimizer.step()
        with torch.no_grad():
            predicted = network(constant(digits.test_images / 255, 5)).sum(0).argmax(-1)
        accuracy[sign] = (predicted == digits.test_labels).float().mean().item()
    assert accuracy[1] > 0.7
    assert accuracy[-1] < 0.15


@pytest.mark.parametrize("outputs", [torch.ones(3, requires_grad=True), torch.ones(2, 1, 2, requires_grad=True)])
def test_several_outputs_need_a_reward(outputs: Tensor) -> None:
    with pytest.raises(UsageError, match=r"give a reward for each, or one number that is to grow, as minus a loss"):
        propagate(outputs * 1)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="the number that is to grow is NaN or infinite"):
        propagate(cross_entropy(spiking()(inputs())).log().log().log())


# ---------------------------------------------------------------- twice over one part


def twice_in_parts() -> None:
    layer = LIF(nn.Linear(4, 3), threshold=0.2)
    spikes, membrane = layer.run(inputs())
    propagate(spikes, torch.ones_like(spikes))
    spikes, _ = layer.run(inputs(), membrane)
    propagate(spikes, torch.ones_like(spikes))


def two_heads() -> None:
    trunk = LIF(nn.Linear(4, 6), threshold=0.2)(inputs())
    for size in (3, 2):
        spikes = LIF(nn.Linear(6, size), threshold=0.2)(trunk)
        propagate(spikes, torch.ones_like(spikes))


def two_rewards_in_chunks() -> None:
    spikes = run_in_chunks(spiking(), inputs(), 2)
    for _ in range(2):
        propagate(spikes, torch.ones_like(spikes))


@pytest.mark.parametrize("case", [twice_in_parts, two_heads, two_rewards_in_chunks])
def test_feedback_over_a_part_twice_names_the_way_out(case: Callable[[], None]) -> None:
    with pytest.raises(UsageError, match=r"run the network again .*membrane\.detach\(\).*join outputs .*torch\.cat"):
        case()


def test_the_ways_out_lead_out() -> None:
    layer = LIF(nn.Linear(4, 3), threshold=0.2)
    membrane = None
    for _ in range(3):
        spikes, membrane = layer.run(inputs(), None if membrane is None else membrane.detach())
        propagate(spikes, torch.ones_like(spikes))
    trunk = LIF(nn.Linear(4, 6), threshold=0.2).double()
    heads = [LIF(nn.Linear(6, size), threshold=0.2).double() for size in (3, 2)]
    x = inputs().double()
    rewards = [torch.rand(5, 3, size, dtype=torch.float64) for size in (3, 2)]
    below = trunk(x)
    propagate(torch.cat([head(below) for head in heads], -1), torch.cat(rewards, -1))
    joined = trunk.synapse.weight.grad.clone()
    trunk.zero_grad()
    for head, reward in zip(heads, rewards, strict=True):
        propagate(head(trunk(x)), reward)
    torch.testing.assert_close(joined, trunk.synapse.weight.grad, rtol=1e-10, atol=1e-12)


def test_weights_that_changed_before_feedback_are_named() -> None:
    network = spiking()
    spikes = network(inputs())
    with torch.no_grad():
        network[1].synapse.weight.mul_(2)
    with pytest.raises(UsageError, match=r"propagate first, then optimizer\.step\(\)"):
        propagate(spikes, torch.ones_like(spikes))


SCRIPT = """
import torch
from torch import nn
from spiking_lfp import LIF
for _ in range(3):
    LIF(nn.Linear(4, 3))(torch.rand(5, 2, 4)).sum().backward()
"""


def test_a_script_sees_one_line_about_its_own() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr.count("FeedbackWarning") == 1
    assert run.stderr.startswith("<string>:6: FeedbackWarning: layer LIF(Linear(in_features=4")
