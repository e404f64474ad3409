"""Batch normalisation between synapses and neurons: against torch's own, slow replicas, and the folded network."""

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune
from torch.utils.checkpoint import checkpoint

import spiking_lfp as lfp
from helpers import oracles
from helpers.tensors import random
from spiking_lfp import LIF, Affine, Composite, ThresholdBatchNorm, UsageError, fold_batch_norm, propagate
from spiking_lfp.rules import AlphaBeta, Flat, Gamma, Rule, ZPlusZMinus

T, B = 6, 3
SYNAPSES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dense": (nn.Linear(5, 4), (5,)),
    "signal": (nn.Conv1d(2, 3, 3, stride=2, bias=False), (2, 7)),
    "image": (nn.Conv2d(2, 4, 2, groups=2), (2, 4, 3)),
    "volume": (nn.Conv3d(1, 2, 2), (1, 2, 3, 3)),
    "transposed": (nn.ConvTranspose1d(4, 6, 2, groups=2), (4, 3)),
}


def outputs_of(synapse: Any) -> int:
    return synapse.out_features if isinstance(synapse, nn.Linear) else synapse.out_channels


def build(kind: str, norm: Callable[[int], nn.Module] = ThresholdBatchNorm) -> tuple[LIF, tuple[int, ...]]:
    """A layer in float64 whose normalisation has seen and learned something, both signs of gamma too."""
    synapse, shape = copy.deepcopy(SYNAPSES[kind])
    layer = LIF(synapse, 0.8, 0.6, norm=norm(outputs_of(synapse))).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.2, 0.7)
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.3, 2)
    layer.norm.num_batches_tracked.fill_(9)
    return layer, shape


def spikes_of(*shape: int, rate: float = 0.4) -> Tensor:
    return (torch.rand(*shape) < rate).double()


def near(actual: Tensor | None, expected: Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * (1 + expected.abs().max().item()))


def learn(layer: nn.Module, x: Tensor) -> None:
    spikes = layer(x)
    propagate(spikes, torch.ones_like(spikes))


# ---------------------------------------------------------------- what neurons get, and how it learns


@pytest.mark.parametrize("kind", SYNAPSES)
def test_currents_are_those_of_torch(kind: str) -> None:
    layer, shape = build(kind)
    x = random(T, B, *shape)
    affine = Affine(layer.synapse, norm=layer.norm).eval()
    expected = layer.norm(layer.synapse(x.flatten(0, 1))).unflatten(0, (T, B))
    near(affine(x), expected)


@pytest.mark.parametrize("kind", SYNAPSES)
def test_updates_are_those_of_the_replica(kind: str) -> None:
    """Each parameter by eq. 4 for itself: |w| times the sum of q times what it multiplies."""
    layer, shape = build(kind)
    layer.eval()
    x = (spikes_of(T, B, *shape) - 0.3 * spikes_of(T, B, *shape)).requires_grad_()
    spikes = layer(x)
    on_spikes = random(*spikes.shape)
    spikes.backward(on_spikes)

    norm, synapse = layer.norm, layer.synapse
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    z = synapse(x.detach().flatten(0, 1))
    normalised = F.batch_norm(z, norm.running_mean, norm.running_var, eps=norm.eps).unflatten(0, (T, B))
    current = F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    current = current.detach().unflatten(0, (T, B)).flatten(2)
    fired, membranes = oracles.lif_forward(current, 0.8, 0.6, "subtract")
    q, _ = oracles.lif_feedback(
        current, fired, membranes, on_spikes.flatten(2), None, 0.8, 0.6, "subtract", 1e-6
    )  # fmt: skip
    assert torch.equal(spikes.flatten(2), fired)
    assert 0 < fired.mean() < 1
    by_output = (q.view_as(spikes) * normalised.detach()).movedim(2, 0).flatten(1).sum(1)
    near(-norm.weight.grad, norm.weight.detach().abs() * by_output)
    sums = q.view_as(spikes).movedim(2, 0).flatten(1).sum(1)
    near(-norm.bias.grad, norm.bias.detach().abs() * sums)

    wires = oracles.wires_of(synapse, shape)
    update, handed = torch.zeros_like(synapse.weight), torch.zeros(T, B, x[0, 0].numel(), dtype=torch.float64)
    flat, weight = x.detach().flatten(2), synapse.weight.detach()
    for o, i, index in wires.wires:
        a = scale[wires.biases[o]].detach()
        update[index] += a.sign() * weight[index].abs() * (q[:, :, o] * flat[:, :, i]).sum()
        handed[:, :, i] += a * weight[index] * flat[:, :, i] * q[:, :, o]
    near(-synapse.weight.grad, update)
    near(x.grad, handed.view_as(x))
    if synapse.bias is not None:
        near(-synapse.bias.grad, scale.sign().detach() * synapse.bias.detach().abs() * sums)


