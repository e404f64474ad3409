"""Networks of our layers as modules of torch, and what its optimisers and transforms make of them."""

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.tensors import assert_near
from spiking_lfp import (
    LI,
    LIF,
    Affine,
    AvgPool2d,
    Dropout,
    Epsilon,
    Flatten,
    MaxPool2d,
    NormalizeFeedback,
    UsageError,
    constant,
    lenet,
    mlp,
    name_layers,
    propagate,
    spike_count_reward,
)


def small_network() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(1, 3, 3), threshold=0.2),
        MaxPool2d(2),
        Flatten(),
        NormalizeFeedback(),
        LIF(nn.Linear(12, 8), beta=torch.linspace(0.5, 1, 8), threshold=0.2),
        LIF(nn.Linear(8, 3), threshold=0.1, reset="zero", rule=Epsilon(1e-5)),
    )


def train_step(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    spikes = network(x)
    propagate(spikes, spike_count_reward(spikes, labels))
    return spikes.detach()


def test_nothing_is_kept_after_the_backward_pass() -> None:
    network = small_network()
    kept: list[weakref.ref[Any]] = []

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def pack(tensor: Tensor) -> Box:
        box = Box(tensor)
        kept.append(weakref.ref(box))
        return box

    def boxes() -> int:
        return sum(box() is not None for box in kept)

    gc.disable()  # what is only freed by the garbage collector counts as kept
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            spikes = network(torch.rand(5, 2, 1, 6, 6))
            assert boxes() > 5
            propagate(spikes, torch.ones_like(spikes))
            assert boxes() == 0
            spikes = network(torch.rand(5, 2, 1, 6, 6))
            assert boxes() > 5
            del spikes  # without a backward pass
            assert boxes() == 0
    finally:
        gc.enable()


def test_layers_hold_no_state_between_calls() -> None:
    network, x, labels = small_network(), torch.rand(5, 2, 1, 6, 6), torch.tensor([0, 2])
    before = [dict(vars(module)) for module in network.modules()]
    first = train_step(network, x, labels)
    assert torch.equal(train_step(network, x, labels), first)
    assert [dict(vars(module)) for module in network.modules()] == before


def test_evaluation_without_grad_gives_the_same_spikes() -> None:
    network, x = small_network(), torch.rand(5, 2, 1, 6, 6)
    with torch.no_grad():
        spikes = network(x)
    assert not spikes.requires_grad
    assert torch.equal(spikes, network(x))
    with torch.inference_mode():
        assert torch.equal(network(x), spikes)


def copies(network: nn.Sequential) -> list[nn.Module]:
    loaded = small_network()
    loaded.load_state_dict(network.state_dict())
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return [
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        loaded,
        torch.load(file, weights_only=False),
    ]


def test_copies_behave_the_same_and_share_nothing() -> None:
    network, x, labels = small_network(), torch.rand(6, 4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    originals = [parameter.clone() for parameter in network.parameters()]
    others = copies(network)
    spikes = train_step(network, x, labels)
    assert spikes.any()
    for other in others:
        assert torch.equal(train_step(other, x, labels), spikes)
        for mine, its in zip(network.parameters(), other.parameters(), strict=True):
            assert mine.grad is not None
            assert its.grad is not None
            assert torch.equal(mine.grad, its.grad)
        torch.optim.SGD(other.parameters(), lr=1.0).step()
    for parameter, original in zip(network.parameters(), originals, strict=True):
        assert torch.equal(parameter, original)


def test_the_state_holds_weights_and_constants() -> None:
    layer = LIF(nn.Linear(3, 2), beta=0.7, threshold=torch.tensor([1.0, 2.0]))
    assert set(layer.state_dict()) == {"synapse.weight", "synapse.bias", "beta", "threshold"}
    assert [name for name, _ in layer.named_parameters()] == ["synapse.weight", "synapse.bias"]


def test_a_network_turned_to_float64_meets_the_beta_that_was_meant() -> None:
    layer = LIF(nn.Linear(1, 1), beta=0.9, threshold=0.3).double()
    nn.init.constant_(layer.synapse.weight, 0.25)
    nn.init.zeros_(layer.synapse.bias)
    _, membrane = layer.run(torch.ones(2, 1, 1, dtype=torch.float64))
    assert membrane.item() == 0.9 * 0.25 + 0.25
    assert LIF(nn.Linear(1, 1), threshold=0.1).double().threshold.item() == 0.1


def test_names_follow_the_path_in_the_network() -> None:
    network = nn.Sequential(nn.Sequential(LIF(nn.Linear(2, 3))), Flatten(), Affine(nn.Linear(3, 4)))
    layers = name_layers(network)
    assert list(layers) == ["0.0", "2"]
    assert [layer.name for layer in layers.values()] == ["0.0", "2"]
    alone = LIF(nn.Linear(2, 3))
    name_layers(alone)
    assert alone.name == f"LIF({alone.synapse})"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (LIF(nn.Linear(2, 3), 0.7, torch.ones(3), "none"), ["beta=0.7", "per neuron [3]", "'none'", "Epsilon"]),
        (MaxPool2d(3, 2), ["kernel_size=3", "stride=2"]),
        (AvgPool2d(3, 2, 1), ["kernel_size=3", "stride=2", "padding=1"]),
        (Dropout(0.25), ["p=0.25"]),
    ],
)
def test_printing_a_layer_shows_its_settings(module: nn.Module, words: list[str]) -> None:
    assert [word for word in words if word not in repr(module)] == []


