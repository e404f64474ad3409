"""Every rule on every layer against replicas that go through single connections, and what the rules promise.

The replicas are written from the formulas (LFP eq. 2-13; `z` of a LIF neuron counts as positive, and what its membrane
was is one contribution), one neuron and one step at a time. Layout: `[T, B, N]`, samples flattened to N values.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.rule_replicas import Replica, affine, connections_of, inverse_normalisers, sign
from helpers.tensors import assert_near, random
from spiking_lfp import (
    LIF,
    Affine,
    AvgPool2d,
    Epsilon,
    Flatten,
    RecurrentLIF,
    Rule,
    UsageError,
    add,
    constant,
    kernels,
    propagate,
    rules,
    run_in_chunks,
    run_in_integers,
    spike_count_reward,
)
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.rules import AlphaBeta, Flat, Gamma, Zero, ZPlusZMinus

RULES: dict[str, Rule] = {
    "zero": Zero(),
    "epsilon": Epsilon(),
    "large epsilon": Epsilon(epsilon=0.3),
    "z+z-": ZPlusZMinus(epsilon=1e-3),
    "alpha 2, beta 1": AlphaBeta(alpha=2.0, beta=1.0),
    "alpha 1.3, beta 0.3": AlphaBeta(epsilon=0.1, alpha=1.3, beta=0.3),
    "alpha 1, beta 0": AlphaBeta(alpha=1.0, beta=0.0),
    "gamma": Gamma(gamma=0.25),
    "large gamma": Gamma(epsilon=0.1, gamma=5.0),
    "flat": Flat(epsilon=1e-3),
}
NOT_FLAT = [name for name in RULES if name != "flat"]
SYNAPSES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4), (6,)),
    "linear without bias": (nn.Linear(5, 3, bias=False), (5,)),
    "conv": (nn.Conv2d(2, 3, 2), (2, 3, 3)),
    "conv without bias, stride and padding": (nn.Conv2d(2, 2, 3, stride=2, padding=1, bias=False), (2, 4, 3)),
    "conv, groups and dilation": (nn.Conv2d(4, 2, 2, groups=2, dilation=(1, 2)), (4, 2, 3)),
}


def build(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A synapse in float64 with weights of both signs, and the shape of its samples."""
    synapse, shape = copy.deepcopy(SYNAPSES[kind])
    for parameter in synapse.double().parameters():
        nn.init.normal_(parameter, 0.2, 0.5)
    return synapse, shape


