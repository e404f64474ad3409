"""Checks that make no host wait: on CPU as if it were a GPU, and on a device where no value can be read at all."""

from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    AvgPool2d,
    Dropout,
    Flatten,
    MaxPool2d,
    NonFiniteError,
    NormalizeFeedback,
    UsageError,
    checks,
    constant,
    correctness_reward,
    logit_reward,
    propagate,
    raise_deferred,
    spike_count_reward,
)
from spiking_lfp.checks import require, to_number
from spiking_lfp.kernels import registry
from spiking_lfp.training import Meter, training_step, watch_spikes


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_first_failures", {})
    monkeypatch.setattr(checks, "_check_numbers", {})


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "is_deferred", lambda device: True)
    monkeypatch.setattr(registry, "device_of", lambda tensor: None)


def false() -> Tensor:
    return torch.tensor(False)


def test_on_cpu_checks_are_immediate() -> None:
    require(torch.tensor(True), UsageError, "not this")
    with pytest.raises(UsageError, match=r"^this$"):
        require(false(), UsageError, "this")
    raise_deferred()


def test_elsewhere_the_first_that_failed_is_raised_later_and_once(as_on_gpu: None) -> None:
    require(torch.tensor(True), NonFiniteError, "first")
    require(false(), NonFiniteError, "second")
    for _ in range(3):  # known already, and failing later than the second
        require(false(), NonFiniteError, "first")
        require(torch.tensor(True), NonFiniteError, "second")
        require(false(), UsageError, "third")
    with pytest.raises(NonFiniteError, match=r"^second$"):
        raise_deferred()
    raise_deferred()
    require(false(), UsageError, "third")
    with pytest.raises(UsageError, match=r"^third$"):
        raise_deferred()


def test_checks_of_many_steps_hold_no_more_than_those_of_one(as_on_gpu: None) -> None:
    for _ in range(100):
        require(torch.tensor(True), NonFiniteError, "first")
    assert (len(checks._check_numbers), len(checks._first_failures)) == (1, 1)


def test_numbers_add_up_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [torch.rand(()) for _ in range(50)]
    plain = sum(to_number(value) for value in values)
    monkeypatch.setattr(checks, "is_deferred", lambda device: True)
    later = sum(to_number(value) for value in values)
    assert isinstance(plain, float)
    assert isinstance(later, Tensor)
    assert later.item() == plain
    assert to_number(torch.tensor(3)).dtype == torch.int64


# ---------------------------------------------------------------- every check of a training step


def spoilt(layer: LIF, value: float) -> LIF:
    with torch.no_grad():
        layer.synapse.weight[0, 0] = value
    return layer


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_a_spoilt_membrane_is_found_with_the_name_of_its_layer(as_on_gpu: None, reset: str, value: float) -> None:
    net = nn.Sequential(LIF(nn.Linear(4, 4)), spoilt(LIF(nn.Linear(4, 2), reset=reset), value), LIF(nn.Linear(2, 2)))
    nn.init.ones_(net[0].synapse.weight)  # all of its neurons fire
    for name, layer in zip(("first", "second", "third"), net, strict=True):
        layer.name = name
    net(torch.ones(5, 2, 4))
    with pytest.raises(NonFiniteError, match=r"^layer second: its membrane holds NaN or infinity"):
        raise_deferred()


def test_spoilt_feedback_is_found_with_the_name_of_its_layer(as_on_gpu: None) -> None:
    net = nn.Sequential(LIF(nn.Linear(3, 4), threshold=0.1), LIF(nn.Linear(4, 2)))
    net[0].name, net[1].name = "first", "second"
    spikes = net(torch.rand(5, 2, 3))
    propagate(spikes, torch.full_like(spikes, 3e38))
    with pytest.raises(NonFiniteError, match=r"^layer second: its feedback holds NaN or infinity"):
        raise_deferred()


@pytest.mark.parametrize("reward", [spike_count_reward, logit_reward, correctness_reward])
@pytest.mark.parametrize("labels", [[0, 3], [-1, 1]])
def test_labels_out_of_range_are_found(as_on_gpu: None, unchecked: None, reward: object, labels: list[int]) -> None:
    reward(torch.zeros(4, 2, 3), torch.tensor(labels))
    with pytest.raises(UsageError, match=r"^labels must lie in 0\.\.2 for 3 classes"):
        raise_deferred()


def test_spoilt_images_and_rewards_are_found(as_on_gpu: None) -> None:
    constant(torch.tensor([[0.0, torch.nan]]), 2)
    with pytest.raises(NonFiniteError, match="the images hold NaN"):
        raise_deferred()
    spikes = LIF(nn.Linear(3, 2))(torch.ones(2, 1, 3))
    propagate(spikes, torch.full_like(spikes, torch.nan))
    with pytest.raises(NonFiniteError, match="the reward holds NaN"):
        raise_deferred()


# ---------------------------------------------------------------- nothing is read


def everything() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(1, 3, 3), 0.9, torch.rand(3, 1, 1) / 4 + 0.1),
        MaxPool2d(2),
        NormalizeFeedback(),
        LIF(nn.Conv2d(3, 2, 2), 0.9, 0.1, reset="zero"),
        AvgPool2d(2),
        Flatten(),
        Dropout(0.5),
        LIF(nn.Linear(2, 4), 0.9, 0.1, reset="none"),
    )


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_a_training_step_reads_no_value(optimizer: type[torch.optim.Optimizer]) -> None:
    """On the meta device tensors hold no values, and reading one is an error."""
    net, meter = everything().to("meta"), Meter()
    images, labels = torch.rand(5, 1, 8, 8, device="meta"), torch.zeros(5, dtype=torch.long, device="meta")
    update, clip = optimizer(net.parameters()), AdaptiveClip(net.parameters())
    with watch_spikes(net, meter):
        for _ in range(2):
            training_step(net, constant(images, 4), labels, update, clip, meter)
    assert meter.samples == 10
    assert list(meter.rates) == ["0", "3", "7"]
    with pytest.raises(RuntimeError, match="meta"):
        meter.settle()


def test_the_meter_counts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> Meter:
        torch.manual_seed(1)
        net, meter = everything(), Meter()
        optimizer = torch.optim.SGD(net.parameters(), 0.01)
        with watch_spikes(net, meter):
            for _ in range(3):
                x = constant(torch.rand(5, 1, 8, 8), 7)
                training_step(net, x, torch.randint(0, 4, (5,)), optimizer, None, meter)
        return meter

    monkeypatch.setattr(registry, "device_of", lambda tensor: None)
    plain = trained()
    monkeypatch.setattr(checks, "is_deferred", lambda device: True)
    later = trained()
    assert isinstance(later.reward, Tensor)
    assert later.summary() == plain.summary()
    assert asdict(later) == asdict(plain)
    assert {type(value) for value in (later.reward, *later.rates.values())} == {float}
    assert type(later.correct) is int
    assert later.reward != 0
