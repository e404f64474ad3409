"""One training step against the same written out by hand, and what is counted meanwhile."""

import math
from copy import deepcopy
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from helpers.small_runs import small_config, small_dataset, small_samples
from spiking_lfp import LIF, AdaptiveClip, NonFiniteError, constant, mlp, propagate, spike_count_reward
from spiking_lfp.lfp.rewards import Reward, logit_reward
from spiking_lfp.training import Meter, evaluate, training_step, watch_spikes
from spiking_lfp.training.runs import network_for
from spiking_lfp.training.step import correct, evaluation_step, predictions_of


def batches() -> list[tuple[Tensor, Tensor]]:
    data = small_dataset()
    images = data.train_images.float() / 255
    return [
        (images[:4], data.train_labels[:4]),
        (images[4:8], data.train_labels[4:8]),
        (images[8:], data.train_labels[8:]),
    ]


class Fixed(nn.Module):
    """A network whose spikes are given."""

    def __init__(self, spikes: list[list[list[int]]]) -> None:
        super().__init__()
        self.spikes = torch.tensor(spikes, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == len(self.spikes)
        return self.spikes


@pytest.mark.parametrize("network", ["mlp", "lenet"])
@pytest.mark.parametrize("ratio", [0.0, 0.01])
def test_a_step_is_these_lines(network: str, ratio: float) -> None:
    ours = network_for(small_config(network=network), small_samples())
    theirs = deepcopy(ours)
    meter, steps = Meter(), 3
    optimizers = [torch.optim.Adam(net.parameters(), 1e-2) for net in (ours, theirs)]
    clips = [AdaptiveClip(net.parameters(), ratio) if ratio else None for net in (ours, theirs)]
    images_seen, right, reward_sum = 0, 0, 0.0
    for images, labels in batches():
        training_step(ours, constant(images, steps), labels, optimizers[0], clips[0], meter)

        optimizers[1].zero_grad()
        spikes = theirs(constant(images, steps))
        reward = spike_count_reward(spikes, labels) / steps
        propagate(spikes, reward)
        if clips[1] is not None:
            clips[1]()
        optimizers[1].step()
        images_seen += len(labels)
        right += sum(int(spikes[:, i].sum(0).argmax()) == int(label) for i, label in enumerate(labels))
        reward_sum += float(reward.sum())
    fresh = network_for(small_config(network=network), small_samples())
    for mine, expected, start in zip(ours.parameters(), theirs.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, expected)
        assert not torch.equal(mine, start)
    assert (meter.samples, meter.correct) == (images_seen, right) == (10, right)
    assert meter.reward == pytest.approx(reward_sum)


def test_updates_do_not_add_up_over_steps() -> None:
    network = network_for(small_config(), small_samples())
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    grads = []
    for _ in range(2):
        images, labels = batches()[0]
        training_step(network, constant(images, 3), labels, optimizer, None, Meter())
        grads.append([parameter.grad.clone() for parameter in network.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*grads, strict=True))
    assert any(grad.any() for grad in grads[0])


def test_infinite_weights_stop_with_the_layers_name() -> None:
    network = network_for(small_config(hidden=(6, 5)), small_samples())
    with torch.no_grad():
        network[2].synapse.weight[0, 0] = float("inf")
    images, labels = batches()[0]
    with pytest.raises(NonFiniteError, match=r"^layer 2: "):
        training_step(network, constant(images, 3), labels, torch.optim.Adam(network.parameters()), None, Meter())


def test_the_class_that_spikes_most_counts_and_the_first_of_equals() -> None:
    # spikes of two classes: 2:0, 1:1, 0:1 and 0:0
    spikes = [[[1, 0], [1, 0], [0, 0], [0, 0]], [[1, 0], [0, 1], [0, 1], [0, 0]]]
    for labels, right in (([0, 0, 1, 0], 4), ([1, 1, 0, 1], 0), ([0, 1, 1, 1], 2)):
        meter = Meter()
        evaluation_step(Fixed(spikes), torch.zeros(2, 4, 1), torch.tensor(labels), meter)
        assert (meter.samples, meter.correct) == (4, right)


def test_the_meter_sums_and_gives_means() -> None:
    network = mlp((4,), classes=3, hidden=(5,), threshold=0.1)
    images, labels = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    layers = [module for module in network if isinstance(module, LIF)]
    spikes: dict[int, list[Tensor]] = {0: [], 1: []}
    for index, layer in enumerate(layers):
        layer.register_forward_hook(lambda _, __, out, index=index: spikes[index].append(out))
    meter = Meter()
    with watch_spikes(network, meter):
        evaluation_step(network, constant(images[:4], 7), labels[:4], meter)
        evaluation_step(network, constant(images[4:], 7), labels[4:], meter)
    together = [torch.cat(each, dim=1) for each in spikes.values()]
    summary = meter.summary()
    assert summary["samples"] == 6
    assert summary["accuracy"] == int((together[1].sum(0).argmax(-1) == labels).sum()) / 6
    assert summary["reward"] == pytest.approx(float(spike_count_reward(together[1], labels).sum()) / 7 / 6, rel=1e-5)
    assert summary["spike_rates"] == pytest.approx({"1": float(together[0].mean()), "2": float(together[1].mean())})
    assert 0 < summary["spike_rates"]["1"] < 1


def test_only_layers_that_never_spike_are_silent() -> None:
    assert Meter(4, rates={"a": 0.0, "b": 1e-6, "c": 0.0}).silent_layers() == ["a", "c"]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_network_as_it_was(training: bool) -> None:
    network = network_for(small_config(), small_samples()).train(training)
    before = deepcopy(network.state_dict())
    seen = []
    network[1].register_forward_hook(lambda layer, _, out: seen.append((layer.training, out.requires_grad)))
    evaluate(network, small_samples().test)
    assert seen == [(False, False)]
    assert {module.training for module in network.modules()} == {training}
    assert [len(module._forward_hooks) for module in network] == [0, 1, 0]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_evaluation_leaves_parts_in_the_mode_they_were() -> None:
    network = network_for(small_config(), small_samples()).train()
    network[1].eval()
    evaluate(network, small_samples().test)
    assert [module.training for module in network] == [True, False, True]


def test_hooks_go_where_evaluation_fails() -> None:
    network = network_for(small_config(), small_samples())
    with pytest.raises(ValueError, match="expected samples"):
        evaluate(network, small_samples(size=9).test)
    assert not any(module._forward_hooks for module in network)
    assert network.training


def test_evaluation_does_not_depend_on_the_batches() -> None:
    network = network_for(small_config(), small_samples())
    whole = evaluate(network, small_samples().test)
    parts = evaluate(network, small_samples().test, batch_size=2)
    assert (whole.samples, whole.correct) == (parts.samples, parts.correct) == (7, parts.correct)
    assert parts.reward == pytest.approx(whole.reward)
    assert parts.rates == pytest.approx(whole.rates)


@pytest.mark.parametrize("reward", [spike_count_reward, partial(logit_reward, class_weights=[1, 2, 3])])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
@pytest.mark.parametrize("places", [(), (2,)])
@pytest.mark.parametrize("kind", ["classes", "labels", "values"])
def test_what_counts_as_correct(kind: str, places: tuple[int, ...], lengths: list[int] | None, reward: Reward) -> None:
    outputs, batch = torch.randn(4, 2, 3, *places), 2
    targets = torch.randint(0, 3, (batch, *places))
    if kind != "classes":
        targets = torch.randint(0, 2, (batch, 3, *places))
    if kind == "values":
        targets = targets + torch.rand(targets.shape) / 3
    known = None if lengths is None else torch.tensor(lengths)
    found = predictions_of(outputs, targets, reward, known)
    assert found.shape == targets.shape
    expected = 0.0
    for b, place in product(range(batch), product(*map(range, places))):
        steps = 4 if lengths is None else lengths[b]
        means = [outputs[(slice(steps), b, c, *place)].mean().item() for c in range(3)]
        if kind == "classes":
            best = means.index(max(means))
            assert found[(b, *place)] == best
            expected += (best == targets[(b, *place)].item()) / len(list(product(*map(range, places))))
            continue
        for c in range(3):
            value = 1 / (1 + math.exp(-means[c])) if isinstance(reward, partial) else means[c]
            assert found[(b, c, *place)].item() == pytest.approx(value, rel=1e-5)
            near = abs(value - targets[(b, c, *place)].item()) < 0.5
            expected += near / targets[0].numel()
    assert float(correct(found, targets)) == pytest.approx(expected)