def inputs(kind: str, steps: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A leaf, and the sequence `[T, 2, ...]` that is made of it."""
    if kind == "spikes":
        leaf = (torch.rand(steps, 2, *shape) < 0.15).double()
        leaf[0, 0].flatten()[0] = 1
        assert kernels.pack_spikes(leaf, None) is not None  # few enough for the event-driven products
    elif kind == "real":
        leaf = random(steps, 2, *shape) + 0.3
    elif kind == "non-negative":
        leaf = random(steps, 2, *shape).relu()
    else:
        leaf = random(2, *shape) + 0.3
    leaf.requires_grad_()
    return leaf, constant(leaf, steps) if kind == "constant" else leaf


# ---------------------------------------------------------------- the replicas


@dataclass
class Lif:
    """What a LIF layer did, and what it hands on beside what its synapse does."""

    replica: Replica
    spikes: Tensor
    final: Tensor
    on_initial: Tensor
    recurrent_update: Tensor


def lif(
    rule: Rule,
    synapse: nn.Module,
    x: Tensor,
    on_spikes: Tensor,
    on_final: Tensor,
    initial: Tensor,
    beta: float,
    threshold: float,
    reset: str,
    recurrent: Tensor | None = None,
) -> Lif:
    """MATH sec. 1 and 4, one contribution at a time.

    What `U[t-1]` was is the contribution `beta U[t-1]` by itself, also where reset "zero" lets a spike take it away:
    then it counts, and receives nothing. LFP-0 and LFP-epsilon see two contributions, `U[t-1]` and `V[t] - U[t-1]`.
    """
    replica = Replica(rule, synapse, x)
    (steps, batch), neurons = x.shape[:2], len(replica.connections)
    v = [[0.0] * neurons] * neurons if recurrent is None else recurrent.tolist()
    start, r = initial.detach().flatten(1).tolist(), on_spikes.flatten(2).tolist()
    u: list[list[list[float]]] = [[[0.0] * neurons for _ in range(batch)] for _ in range(steps)]
    everything = list(product(range(batch), range(neurons)))

    def before(t: int, b: int, n: int) -> float:
        return start[b][n] if t == 0 else u[t - 1][b][n]

    def fired(t: int, b: int, n: int) -> float:
        """S[t-1]."""
        return 1.0 if before(t, b, n) > threshold else 0.0

    def seen(t: int, b: int, n: int) -> list[float]:
        """The contributions of the neurons of the layer."""
        return [] if recurrent is None else [v[n][j] * fired(t, b, j) for j in range(neurons)]

    def total(t: int, b: int, n: int) -> float:
        return beta * before(t, b, n) + replica.current(t, b, n) + sum(seen(t, b, n))

    for t in range(steps):
        for b, n in everything:
            taken = {"subtract": threshold, "zero": beta * before(t, b, n), "none": 0.0}[reset]
            u[t][b][n] = total(t, b, n) - taken * fired(t, b, n)

    carried = on_final.flatten(1).tolist()
    updates = torch.zeros(neurons, neurons, dtype=torch.float64)
    for t in reversed(range(steps)):
        handed = [[0.0] * neurons for _ in range(batch)]
        for b, n in everything:
            past = before(t, b, n)
            synapses, others = replica.seen(t, b, n), seen(t, b, n)
            size = abs(past) + abs(total(t, b, n) - past)
            inverse = inverse_normalisers(rule, [*synapses, *others, beta * past], size)
            q = [(r[t][b][n] + carried[b][n]) * each for each in inverse]
            replica.hand_on(t, b, n, q[: len(synapses)])
            for j in range(len(others)):
                handed[b][j] += others[j] * q[len(synapses) + j]
                updates[n, j] += abs(v[n][j]) * fired(t, b, j) * q[len(synapses) + j]
            if not (reset == "zero" and fired(t, b, n)):
                handed[b][n] += beta * past * q[-1]
        carried = handed
    membranes = torch.tensor(u, dtype=torch.float64).view(steps, batch, *replica.outputs)
    on_initial = torch.tensor(carried, dtype=torch.float64).view(batch, *replica.outputs)
    return Lif(replica, (membranes > threshold).double(), membranes[-1], on_initial, updates)


# ---------------------------------------------------------------- ordinary layers


@pytest.mark.parametrize(
    ("kind", "signs"),
    [
        ("linear", "real"),
        ("linear", "non-negative"),
        ("linear without bias", "spikes"),
        ("conv", "real"),
        ("conv without bias, stride and padding", "real"),
        ("conv, groups and dilation", "non-negative"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_affine_follows_every_rule(rule: str, kind: str, signs: str) -> None:
    synapse, shape = build(kind)
    leaf, x = inputs(signs, 2, shape)
    z = Affine(synapse, RULES[rule])(x)
    feedback = random(*z.shape)
    z.backward(feedback)
    affine(RULES[rule], synapse, x, feedback).assert_equal(leaf, synapse)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("rule", RULES)
def test_mean_pooling_follows_every_rule(rule: str, kernel: int, stride: int | None, padding: int) -> None:
    leaf, x = inputs("real", 2, (2, 4, 5))
    out = AvgPool2d(kernel, stride, padding, RULES[rule])(x)
    feedback = random(*out.shape)
    out.backward(feedback)
    mean = nn.Conv2d(2, 2, kernel, stride or kernel, padding, groups=2, bias=False).double().requires_grad_(False)
    nn.init.constant_(mean.weight, 1 / kernel**2)
    affine(RULES[rule], mean, x, feedback, flat=1 / kernel**2).assert_equal(leaf, mean)


@pytest.mark.parametrize("rule", RULES)
def test_a_sum_of_tensors_follows_every_rule(rule: str) -> None:
    a, b = random(2, 3, 7).requires_grad_(), random(2, 3, 7).requires_grad_()
    feedback = random(2, 3, 7)
    add(a, b, RULES[rule]).backward(feedback)
    expected = [torch.zeros(2, 3, 7, dtype=torch.float64) for _ in "ab"]
    for place in product(range(2), range(3), range(7)):
        terms = [a[place].item(), b[place].item()]
        seen = [1.0, 1.0] if rule == "flat" else terms
        inverse = inverse_normalisers(RULES[rule], seen, abs(sum(terms)))
        for found, term, each in zip(expected, seen, inverse, strict=True):
            found[place] = term * sign(sum(terms)) * feedback[place].item() * each
    assert_near(a.grad, expected[0])
    assert_near(b.grad, expected[1])


def test_alpha_beta_goes_by_the_sign_of_contributions_not_of_weights() -> None:
    """By hand: contributions 2 and -1, each made of a weight and an input of the same or of opposite signs."""
    synapse = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[[-2.0, -1.0]]], dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor([[-1.0, 1.0]]))
    z = Affine(synapse, AlphaBeta(epsilon=1e-12, alpha=3.0, beta=2.0))(x)
    z.backward(torch.full_like(z, 10.0))
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx([2 * 3 * 10 / 2, -1 * 2 * 10 / 1])
    assert (-synapse.weight.grad).flatten().tolist() == pytest.approx([-2 * 3 * 10 / 2, -1 * 2 * 10 / 1])


# ---------------------------------------------------------------- LIF neurons


@pytest.mark.parametrize(
    ("kind", "signs"),
    [
        ("linear", "spikes"),
        ("linear", "real"),
        ("linear without bias", "constant"),
        ("conv", "spikes"),
        ("conv", "constant"),
        ("conv without bias, stride and padding", "real"),
    ],
)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("rule", RULES)
def test_lif_follows_every_rule(rule: str, reset: Reset, kind: str, signs: str) -> None:
    synapse, shape = build(kind)
    leaf, x = inputs(signs, 5, shape)
    outputs = connections_of(synapse, shape)[1]
    initial = (0.5 + random(2, *outputs)).requires_grad_()  # half of them start above the threshold
    on_spikes, on_final = random(5, 2, *outputs), random(2, *outputs)
    spikes, final = LIF(synapse, 0.8, 0.5, reset, RULES[rule]).run(x, initial)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])
    expected = lif(RULES[rule], synapse, x, on_spikes, on_final, initial, 0.8, 0.5, reset)
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(spikes, expected.spikes)
    assert_near(final, expected.final)
    assert_near(initial.grad, expected.on_initial)
    expected.replica.assert_equal(leaf, synapse)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("rule", RULES)
def test_constant_inputs_that_want_no_feedback_give_the_same_updates(rule: str, kind: str) -> None:
    """Their q is summed over time before the product."""
    synapse, shape = build(kind)
    leaf, x = inputs("constant", 6, shape)
    spikes = LIF(synapse, 0.8, 0.5, "subtract", RULES[rule])(x.detach())
    on_spikes = random(*spikes.shape)
    spikes = LIF(synapse, 0.8, 0.5, "subtract", RULES[rule])(constant(leaf.detach(), 6))
    spikes.backward(on_spikes)
    nothing = torch.zeros_like(spikes[0])
    expected = lif(RULES[rule], synapse, x, on_spikes, nothing, nothing, 0.8, 0.5, "subtract").replica
    assert_near(-synapse.weight.grad, expected.weight_update)
    assert_near(-synapse.bias.grad, expected.bias_update)


@pytest.mark.parametrize("signs", ["spikes", "real", "constant"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("rule", NOT_FLAT)
def test_recurrent_neurons_follow_every_rule(rule: str, reset: Reset, signs: str) -> None:
    synapse, shape = build("linear")
    layer = RecurrentLIF(synapse, 0.8, 0.4, reset, RULES[rule]).double()
    nn.init.normal_(layer.recurrent.weight, 0.1, 0.5)
    leaf, x = inputs(signs, 6, shape)
    initial = (0.4 + random(2, 4)).requires_grad_()
    on_spikes, on_final = random(6, 2, 4), random(2, 4)
    spikes, final = layer.run(x, initial)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])
    expected = lif(
        RULES[rule], synapse, x, on_spikes, on_final, initial, 0.8, 0.4, reset, layer.recurrent.weight.detach()
    )
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(spikes, expected.spikes)
    assert_near(final, expected.final)
    assert_near(initial.grad, expected.on_initial)
    assert layer.recurrent.weight.grad is not None
    assert_near(-layer.recurrent.weight.grad, expected.recurrent_update)
    expected.replica.assert_equal(leaf, synapse)


def test_recurrent_neurons_refuse_flat_in_one_sentence() -> None:
    layer = RecurrentLIF(nn.Linear(3, 4), rule=Flat())
    layer.name = "memory"
    message = "layer memory: recurrent layers do not take Flat(epsilon=1e-06)"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        layer(torch.rand(3, 2, 3))


@pytest.mark.parametrize("rule", ["z+z-", "alpha 2, beta 1", "gamma", "flat"])
def test_a_membrane_that_reset_to_zero_counts_but_receives_nothing(rule: str) -> None:
    """By hand: U[-1] = 2 fired and is gone, yet it is in the normaliser; one input gives 0.5."""
    synapse = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(synapse.weight, 0.5)
    x = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
    initial = torch.full((1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    ours: dict[str, tuple[Rule, float]] = {
        "z+z-": (ZPlusZMinus(epsilon=1e-12), 0.5 / (0.5 + 1)),
        "alpha 2, beta 1": (AlphaBeta(epsilon=1e-12), 2 * 0.5 / (0.5 + 1)),
        "gamma": (Gamma(epsilon=1e-12, gamma=3.0), 4 * 0.5 / (4 * (0.5 + 1))),
        "flat": (Flat(epsilon=1e-12), 1 / (1 + 1)),
    }
    spikes, final = LIF(synapse, 0.5, 1.0, "zero", ours[rule][0]).run(x, initial)
    assert final.item() == 0.5
    spikes.backward(torch.full_like(spikes, 6.0))
    assert x.grad is not None
    assert initial.grad is not None
    assert x.grad.item() == pytest.approx(6 * ours[rule][1])
    assert initial.grad.item() == 0


# ---------------------------------------------------------------- other numbers, other ways to run


def network_of(rule: Rule, recurrent: bool = False) -> nn.Sequential:
    """Layers of all kinds in float64 that follow one rule."""
    last = RecurrentLIF if recurrent else LIF
    network = nn.Sequential(
        LIF(nn.Conv2d(2, 3, 2), 0.8, 0.4, "zero", rule),
        AvgPool2d(2, rule=rule),
        Flatten(),
        LIF(nn.Linear(12, 8), 0.9, 0.3, "subtract", rule),
        last(nn.Linear(8, 3), 0.9, 0.3, "subtract", rule),
    ).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1, 0.4)
    return network


def outcome(network: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Spikes, feedback on the inputs, updates."""
    network.zero_grad()
    leaf = x.clone().requires_grad_()
    spikes = run(leaf)
    propagate(spikes, spike_count_reward(spikes, torch.tensor([0, 2])))
    found = [leaf.grad, *(parameter.grad for parameter in network.parameters())]
    assert all(each is not None for each in found)
    return [spikes.detach(), *(each.clone() for each in found if each is not None)]


@pytest.mark.parametrize("rule", RULES)
def test_float32_is_close_to_float64(rule: str) -> None:
    network, x = network_of(RULES[rule]), (torch.rand(6, 2, 2, 5, 5) < 0.3).double()
    double = outcome(network, x, network)
    single = copy.deepcopy(network).float()
    for found, expected in zip(outcome(single, x.float(), single), double, strict=True):
        assert found.dtype == torch.float32
        assert expected.any()
        assert_near(found.double(), expected, 1e-4)


@pytest.mark.parametrize(
    ("rule", "recurrent"),
    [("epsilon", False), ("z+z-", True), ("alpha 2, beta 1", False), ("gamma", True), ("flat", False)],
)
def test_chunks_change_nothing(rule: str, recurrent: bool) -> None:
    network, x = network_of(RULES[rule], recurrent), (torch.rand(7, 2, 2, 5, 5) < 0.3).double()
    whole = outcome(network, x, network)
    assert all(each.any() for each in whole)
    parts = outcome(network, x, lambda x: run_in_chunks(network, x, 3))
    assert torch.equal(parts[0], whole[0])
    for found, expected in zip(parts[1:], whole[1:], strict=True):
        assert_near(found, expected)


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("rule", RULES)
def test_networks_in_integers_learn_by_every_rule(rule: str, bits: int) -> None:
    network, x = network_of(RULES[rule]), torch.rand(6, 2, 2, 5, 5, dtype=torch.float64)
    del network[1]  # what integer hardware has no layer for
    network[2] = LIF(nn.Linear(48, 8).double(), 0.9, 0.3, "subtract", RULES[rule])
    run_in_integers(network, bits)
    spikes, *updates = outcome(network, x, network)
    assert spikes.any()
    for update in updates:
        assert update.isfinite().all()
        assert update.any()


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("rule", RULES)
def test_integers_that_round_nothing_follow_the_rule_as_real_numbers_do(rule: str, reset: Reset) -> None:
    """Weights are whole numbers of 1/64, the largest of them 127/64, and membranes do not leak.

    Membranes are then 64 * 2^6 times the real ones, and epsilon counts in their unit.
    """
    synapse = nn.Linear(6, 5).double()
    with torch.no_grad():
        for parameter in synapse.parameters():
            parameter.copy_((torch.randn_like(parameter) * 40 + 8.3).round().clamp(-126, 126) / 64)
        synapse.weight[0, 0] = 127 / 64
    network, x = nn.Sequential(LIF(synapse, 1.0, 1.0, reset, RULES[rule])), (torch.rand(6, 2, 6) < 0.5).double()
    on_spikes = random(6, 2, 5)

    def run() -> list[Tensor]:
        network.zero_grad()
        leaf = x.clone().requires_grad_()
        spikes = network(leaf)
        spikes.backward(on_spikes)
        assert leaf.grad is not None
        return [spikes.detach(), leaf.grad, synapse.weight.grad, synapse.bias.grad]

    integer_rule = RULES[rule]
    if isinstance(integer_rule, Zero):
        real = run()
    else:
        network[0].rule = replace(integer_rule, epsilon=integer_rule.epsilon / 4096)
        real = run()
    network[0].rule = integer_rule
    run_in_integers(network, 8, 1)
    integers = run()
    assert 0 < real[0].mean() < 1
    assert torch.equal(integers[0], real[0])
    for found, expected in zip(integers[1:], real[1:], strict=True):
        assert_near(found, expected, 1e-9)


# ---------------------------------------------------------------- what the rules promise

few = settings(max_examples=20)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


def some_affine(seed: int, sizes: tuple[int, int], bias: bool, rule: Rule) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs after feedback went through a random layer, what it was, and the layer's outputs."""
    torch.manual_seed(seed)
    synapse = nn.Linear(*sizes, bias=bias).double()
    for parameter in synapse.parameters():
        nn.init.normal_(parameter, 0.0, 10 ** float(torch.randn(())))
    x = random(1, 1, sizes[0]).requires_grad_()
    z = Affine(synapse, rule)(x)
    feedback = random(*z.shape)
    z.backward(feedback)
    return x, feedback, z.detach()


@few
@given(SEEDS, SIZES, st.booleans(), st.sampled_from([1e-12, 1e-6, 1.0]))
def test_z_plus_z_minus_never_grows_in_a_layer(seed: int, sizes: tuple[int, int], bias: bool, epsilon: float) -> None:
    x, feedback, _ = some_affine(seed, sizes, bias, ZPlusZMinus(epsilon=epsilon))
    assert x.grad is not None
    assert x.grad.abs().sum() <= feedback.abs().sum() * (1 + 1e-12)


@few
@given(SEEDS, st.sampled_from(RESETS), st.integers(1, 4), st.booleans())
def test_z_plus_z_minus_never_grows_over_the_steps_of_a_spiking_layer(
    seed: int, reset: Reset, steps: int, recurrent: bool
) -> None:
    """What inputs and the first membrane receive is at most what spikes and the last membrane did."""
    torch.manual_seed(seed)
    kind = RecurrentLIF if recurrent else LIF
    layer = kind(nn.Linear(3, 4), 0.9, 0.4, reset, ZPlusZMinus(epsilon=1e-9)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x, initial = random(steps, 1, 3).requires_grad_(), random(1, 4).requires_grad_()
    spikes, final = layer.run(x, initial)
    on_spikes, on_final = random(*spikes.shape), random(*final.shape)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])
    assert x.grad is not None
    assert initial.grad is not None
    came = on_spikes.abs().sum() + on_final.abs().sum()
    assert x.grad.abs().sum() + initial.grad.abs().sum() <= came * (1 + 1e-12)


