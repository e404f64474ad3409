"""Forward and feedback against values of the LFP authors' published package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.tensors import assert_near
from spiking_lfp import LIF, Epsilon, Flatten, MaxPool2d, constant, propagate

FOLDER = Path(__file__).parent / "golden"


@pytest.fixture(params=["mlp_constant", "mlp_events", "conv_constant"])
def golden(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{request.param}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def network_of(golden: dict[str, Tensor]) -> nn.Sequential:
    """Build the network of a file; `param.N.*` belongs to place N of its `nn.Sequential`."""
    weights = {int(key.split(".")[1]): key for key in golden if key.startswith("param.") and key.endswith("weight")}
    places: dict[int, nn.Module] = {1: MaxPool2d(2), 3: Flatten()} if max(weights) == 4 else {}
    for place, key in weights.items():
        weight = golden[key]
        sizes = weight.shape[1], weight.shape[0]
        synapse = nn.Linear(*sizes) if weight.dim() == 2 else nn.Conv2d(*sizes, tuple(weight.shape[2:]))
        synapse.double().load_state_dict({"weight": weight, "bias": golden[key.replace("weight", "bias")]})
        rule = Epsilon(golden["epsilon"].item())
        places[place] = LIF(synapse, golden["beta"].item(), golden["threshold"].item(), rule=rule)
    return nn.Sequential(*(places[place] for place in sorted(places)))


def sequence(golden: dict[str, Tensor], leaf: Tensor) -> Tensor:
    return leaf if len(leaf) == golden["T"] and leaf.dim() == 3 else constant(leaf, int(golden["T"]))


def test_spikes_and_feedback_are_those_of_the_authors_package(golden: dict[str, Tensor]) -> None:
    network = network_of(golden)
    leaf = golden["input"].clone().requires_grad_()

    spikes = network(sequence(golden, leaf))
    propagate(spikes, golden["reward"])

    assert torch.equal(spikes, golden["spikes"])
    assert 0 < spikes.sum() < spikes.numel()  # a silent network would prove nothing
    assert_near(leaf.grad, golden["input_feedback"])
    compared = 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert_near(-parameter.grad, golden["feedback." + name.replace(".synapse", "")])
        compared += 1
    assert compared == sum(key.startswith("feedback.") for key in golden)


def test_updates_do_not_depend_on_whether_the_input_wants_feedback(golden: dict[str, Tensor]) -> None:
    network = network_of(golden)
    propagate(network(sequence(golden, golden["input"])), golden["reward"])
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert_near(-parameter.grad, golden["feedback." + name.replace(".synapse", "")])


def test_membranes_of_the_last_layer_are_those_of_the_authors_package(golden: dict[str, Tensor]) -> None:
    network = network_of(golden)
    with torch.no_grad():
        x = network[:-1](sequence(golden, golden["input"]))
        membrane = None
        for t in range(len(x)):  # one step at a time, so that every membrane is seen
            _, membrane = network[-1].run(x[t : t + 1], membrane)
            assert_near(membrane, golden["membrane"][t])
