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
    Dropout,
    FeedbackWarning,
    Flatten,
    MaxPool2d,
    MonoReadout,
    NonFiniteError,
    NormalizeFeedback,
    RecurrentLIF,
    UsageError,
    constant,
    input_feedback,
    load_dataset,
    mlp,
    name_layers,
    propagate,
    run_in_chunks,
)
from spiking_lfp.lfp import tape
from spiking_lfp.training import Meter
from spiking_lfp.training.step import evaluation_step, training_step

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


# ---------------------------------------------------------------- operations that hand on gradients


def between(module: nn.Module) -> nn.Sequential:
    network = nn.Sequential(LIF(nn.Linear(4, 6), threshold=0.1), module, LIF(nn.Linear(6, 3), threshold=0.1))
    name_layers(network)
    return network


class Own(nn.Module):
    """A module of somebody's own."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Learned(nn.Module):
    """A parameter beside the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.shift.expand(1, *x.shape[1:])])


# and whether a composite takes it
FOREIGN: dict[str, tuple[nn.Module, str, bool]] = {
    "layer norm": (nn.LayerNorm(6), "NativeLayerNorm", False),
    "batch norm": (Own(lambda x: nn.BatchNorm1d(6)(x.flatten(0, 1)).view_as(x)), "NativeBatchNorm", False),
    "linear": (nn.Linear(6, 6), "View|UnsafeView|Addmm", True),
    "convolution": (Own(lambda x: nn.Conv1d(1, 1, 3, padding=1)(x.flatten(0, 1)[:, None]).view_as(x)), "", True),
    "relu": (nn.ReLU(), "Relu", True),
    "gelu": (nn.GELU(), "Gelu", True),
    "sigmoid": (nn.Sigmoid(), "Sigmoid", True),
    "softmax": (nn.Softmax(-1), "Softmax", False),
    "dropout": (nn.Dropout(0.5), "", True),
    "mean": (Own(lambda x: x.mean(0, keepdim=True).expand_as(x)), "Mean", True),
    "difference": (Own(lambda x: 1 - x), "Rsub", False),
    "weighted sum": (Own(lambda x: torch.add(x, x, alpha=-3)), "Add", False),
    "product": (Own(lambda x: x * x.detach()), "Mul", True),
    "below pooling": (Own(lambda x: MaxPool2d(1)(x.tanh()[..., None, None]).flatten(2)), "Tanh", True),
    "below ours": (nn.Sequential(nn.Tanh(), Dropout(0.5), NormalizeFeedback()), "Tanh", True),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_modules_of_others_between_layers_are_refused_by_name(kind: str) -> None:
    module, name, _ = FOREIGN[kind]
    with pytest.raises(
        UsageError, match=rf"^layer 2: .* runs ({name or '.+'}) \(torch's name\), .*Composite"
    ) as caught:
        between(module)(inputs())
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        assert between(module)(inputs()).shape == (5, 3, 3)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_composite_meets_modules_of_others(kind: str) -> None:
    module, _, taken = FOREIGN[kind]
    network = between(module)
    if not taken:
        with pytest.raises(UsageError, match=r"LFP does not define"), Composite().applied(network):
            network(inputs())
        return
    with Composite().applied(network):
        spikes = network(inputs())
    propagate(spikes, torch.ones_like(spikes))
    assert network[0].synapse.weight.grad.any()


@pytest.mark.parametrize(
    ("module", "name"),
    [(nn.Softmax(-1), "Softmax"), (nn.LayerNorm(3), "NativeLayerNorm"), (nn.Linear(3, 3), ""), (nn.ReLU(), "Relu")],
)
def test_modules_of_others_after_the_last_layer_are_refused_by_name(module: nn.Module, name: str) -> None:
    outputs = nn.Sequential(spiking(), module)(inputs())
    with pytest.raises(UsageError, match=rf"^between the outputs and the layers below lies .*{name} \(torch's name\)"):
        propagate(outputs, torch.ones_like(outputs))


def test_readouts_that_learn_by_gradients_are_refused_under_a_loss_too() -> None:
    loss = cross_entropy(nn.Linear(3, 3)(spiking()(inputs())))
    with pytest.raises(UsageError, match=r"^a parameter of shape \[3, 3\] takes part .* would learn the opposite"):
        propagate(-loss)


def test_a_model_of_torch_that_was_run_without_its_composite_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    outputs = model(torch.rand(2, 4))
    with pytest.raises(UsageError, match=r"Composite\(\)\.applied\(network\)"):
        propagate(outputs, torch.ones_like(outputs))


def test_parts_in_front_that_learn_by_gradients_are_refused_and_frozen_ones_are_not() -> None:
    front = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    network = nn.Sequential(front, spiking())
    with pytest.raises(UsageError, match="hands on a gradient where LFP hands on feedback"):
        network(inputs())
    front.requires_grad_(False)
    spikes = network(inputs())
    propagate(spikes, torch.ones_like(spikes))


def test_parameters_among_the_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^layer 2: a parameter of shape \[6\] is among its inputs"):
        between(Learned())(inputs())


@pytest.mark.parametrize("place", ["input", "state"])
def test_a_parameter_that_is_an_input_itself_is_refused(place: str) -> None:
    layer, x, membrane = LIF(nn.Linear(4, 3)), inputs(), torch.zeros(3, 3)
    if place == "input":
        x = nn.Parameter(x)
    else:
        membrane = nn.Parameter(membrane)
    with pytest.raises(UsageError, match=r"a parameter of shape \[.*3.*\] is among its inputs, "):
        layer.run(x, membrane)
    layer.run(x.requires_grad_(False), membrane.requires_grad_(False))


def test_states_are_looked_at_too() -> None:
    layer = LIF(nn.Linear(4, 3))
    _, membrane = layer.run(inputs())
    with pytest.raises(UsageError, match=r"runs Tanh \(torch's name\)"):
        layer.run(inputs(), membrane.tanh())
    layer.run(inputs(), membrane.tanh().detach())


class Halved(torch.autograd.Function):
    """A Function of the user's own, for feedback."""

    carries_feedback = True

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, feedback: Tensor) -> Tensor:
        return feedback / 2