@few
@given(SEEDS, st.integers(1, 5), st.booleans(), st.floats(0, 3))
def test_alpha_beta_gives_one_sign_at_most_alpha_times_and_the_other_beta_times(
    seed: int, inputs: int, bias: bool, beta: float
) -> None:
    """Together that is up to alpha + beta times, not max(alpha, beta); the bound of LFP app. A.3 is for each sign."""
    alpha = 1 + beta
    rule = AlphaBeta(epsilon=1e-9, alpha=alpha, beta=beta)
    x, feedback, z = some_affine(seed, (inputs, 1), bias, rule)
    assert x.grad is not None
    given, handed = feedback.abs().item() * (1 + 1e-9), x.grad * feedback.sign() * z.sign()
    assert handed.clamp(min=0).sum() <= alpha * given
    assert -handed.clamp(max=0).sum() <= beta * given
    assert x.grad.abs().max() <= max(alpha, beta) * given


def test_alpha_beta_can_grow_by_alpha_plus_beta() -> None:
    synapse = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor([[3.0, -1.0]]))
    x = torch.ones(1, 1, 2, dtype=torch.float64, requires_grad=True)
    Affine(synapse, AlphaBeta(epsilon=1e-12))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx([2, -1])


@few
@given(SEEDS, SIZES, st.sampled_from(["zero", "epsilon", "gamma"]))
def test_without_a_bias_the_sum_of_feedback_is_kept(seed: int, sizes: tuple[int, int], kind: str) -> None:
    ours = {"zero": Zero(), "epsilon": Epsilon(epsilon=1e-12), "gamma": Gamma(epsilon=1e-12, gamma=0.5)}
    x, feedback, z = some_affine(seed, sizes, False, ours[kind])
    assert x.grad is not None
    if z.abs().min() > 1e-3:
        # parts of one neuron may cancel: relative to what was handed to single connections
        assert_near(x.grad.sum(), feedback.sum(), 1e-6)