@pytest.mark.parametrize("rule", [ZPlusZMinus(), AlphaBeta(), Gamma()])
@pytest.mark.parametrize("kind", SYNAPSES)
def test_rules_see_the_folded_layer(kind: str, rule: Rule) -> None:
    layer, shape = build(kind)
    layer.eval().rule = rule
    folded = fold_batch_norm(layer)
    assert isinstance(folded, LIF)
    assert folded.norm is None
    x, other = ((spikes_of(T, B, *shape) - 0.5 * spikes_of(T, B, *shape)).requires_grad_() for _ in range(2))
    other.data.copy_(x.data)
    spikes, expected = layer(x), folded(other)
    assert torch.equal(spikes, expected)
    reward = random(*spikes.shape)
    spikes.backward(reward)
    expected.backward(reward)
    near(x.grad, other.grad)
    # relative changes of the weights, and what the folded bias got without its size
    relative = layer.synapse.weight.grad / layer.synapse.weight.abs()
    wanted = folded.synapse.weight.grad / folded.synapse.weight.abs()
    near((relative / wanted).abs(), torch.ones_like(wanted))
    sums = folded.synapse.bias.grad / folded.synapse.bias.abs()
    near(layer.norm.bias.grad, layer.norm.bias.detach().abs() * sums)


def test_the_size_of_the_weights_does_not_matter() -> None:
    """Weights ten times as large give the same spikes and the same relative updates, once statistics have met them."""
    outcomes = []
    for size in (1.0, 10.0):
        torch.manual_seed(3)
        layer = LIF(nn.Linear(6, 5, bias=False), 0.9, 0.4, norm=ThresholdBatchNorm(5, 0.4, eps=0.0)).double()
        with torch.no_grad():
            layer.synapse.weight.mul_(size)
        spikes = layer(spikes_of(T, B, 6))
        spikes.backward(random(*spikes.shape))
        assert spikes.any()
        outcomes.append([spikes.detach(), layer.synapse.weight.grad / layer.synapse.weight, layer.norm.weight.grad])
    for one, other in zip(*outcomes, strict=True):
        near(one, other)


def test_frozen_parameters_receive_nothing() -> None:
    layer, shape = build("image")
    layer.norm.requires_grad_(False)
    learn(layer, spikes_of(T, B, *shape))
    assert layer.norm.weight.grad is layer.norm.bias.grad is None
    assert layer.synapse.weight.grad.any()
    layer.requires_grad_(False)
    layer.norm.weight.requires_grad_()
    learn(layer, spikes_of(T, B, *shape))
    assert layer.norm.weight.grad.any()


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("kind", SYNAPSES)
def test_statistics_follow_the_batches_as_torch_s_do(kind: str, momentum: float | None) -> None:
    layer, shape = build(kind, lambda n: ThresholdBatchNorm(n, momentum=momentum))
    theirs = copy.deepcopy(layer.norm).train()
    before = copy.deepcopy(layer.norm)
    for _ in range(3):
        x = spikes_of(T, B, *shape)
        layer(x)
        theirs(layer.synapse(x.flatten(0, 1)))
    near(layer.norm.running_mean, theirs.running_mean)
    near(layer.norm.running_var, theirs.running_var)
    assert int(layer.norm.num_batches_tracked) == 12
    assert not torch.equal(layer.norm.running_mean, before.running_mean)