class Hooked(nn.Identity):
    """With a hook on its way back."""

    def __init__(self) -> None:
        super().__init__()
        self.register_full_backward_hook(lambda *_: None)


def assigned(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for t, step in enumerate(x):
        out[t] = step
    return out


HANDED_ON: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "no dropout": lambda: nn.Dropout(0.5).eval(),
    "a plain sum": lambda: Own(lambda x: x + x.roll(1, -1)),
    "joined": lambda: Own(lambda x: torch.cat([x[..., :3], x[..., 3:]], -1)),
    "pooled by torch": lambda: Own(lambda x: F.max_pool2d(x.flatten(0, 1)[:, :, None, None], 1).view_as(x)),
    "a mask": lambda: Own(lambda x: x * (torch.arange(6) > 2)),
    "a mask first": lambda: Own(lambda x: (torch.arange(6) > 2) * x),
    "assigned to slices": lambda: Own(assigned),
    "the largest": lambda: Own(lambda x: x.sort(-1).values + x.topk(1, -1).values),
    "unfolded": lambda: Own(lambda x: x.unfold(2, 6, 1).squeeze(2)),
    "another mask": lambda: Own(lambda x: x.masked_fill(torch.arange(6) > 2, 0)),
    "where": lambda: Own(lambda x: torch.where(torch.arange(6) > 2, x, 0)),
    "a hook": Hooked,
    "a Function for feedback": lambda: Own(Halved.apply),
    "computed again": lambda: Own(lambda x: checkpoint(LIF(nn.Linear(6, 6), threshold=0.1), x, use_reentrant=False)),
    "computed again, reentrant": lambda: Own(
        lambda x: checkpoint(LIF(nn.Linear(6, 6), threshold=0.1), x, use_reentrant=True)
    ),
}


@pytest.mark.parametrize("kind", HANDED_ON)
def test_what_moves_values_hands_feedback_on(kind: str) -> None:
    network = between(HANDED_ON[kind]())
    spikes = network(inputs())
    propagate(spikes, torch.ones_like(spikes))
    assert network[0].synapse.weight.grad.any()


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "counts": lambda s: s.sum(0),
    "rates": lambda s: s.mean(0),
    "weighted": lambda s: (s * torch.rand(5, 1, 1)).sum(0) / 5,
    "differences": lambda s: s[..., :1] - s[..., 1:],
    "last": lambda s: s[-1],
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_reward_for_what_is_linear_in_the_outputs_is_one_for_them(kind: str) -> None:
    network = spiking()
    outputs = ENDS[kind](network(inputs()))
    propagate(outputs, torch.ones_like(outputs))
    assert network[1].synapse.bias.grad.any()


# ---------------------------------------------------------------- layers of torch that fail on sequences

FAILING: dict[str, tuple[nn.Module, str]] = {
    "max pooling": (nn.MaxPool2d(2), "spiking_lfp has MaxPool2d of its own"),
    "mean pooling": (nn.AvgPool2d(2), "spiking_lfp has AvgPool2d of its own"),
    "convolution": (nn.Conv2d(2, 2, 3), "use layers of this package"),
    "batch norm": (nn.BatchNorm2d(2), "use layers of this package"),
    "nested": (nn.Sequential(nn.Identity(), nn.BatchNorm2d(2)), "use layers of this package"),
}
DOORS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "training": lambda network, x: training_step(
        network, x, LABELS, torch.optim.SGD(network.parameters(), 0.1), None, Meter()
    ),
    "evaluation": lambda network, x: evaluation_step(network, x, LABELS, Meter()),
    "chunks": lambda network, x: run_in_chunks(network, x, 2),
    "explanation": lambda network, x: input_feedback(network, x, LABELS),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", FAILING)
def test_layers_of_torch_that_fail_on_sequences_are_named(kind: str, door: str) -> None:
    module, words = FAILING[kind]
    network = nn.Sequential(LIF(nn.Conv2d(1, 2, 3)), module, Flatten(), LIF(nn.Linear(8, 3)))
    path = "layer 1.1: " if kind == "nested" else "layer 1: "
    with pytest.raises(UsageError, match=f"^{path}.*of torch failed .*{words}") as caught:
        DOORS[door](network, torch.rand(5, 3, 1, 6, 6))
    assert "\n" not in str(caught.value)


def test_failures_in_code_of_the_user_stay_what_they_are() -> None:
    network = between(Own(lambda x: x.view(7)))
    with pytest.raises(RuntimeError, match=r"shape '\[7\]' is invalid") as caught:
        run_in_chunks(network, inputs(), 2)
    assert not isinstance(caught.value, UsageError)