@few
@given(SEEDS)
def test_where_both_signs_contribute_alpha_beta_keeps_the_sum_times_the_sign(seed: int) -> None:
    """LFP eq. 10 has `sign(z) * r`, so a negative neuron hands on minus its feedback: (alpha - beta) sign(z) r."""
    torch.manual_seed(seed)
    synapse = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        synapse.weight.copy_(torch.tensor([[1.0, -1.0]]))
    x = torch.rand(1, 1, 2, dtype=torch.float64).add(0.1).requires_grad_()
    z = Affine(synapse, AlphaBeta(epsilon=1e-12, alpha=2.5, beta=1.5))(x)
    z.sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(z.sign().item(), rel=1e-6)


@few
@given(SEEDS, SIZES, st.booleans(), st.sampled_from([1e-6, 0.1]))
def test_gamma_0_is_epsilon_in_ordinary_layers(seed: int, sizes: tuple[int, int], bias: bool, epsilon: float) -> None:
    gamma, _, _ = some_affine(seed, sizes, bias, Gamma(epsilon=epsilon, gamma=0.0))
    expected, _, _ = some_affine(seed, sizes, bias, Epsilon(epsilon=epsilon))
    assert_near(gamma.grad, expected.grad, 1e-7)


@few
@given(SEEDS, SIZES, st.booleans())
def test_a_large_gamma_gives_all_to_contributions_with_the_sign_of_the_sum(
    seed: int, sizes: tuple[int, int], bias: bool
) -> None:
    x, _, z = some_affine(seed, (sizes[0], 1), bias, Gamma(epsilon=1e-9, gamma=1e12))
    torch.manual_seed(seed)
    synapse = nn.Linear(sizes[0], 1, bias=bias).double()
    for parameter in synapse.parameters():
        nn.init.normal_(parameter, 0.0, 10 ** float(torch.randn(())))
    contributions = synapse.weight[0] * x.detach().flatten()
    assert x.grad is not None
    against = contributions * z.item() < 0
    assert x.grad.flatten()[against].abs().sum() <= 1e-3 * (1 + x.grad.abs().max())


