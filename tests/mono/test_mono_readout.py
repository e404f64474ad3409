"""The readout against a taped copy: signs of rewards, scores, updates; and with LFP beneath it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    Composite,
    Epsilon,
    Gamma,
    MonoReadout,
    NonFiniteError,
    UsageError,
    propagate,
    run_in_chunks,
)
from spiking_lfp.lfp.rewards import cross_entropy_reward
from spiking_lfp.mono.readout import SCHEMES

SEEDS = st.integers(0, 2**32 - 1)


def spikes_of(steps: int, batch: int, features: int) -> Tensor:
    return (torch.rand(steps, batch, features) < 0.4).double().requires_grad_()


def taped(readout: MonoReadout, spikes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and scores, counted step by step with torch's own functions."""
    windows, groups = [], []
    for part in torch.arange(len(spikes)).tensor_split(readout.windows):
        total, most = torch.zeros_like(spikes[0]), 0.0
        for t in part:
            total, most = readout.beta * total + spikes[t], readout.beta * most + 1
        windows.append(total / most)
    rates, start = torch.stack(windows, 1), 0
    for net, size in zip(readout.nets, readout.groups, strict=True):
        h = torch.stack(
            [rates[:, :, n] * (1 if n - start < size // 2 else -1) for n in range(start, start + size)], 2
        ).flatten(1)
        for index, synapse in enumerate(net.synapses):  # type: ignore[arg-type]
            z = synapse(h)
            h = z if index == len(net.synapses) - 1 else torch.tanh(z)  # type: ignore[arg-type]
        groups.append(h)
        start += size
    logits = torch.cat(groups, 1)
    classes = len(readout.code)
    scores = [torch.zeros_like(logits[:, 0]) for _ in range(classes)]
    if logits.shape[1] == classes and classes > 2 and torch.equal(readout.code, torch.eye(classes).double()):
        return logits, logits
    column = 0
    for first in range(classes):
        for second in range(first + 1, classes):
            scores[first] = scores[first] - logits[:, column] / 2
            scores[second] = scores[second] + logits[:, column] / 2
            column += 1
    return logits, torch.stack(scores, 1)


@given(
    SEEDS,
    st.sampled_from(SCHEMES),
    st.integers(2, 4),
    st.integers(1, 3),
    st.sampled_from([1.0, 0.7]),
    st.sampled_from([(), (5,), (5, 4)]),
)
def test_scores_updates_and_signs(
    seed: int, scheme: str, classes: int, windows: int, beta: float, hidden: tuple[int, ...]
) -> None:
    torch.manual_seed(seed)
    readout = MonoReadout(15, classes, hidden, scheme, windows, beta, seed=seed % 1000).double()  # type: ignore[arg-type]
    spikes = spikes_of(7, 3, 15)
    labels = torch.randint(classes, (3,))
    out = readout(spikes)
    _, scores = taped(readout, spikes)
    torch.testing.assert_close(out, scores[None], rtol=1e-12, atol=1e-12)
    propagate(out, cross_entropy_reward(out, labels))
    assert spikes.grad is not None
    reward = spikes.grad
    # each decision's own logit, whose error is known: feedback has minus the sign of the loss's gradient
    loss = nn.functional.cross_entropy(scores, labels, reduction="sum")
    exact = torch.autograd.grad(loss, spikes)
    # of each decision's neurons, those that are never or always on too
    assert torch.equal(reward.sign(), -exact[0].sign())
    # and the mono-nets learn as they do alone: their updates are those of mDFA, sample by sample
    readout.zero_grad()
    single = torch.autograd.grad(
        nn.functional.cross_entropy(taped(readout, spikes[:, :1])[1], labels[:1]), list(readout.nets.parameters())
    )
    shown = readout(spikes[:, :1].detach())
    propagate(shown, cross_entropy_reward(shown, labels[:1]))
    for parameter, gradient in zip(readout.nets.parameters(), single, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad.sign()[gradient != 0], gradient.sign()[gradient != 0])


def test_two_classes_are_one_decision_whose_sigmoid_is_the_softmax() -> None:
    readout = MonoReadout(8, 2, (4,)).double()
    spikes = spikes_of(5, 3, 8)
    scores = readout(spikes)[0]
    logits, _ = taped(readout, spikes)
    assert logits.shape == (3, 1)
    torch.testing.assert_close(torch.sigmoid(logits[:, 0]), scores.softmax(1)[:, 1])


def test_half_of_the_neurons_of_each_decision_speak_against_it() -> None:
    readout = MonoReadout(13, 3, (4,), "one-vs-rest")
    assert readout.groups == [5, 4, 4]
    assert readout.polarity.tolist() == [1, 1, -1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1]


def test_neurons_below_are_rewarded_and_the_readout_learns() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(LIF(nn.Linear(6, 20)), MonoReadout(20, 2, (8,)))
    readout = net[1]
    assert isinstance(readout, MonoReadout)
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    readout.keep_monotone(optimizer)
    x = torch.rand(60, 6)
    labels = (x[:, 0] > x[:, 1]).long()
    shown = x.expand(12, -1, -1)
    right = []
    for _ in range(60):
        optimizer.zero_grad()
        out = net(shown)
        right.append(float((out.sum(0).argmax(1) == labels).float().mean()))
        propagate(out, cross_entropy_reward(out, labels))
        optimizer.step()
    assert net[0].synapse.weight.grad.abs().sum() > 0
    assert right[-1] > 0.9
    assert right[-1] > right[0]


@pytest.mark.parametrize(("steps", "windows"), [(1, 1), (4, 4)])
def test_windows_of_one_step_reward_too(steps: int, windows: int) -> None:
    readout = MonoReadout(8, 2, (4,), windows=windows)
    spikes = (torch.rand(steps, 3, 8) < 0.5).float().requires_grad_()
    out = readout(spikes)
    propagate(out, cross_entropy_reward(out, torch.tensor([0, 1, 1])))
    assert spikes.grad is not None
    assert bool((spikes.grad != 0).all())


def test_other_steps_are_needed_at_once_and_rules_are_for_other_layers() -> None:
    net = nn.Sequential(LIF(nn.Linear(6, 8)), MonoReadout(8, 2, (4,)))
    with pytest.raises(UsageError, match=r"MonoReadout \(\w+\) needs all steps at once"):
        run_in_chunks(net, torch.rand(6, 2, 6), 3)
    composite = Composite(Epsilon(), positions={-1: Gamma()})
    assert list(composite.rules(net)) == ["0"]
    composite.assign(net)
    assert isinstance(net[0].rule, Gamma)


def test_autocast_changes_nothing() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(LIF(nn.Linear(20, 90), threshold=0.2), MonoReadout(90, 3))
    x, labels = torch.rand(6, 4, 20), torch.tensor([0, 1, 2, 1])
    outcomes = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            scores = network(x)
            propagate(scores, cross_entropy_reward(scores[0], labels).unsqueeze(0))
        outcomes.append([scores, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_features_that_learn_nothing_get_nothing() -> None:
    readout = MonoReadout(8, 2, (4,))
    features = torch.rand(3, 2, 8)
    out = readout(features)
    propagate(out, cross_entropy_reward(out, torch.tensor([0, 1])))
    assert features.grad is None
    assert all(parameter.grad is not None for parameter in readout.parameters())


def test_feedback_weights_are_kept_with_the_state() -> None:
    one, other = MonoReadout(8, 2, (4,), seed=1), MonoReadout(8, 2, (4,), seed=2)
    names = [name for name in one.state_dict() if "feedback" in name]
    assert len(names) == 2
    assert not any(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in names)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in names)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="classes of a readout must be at least 2, found 1"):
        MonoReadout(8, 1)
    with pytest.raises(UsageError, match=r"features of a readout must be an integer, at least 1, found 8\.0"):
        MonoReadout(8.0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="windows of a readout must be at least 1, found 0"):
        MonoReadout(8, windows=0)
    with pytest.raises(UsageError, match=r"beta of a readout must be above 0 and at most 1, found 1\.5"):
        MonoReadout(8, beta=1.5)
    with pytest.raises(UsageError, match="45 pairwise decisions need at least 90 neurons below, found 89"):
        MonoReadout(89, 10, scheme="pairwise")
    with pytest.raises(UsageError, match="unknown scheme 'one-vs-all'"):
        MonoReadout(8, 2, scheme="one-vs-all")  # type: ignore[arg-type]
    readout = MonoReadout(8, 2, (4,), windows=3)
    with pytest.raises(UsageError, match=r"expects \[T, B, 8\] with T >= 3, found \[2, 1, 8\]"):
        readout(torch.zeros(2, 1, 8))
    with pytest.raises(UsageError, match=r"expects \[T, B, 8\]"):
        readout(torch.zeros(3, 8))
    out = readout(torch.rand(3, 1, 8, requires_grad=True))
    with pytest.raises(NonFiniteError):
        propagate(out, torch.full_like(out, torch.nan))
