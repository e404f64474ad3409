"""Constants of neurons: what they may be, when a layer is made and whenever it runs."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import LIF, AdaptiveLIF, CubaLIF, RecurrentLIF, UsageError, mlp, name_layers, propagate
from spiking_lfp.deploy.interop import to_snntorch
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons.lif import LIFNeuron

X = torch.rand(5, 2, 3)
KINDS: list[Callable[..., Any]] = [LIF, RecurrentLIF, CubaLIF, AdaptiveLIF]


@pytest.mark.parametrize("name", ["beta", "threshold"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [
        nn.Parameter(torch.tensor(0.5)),
        nn.Parameter(torch.full((4,), 0.5, dtype=torch.float64)),
        0.5 * torch.ones((), requires_grad=True),
    ],
    ids=["one", "one a neuron", "computed"],
)
def test_constants_that_would_learn_are_refused(kind: Callable[..., Any], name: str, value: Tensor) -> None:
    message = rf"^{name} requires a gradient, but constants of neurons do not learn: give {name}\.detach\(\)$"
    with pytest.raises(UsageError, match=message):
        kind(nn.Linear(3, 4), **{name: value})
    layer = kind(nn.Linear(3, 4), **{name: value.detach()})
    copied = copy.deepcopy(layer)
    assert torch.equal(copied(X), layer(X))
    assert name not in dict(layer.named_parameters())


def test_frozen_parameters_are_taken_as_the_numbers_they_are() -> None:
    layer = LIF(nn.Linear(3, 4), threshold=nn.Parameter(torch.tensor(0.5), requires_grad=False))
    assert torch.equal(copy.deepcopy(layer)(X), LIF(layer.synapse, threshold=0.5)(X))


def assign(layer: Any, value: Any) -> None:
    layer.threshold = value


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "assigned": (lambda layer: assign(layer, torch.tensor(-1.0)), "threshold must be finite .* found -1.0"),
    "a parameter": (lambda layer: assign(layer, nn.Parameter(torch.ones(()))), "threshold requires a gradient"),
    "made to learn": (lambda layer: layer.threshold.requires_grad_(), "threshold requires a gradient"),
    "nothing": (lambda layer: assign(layer, None), "threshold must be a number or a tensor, found None"),
    "filled": (lambda layer: layer.threshold.fill_(0.0), "threshold must be finite and greater than 0, found 0.0"),
    "multiplied": (lambda layer: layer.threshold.mul_(-2), "threshold must be .* found -2.0"),
    "per neuron": (
        lambda layer: assign(layer, torch.tensor([1.0, math.nan, 1.0, 1.0])),
        r"threshold must be .* found nan\.\.nan",
    ),
    "copied": (lambda layer: layer.threshold.copy_(torch.tensor(math.inf)), "threshold must be finite .* found inf"),
    "rounded": (lambda layer: layer.threshold.fill_(1e-9) and layer.half(), "threshold must be .* found 0.0"),
    "reset": (lambda layer: setattr(layer, "reset", "soft"), "reset must be one of subtract, zero, none, found 'soft'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_constants_that_changed_are_looked_at_again(change: str) -> None:
    network = nn.Sequential(LIF(nn.Linear(3, 4)))
    name_layers(network)
    network(X)
    make, message = CHANGES[change]
    make(network[0])
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"^layer 0: {message}"):
            network(X.to(network[0].synapse.weight.dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_constants_are_looked_at_when_they_are_loaded(kind: Callable[..., Any]) -> None:
    network = nn.Sequential(kind(nn.Linear(3, 4)))
    name_layers(network)
    state = network.state_dict() | {"0.beta": torch.tensor(1.5)}
    with pytest.raises(UsageError, match=r"^layer 0: beta must be greater than 0 and at most 1, found 1\.5$"):
        network.load_state_dict(state)
    with pytest.raises(UsageError, match=r"^layer 0: beta must be"):
        network.load_state_dict(state, assign=True)


def test_constants_that_did_not_change_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Tensor] = []

    def looking(holds: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda value: (looks.append(value), holds(value))[1]

    limits = {name: (looking(holds), words) for name, (holds, words) in LIFNeuron.limits().items()}
    monkeypatch.setattr(LIFNeuron, "limits", lambda *_: limits)
    layer = LIF(nn.Linear(3, 4))
    made = len(looks)
    for _ in range(3):
        spikes = layer(X)
        propagate(spikes, torch.ones_like(spikes))
    assert len(looks) == made
    layer.threshold.fill_(0.5)
    layer(X)
    assert len(looks) == made + 1


def test_constants_written_in_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        layer = LIF(nn.Linear(3, 4))
        spikes = layer(X)
    assert spikes.shape == (5, 2, 4)
    with torch.inference_mode():
        assert torch.equal(layer(X), spikes)


def test_layers_are_copied_pickled_and_moved_with_what_was_checked() -> None:
    network = mlp(in_shape=(3,), classes=4, hidden=(6,))
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(X), network(X))
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    loaded[1].threshold.fill_(-1.0)
    with pytest.raises(UsageError, match="threshold must be"):
        loaded(X)
    assert network.to("meta")[1].threshold.is_meta


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exports_look_too() -> None:
    network = nn.Sequential(LIF(nn.Linear(3, 4)))
    network[0].beta.fill_(2.0)
    with pytest.raises(ExportError, match="beta must be greater than 0 and at most 1"):
        to_snntorch(network)