@few
@given(SEEDS, st.integers(1, 6), st.booleans())
def test_alpha_1_beta_0_gives_nothing_to_negative_contributions(seed: int, inputs: int, bias: bool) -> None:
    torch.manual_seed(seed)
    synapse = nn.Linear(inputs, 1, bias=bias).double()
    nn.init.normal_(synapse.weight)
    x = random(1, 1, inputs).requires_grad_()
    Affine(synapse, AlphaBeta(alpha=1.0, beta=0.0))(x).sum().backward()
    assert x.grad is not None
    negative = (synapse.weight.detach() * x.detach()).flatten() < 0
    assert not x.grad.flatten()[negative].any()
    assert not synapse.weight.grad.flatten()[negative].any()
    assert x.grad.flatten()[~negative].all()
    if bias:
        assert bool(synapse.bias.grad.any()) == bool(synapse.bias > 0)


@few
@given(SEEDS, SIZES, st.booleans())
def test_flat_gives_every_connection_the_same(seed: int, sizes: tuple[int, int], bias: bool) -> None:
    x, feedback, z = some_affine(seed, sizes, bias, Flat(epsilon=1e-12))
    assert x.grad is not None
    share = (z.sign() * feedback).sum().item() / (sizes[0] + bias)
    assert_near(x.grad, torch.full_like(x, share), 1e-9)