def test_a_batch_is_normalised_by_those_before_it_and_the_first_by_itself() -> None:
    layer = Affine(nn.Conv1d(2, 3, 2), norm=nn.BatchNorm1d(3, momentum=0.5)).double()
    first, second = random(T, B, 2, 5), 3 + 2 * random(T, B, 2, 5)
    z = layer.synapse(first.flatten(0, 1)).detach()
    mean, variance = z.mean((0, 2)), z.var((0, 2))
    for x in (first, second):
        expected = F.batch_norm(layer.synapse(x.flatten(0, 1)), mean, variance, eps=layer.norm.eps)
        near(layer(x), expected.unflatten(0, (T, B)))
    after = layer.synapse(second.flatten(0, 1))
    near(layer.norm.running_mean, (mean + after.mean((0, 2))) / 2)
    near(layer.norm.running_var, (variance + after.var((0, 2))) / 2)


def test_a_constant_input_counts_once_and_packed_spikes_count() -> None:
    for x in (lfp.constant(torch.rand(B, 5).double(), T), spikes_of(T, B, 5, rate=0.1)):
        layer = LIF(nn.Linear(5, 4), norm=nn.BatchNorm1d(4)).double()
        layer(x)
        z = layer.synapse(x.flatten(0, 1))
        near(layer.norm.running_mean, z.mean(0))


@pytest.mark.parametrize("freeze", ["layer", "norm"])
def test_evaluation_changes_nothing(freeze: str) -> None:
    layer, shape = build("image")
    (layer if freeze == "layer" else layer.norm).eval()
    before = copy.deepcopy(layer.state_dict())
    x = spikes_of(T, B, *shape)
    assert torch.equal(layer(x), layer(x))
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_an_output_that_is_multiplied_by_nothing_keeps_its_statistics() -> None:
    layer, shape = build("image")
    with torch.no_grad():
        layer.norm.weight[1] = 0
    before = layer.norm.running_var.clone()
    learn(layer, spikes_of(T, B, *shape))
    assert (layer.norm.running_var == before).tolist() == [False, True, False, False]
    for parameter in layer.parameters():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("bits", [8])
def test_statistics_of_integers_are_those_of_the_real_numbers_that_they_mean(bits: int) -> None:
    real = LIF(nn.Conv2d(1, 3, 3), norm=ThresholdBatchNorm(3))
    whole = copy.deepcopy(real)
    lfp.run_in_integers(whole, bits, 255, per_channel=True)
    for _ in range(4):
        x = lfp.constant(torch.rand(4, 1, 6, 6), T)
        real(x)
        whole(x)
    torch.testing.assert_close(whole.norm.running_mean, real.norm.running_mean, rtol=0, atol=0.02)
    torch.testing.assert_close(whole.norm.running_var, real.norm.running_var, rtol=0.03, atol=0)


def test_a_copy_and_a_loaded_layer_go_on_alike() -> None:
    layer = LIF(nn.Linear(5, 4), 0.9, 0.3, norm=ThresholdBatchNorm(4, 0.3))
    layer(spikes_of(T, B, 5).float())
    loaded = LIF(nn.Linear(5, 4), 0.9, 0.3, norm=ThresholdBatchNorm(4, 0.3))
    loaded.load_state_dict(layer.state_dict())
    others = [copy.deepcopy(layer), loaded]
    x = spikes_of(T, B, 5).float()
    expected = layer(x)
    for other in others:
        assert torch.equal(other(x), expected)
        assert torch.equal(other.norm.running_var, layer.norm.running_var)


# ---------------------------------------------------------------- every kind of layer, composites, refusals