def updates(network: nn.Module, x: Tensor, labels: Tensor) -> list[Tensor]:
    """The updates of LFP, to be added to the parameters."""
    network.zero_grad()
    train_step(network, x, labels)
    return [-parameter.grad.clone() for parameter in network.parameters()]


def test_sgd_adds_the_update() -> None:
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = updates(network, x, labels)
    assert all(step.any() for step in steps)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    for parameter, start, step in zip(network.parameters(), before, steps, strict=True):
        assert_near(parameter.detach(), start + 0.1 * step, 1e-12)


def test_sgd_with_dampening_is_the_momentum_of_the_paper() -> None:
    """LFP eq. 5, d = a * d_old + (1 - a) * d_new; torch starts with d = d_new."""
    a, rate = 0.8, 0.05
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=a, dampening=a)
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    expected, d = [parameter.detach().clone() for parameter in network.parameters()], None
    for _ in range(3):
        new = updates(network, x, labels)
        d = new if d is None else [a * old + (1 - a) * step for old, step in zip(d, new, strict=True)]
        expected = [value + rate * step for value, step in zip(expected, d, strict=True)]
        optimizer.step()
        for parameter, value in zip(network.parameters(), expected, strict=True):
            assert_near(parameter.detach(), value, 1e-12)


def test_adams_first_step_has_the_sign_of_the_update() -> None:
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = updates(network, x, labels)
    torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-8).step()
    for parameter, start, step in zip(network.parameters(), before, steps, strict=True):
        assert_near(parameter.detach(), start + 1e-3 * step / (step.abs() + 1e-8), 1e-9)


def test_two_half_batches_accumulate_to_the_whole() -> None:
    network = nn.Sequential(LIF(nn.Linear(6, 8), threshold=0.3), LIF(nn.Linear(8, 3), threshold=0.3)).double()
    x, labels = torch.rand(10, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0, 2])
    whole = updates(network, x, labels)
    network.zero_grad()
    for half in (slice(0, 3), slice(3, 6)):
        train_step(network, x[:, half], labels[half])
    for parameter, expected in zip(network.parameters(), whole, strict=True):
        assert parameter.grad is not None
        assert_near(-parameter.grad, expected, 1e-12)