@few
@given(SEEDS, st.sampled_from(sorted(RULES)))
def test_no_feedback_gives_no_feedback(seed: int, rule: str) -> None:
    torch.manual_seed(seed)
    synapse, _ = build("linear")
    x = random(3, 2, 6).requires_grad_()
    spikes = LIF(synapse, rule=RULES[rule])(x)
    spikes.backward(torch.zeros_like(spikes))
    assert x.grad is not None
    assert not x.grad.any()
    assert not synapse.weight.grad.any()


# ---------------------------------------------------------------- the rules themselves


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Epsilon(epsilon=0.0), "epsilon must be greater than 0, found 0.0"),
        (lambda: ZPlusZMinus(epsilon=-1.0), "epsilon must be greater than 0, found -1.0"),
        (lambda: Flat(epsilon=float("nan")), "epsilon must be greater than 0, found nan"),
        (lambda: Gamma(epsilon=0.0), "epsilon must be greater than 0, found 0.0"),
        (lambda: AlphaBeta(epsilon=0.0), "epsilon must be greater than 0, found 0.0"),
        (
            lambda: AlphaBeta(alpha=2.0, beta=2.0),
            "alpha - beta must be 1 and beta at least 0, found 2.0 and 2.0",
        ),
        (
            lambda: AlphaBeta(alpha=0.5, beta=-0.5),
            "alpha - beta must be 1 and beta at least 0, found 0.5 and -0.5",
        ),
        (
            lambda: AlphaBeta(alpha=float("nan")),
            "alpha - beta must be 1 and beta at least 0, found nan and 1.0",
        ),
        (lambda: Gamma(gamma=-0.1), "gamma must be at least 0, found -0.1"),
        (lambda: Gamma(gamma=float("nan")), "gamma must be at least 0, found nan"),
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(build: Callable[[], Rule], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        build()


def test_every_rule_is_tested_here() -> None:
    found = [each for each in vars(rules).values() if isinstance(each, type) and issubclass(each, Rule)]
    public = {each for each in found if each is not Rule and not each.__name__.startswith("_")}
    assert {type(rule) for rule in RULES.values()} == public


def test_rules_have_the_defaults_of_the_paper() -> None:
    assert AlphaBeta() == AlphaBeta(epsilon=1e-6, alpha=2.0, beta=1.0)
    assert ZPlusZMinus().epsilon == Epsilon().epsilon == 1e-6
    assert hash(Gamma(gamma=0.5)) == hash(Gamma(gamma=0.5))