@pytest.mark.parametrize(
    "make",
    [
        lambda norm: lfp.RecurrentLIF(nn.Linear(5, 4), 0.8, 0.4, norm=norm),
        lambda norm: lfp.CubaLIF(nn.Linear(5, 4), 0.7, 0.8, 0.4, norm=norm),
        lambda norm: lfp.AdaptiveLIF(nn.Linear(5, 4), 0.8, 0.4, norm=norm),
        lambda norm: Affine(nn.Linear(5, 4), norm=norm),
    ],
)
def test_every_kind_of_layer_takes_one(make: Callable[[nn.Module], nn.Module]) -> None:
    layer = make(ThresholdBatchNorm(4)).double()
    for _ in range(3):
        layer(spikes_of(T, B, 5))
    layer.eval()
    x = spikes_of(T, B, 5)
    near(fold_batch_norm(layer)(x), layer(x).detach())
    learn(layer, x)
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_composites_take_layers_with_one() -> None:
    model = nn.Sequential(
        LIF(nn.Conv2d(1, 3, 2), 0.8, 0.3, norm=ThresholdBatchNorm(3, 0.3)),
        lfp.Flatten(),
        Affine(nn.Linear(12, 2), norm=nn.BatchNorm1d(2)),
    ).double()
    model(spikes_of(T, B, 1, 3, 3))
    by_hand = copy.deepcopy(model.eval())
    x = spikes_of(T, B, 1, 3, 3)
    for layer in (by_hand[0], by_hand[2]):
        layer.rule = ZPlusZMinus()
    with Composite(ZPlusZMinus()).applied(model):
        out = model(x)
        propagate(out, torch.ones_like(out))
    expected = by_hand(x)
    propagate(expected, torch.ones_like(expected))
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        near(one.grad, other.grad)


def test_chunks_take_frozen_statistics_only() -> None:
    layer, shape = build("image")
    x = spikes_of(T, B, *shape)
    with pytest.raises(UsageError, match=r"its norm learns its statistics, .*: freeze it with norm\.eval\(\)"):
        lfp.run_in_chunks(layer, x, 2)
    layer.norm.eval()
    assert torch.equal(lfp.run_in_chunks(layer, x, 2), layer(x))


def test_a_checkpoint_is_refused_when_it_runs_again() -> None:
    layer, shape = build("image")
    spikes = checkpoint(layer, spikes_of(T, B, *shape).requires_grad_(), use_reentrant=False)
    with pytest.raises(UsageError, match="its norm learns its statistics"):
        propagate(spikes, torch.ones_like(spikes))


class Centred(nn.BatchNorm1d):
    """One that does something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (
            nn.LayerNorm(4),
            f"norm must be a batch normalisation of torch or ThresholdBatchNorm, found {nn.LayerNorm(4)}",
        ),
        (Centred(4), f"norm must be a batch normalisation of torch or ThresholdBatchNorm, found {Centred(4)}"),
        (nn.BatchNorm1d(5), f"norm has 5 features, but {nn.Linear(3, 4)} has 4 outputs"),
        (
            nn.BatchNorm1d(4, track_running_stats=False),
            "BatchNorm1d keeps no running statistics, by which it would be folded: use track_running_stats=True",
        ),
    ],
)
@pytest.mark.parametrize("kind", [LIF, Affine])
def test_what_does_not_fit_is_refused_in_one_sentence(kind: type[LIF], norm: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        kind(nn.Linear(3, 4), norm=norm)


@pytest.mark.parametrize(
    "change",
    [
        lambda norm: norm.register_forward_hook(lambda *_: None),
        lambda norm: parametrize.register_parametrization(norm, "weight", nn.Softplus()),
        lambda norm: prune.l1_unstructured(norm, "weight", 0.5),
    ],
)
def test_what_would_happen_in_a_call_is_refused(change: Callable[[nn.Module], object]) -> None:
    network = nn.Sequential(LIF(nn.Linear(3, 4), norm=nn.BatchNorm1d(4)))
    lfp.name_layers(network)
    change(network[0].norm)
    with pytest.raises(UsageError, match=r"^layer 0: the norm has hooks or computes its parameters .* not call it: "):
        network(torch.rand(2, 1, 3))


def test_rules_that_see_no_weights_and_other_dtypes_are_refused() -> None:
    with pytest.raises(UsageError, match="layers with a norm do not take Flat"):
        LIF(nn.Linear(3, 4), rule=Flat(), norm=nn.BatchNorm1d(4))(torch.rand(2, 1, 3))
    layer = LIF(nn.Linear(3, 4), norm=nn.BatchNorm1d(4).double())
    with pytest.raises(UsageError, match=r"weights are torch\.float32, its norm is torch\.float64"):
        layer(torch.rand(2, 1, 3))


@pytest.mark.parametrize("sizes", [{"threshold": 0.0}, {"threshold": -1.0}, {"alpha": 0.0}, {"threshold": math.nan}])
def test_a_gamma_that_would_never_learn_is_refused(sizes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"^threshold and alpha must be finite and greater than 0, found "):
        ThresholdBatchNorm(8, **sizes)