def test_a_weight_of_zero_stays_zero() -> None:
    layer = LIF(nn.Linear(6, 4), threshold=0.2)
    with torch.no_grad():
        layer.synapse.weight[:, 2] = 0
    spikes = layer(torch.rand(8, 3, 6))
    propagate(spikes, torch.ones_like(spikes))
    assert not layer.synapse.weight.grad[:, 2].any()
    assert layer.synapse.weight.grad[:, 1].any()


@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_a_small_network_learns_to_tell_patterns_apart(kind: str) -> None:
    labels = torch.arange(2)
    x = constant(torch.rand(2, 1, 8, 8).round(), 15)
    network = mlp((1, 8, 8), 2, (30,)) if kind == "mlp" else lenet((1, 8, 8), 2, (6,), (), kernel=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        spikes = train_step(network, x, labels)
        optimizer.step()
    counts = spikes.sum(0)
    assert torch.equal(counts.argmax(1), labels)
    assert (counts.amax(1) - counts.amin(1) >= 3).all()


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_autocast_changes_nothing(name: str) -> None:
    network = {"mlp": mlp, "lenet": lenet}[name](hidden=(20,), threshold=0.2)
    x, labels = constant(torch.rand(3, 1, 28, 28), 5), torch.tensor([0, 1, 4])
    outcomes = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            spikes = network(x)
            propagate(spikes, spike_count_reward(spikes, labels))
        outcomes.append([spikes, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("kind", [LIF, LI, Affine])
def test_float16_runs_and_does_not_learn(kind: Any) -> None:
    """One over epsilon is infinite in it: what is silent would get NaN for its feedback."""
    layer, x = kind(nn.Linear(3, 2, bias=False)).half(), torch.zeros(4, 1, 3, dtype=torch.float16)
    with torch.no_grad():
        assert layer(x).dtype == torch.float16
    with pytest.raises(
        UsageError, match=r"^layer .*: float16 holds no feedback.*: learn in bfloat16, float32 or float64"
    ):
        layer(x)


def transforms(network: nn.Module, x: Tensor) -> dict[str, Any]:
    def of_weights(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, weights, (x,)).sum()

    return {
        "vmap": lambda: torch.func.vmap(network)(torch.stack([x, x])),
        "grad": lambda: torch.func.grad(of_weights)(dict(network.named_parameters())),
        "jvp": lambda: torch.func.jvp(network, (x,), (x,)),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of jvp
@pytest.mark.parametrize("name", ["vmap", "grad", "jvp"])
@pytest.mark.parametrize("kind", [LIF, Affine])
def test_transforms_of_torch_func_are_refused_in_one_sentence(unchecked: None, kind: Any, name: str) -> None:
    run = transforms(nn.Sequential(kind(nn.Linear(3, 2))), torch.rand(4, 1, 3))[name]
    with pytest.raises(
        UsageError, match=r"^transforms of torch.func .* run the network outside of them, and propagate"
    ):
        run()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tracing_is_refused_in_one_sentence(unchecked: None) -> None:
    network, x = nn.Sequential(LIF(nn.Linear(3, 2))), torch.rand(4, 1, 3)
    with pytest.raises(UsageError, match=r"^torch.jit.trace, .* cannot follow layers with neurons: bring the network"):
        torch.jit.trace(network, x)
    with pytest.raises(UsageError, match=r"torch.export and .* cannot follow layers with neurons: bring the network"):
        torch.export.export(network, (x,))
    with pytest.raises(UsageError, match=r"^torch.jit.script cannot follow layers with neurons: bring the network"):
        torch.jit.script(network)


@pytest.mark.parametrize("kind", [LIF, Affine])
def test_tensors_of_inference_mode_take_no_feedback_and_are_refused_in_one_sentence(kind: Any) -> None:
    with torch.inference_mode():
        x = torch.rand(4, 1, 1, 4, 4)
    layer = kind(nn.Conv2d(1, 2, 3))
    with torch.no_grad():
        layer(x)
    with pytest.raises(UsageError, match=r"^inputs, weights or states were made inside torch.inference_mode\(\)"):
        layer(x)
