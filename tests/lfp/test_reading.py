"""Synapses are read as they are now; what would happen if they were called is honoured or refused by name."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from helpers import oracles
from spiking_lfp import (
    LIF,
    AdaptiveLIF,
    Affine,
    Composite,
    CubaLIF,
    FeedforwardNet,
    Flatten,
    RecurrentLIF,
    UsageError,
    ZPlusZMinus,
    constant,
    mlp,
    name_layers,
    propagate,
    spike_count_reward,
)
from spiking_lfp.deploy.interop import to_norse, to_snntorch
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.lfp.reading import plain_synapse, read_synapse
from spiking_lfp.nn.layers import SynapticLayer
from spiking_lfp.nn.networks import lenet

INPUTS = 6


def sequence(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(7, 3, INPUTS, dtype=dtype)


# ---------------------------------------------------------------- what would happen in a call


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Snapped(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight.round(), bias)


class LowRank(nn.Module):
    """An adapter as libraries wrap them: it looks like the layer it wraps."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a, self.b = nn.Parameter(torch.rand(2, base.in_features)), nn.Parameter(torch.rand(base.out_features, 2))
        self.in_features, self.out_features = base.in_features, base.out_features

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


class Positive(nn.Linear):
    """Weights by a property."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.raw = nn.Parameter(self._parameters.pop("weight").detach())

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.raw.abs()

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self._parameters["weight"] = value  # type: ignore[assignment]


def hooked(name: str) -> nn.Linear:
    synapse = nn.Linear(INPUTS, 4)
    getattr(synapse, name)(lambda *_: None)
    return synapse


def replaced() -> nn.Linear:
    synapse = nn.Linear(INPUTS, 4)
    synapse.forward = lambda x: 2 * F.linear(x, synapse.weight)  # type: ignore[method-assign]
    return synapse


def dynamic() -> nn.Module:
    """As quantising a network makes of its layers."""
    from torch.ao.quantization import quantize_dynamic

    made: nn.Module = quantize_dynamic(nn.Sequential(nn.Linear(INPUTS, 4)), {nn.Linear})[0]
    return made


class Tagged(nn.Parameter):
    """A tensor of somebody's own."""

    @staticmethod
    def __new__(cls, data: Tensor) -> "Tagged":
        return torch.Tensor._make_subclass(cls, data)  # type: ignore[no-any-return]


def tagged() -> nn.Linear:
    synapse = nn.Linear(INPUTS, 4)
    synapse._parameters["weight"] = Tagged(synapse.weight.detach())
    return synapse


def without_weight() -> nn.Linear:
    synapse = nn.Linear(INPUTS, 4)
    synapse._parameters["weight"] = None
    return synapse


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "forward of its own": (lambda: Doubled(INPUTS, 4), r"Doubled has a forward pass of its own"),
    "forward of one": (replaced, "the synapse Linear has a forward pass of its own"),
    "convolution of its own": (lambda: Snapped(1, 4, 2), r"Snapped has a forward pass of its own"),
    "trained in 8 bits": (
        lambda: nn.Sequential(torch.ao.nn.qat.Linear(INPUTS, 4, qconfig=torch.ao.quantization.default_qat_qconfig))[0],
        "has a forward pass of its own",
    ),
    "adapter": (lambda: LowRank(nn.Linear(INPUTS, 4)), r"LowRank; what wraps one \(adapters, .* merge it"),
    "compiled": (lambda: torch.compile(nn.Linear(INPUTS, 4)), "OptimizedModule; what wraps one"),
    "scripted": (lambda: torch.jit.script(nn.Linear(INPUTS, 4)), "RecursiveScriptModule; what wraps one"),
    "quantised": (dynamic, r"quantized.*Linear; what wraps one"),
    "sequential": (lambda: nn.Sequential(nn.Linear(INPUTS, 4)), "Sequential; what wraps one"),
    "forward hook": (lambda: hooked("register_forward_hook"), "the synapse has hooks, .* register them on the layer"),
    "forward pre-hook": (lambda: hooked("register_forward_pre_hook"), "the synapse has hooks"),
    "backward hook": (lambda: hooked("register_full_backward_hook"), "the synapse has hooks"),
    "backward pre-hook": (lambda: hooked("register_full_backward_pre_hook"), "the synapse has hooks"),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(INPUTS, 4)), "computes its weight from others"),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(INPUTS, 4)), "computes its weight from others"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(INPUTS, INPUTS)), "computes its weight from others"),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Linear(INPUTS, 4)), "computes its weight from others"),
    "property": (lambda: Positive(INPUTS, 4), "computes its weight from others"),
    "another tensor": (tagged, "the weight of the synapse is a Tagged, expected a plain tensor"),
    "no weight": (without_weight, "the weight of the synapse is a NoneType"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("layer", [LIF, CubaLIF, AdaptiveLIF, Affine, lambda synapse: FeedforwardNet([synapse])])
def test_what_would_happen_in_a_call_is_refused_where_layers_are_made(
    layer: Callable[[nn.Module], nn.Module], kind: str
) -> None:
    make, message = REFUSED[kind]
    with pytest.raises(UsageError, match=message) as caught:
        layer(make())
    assert "\n" not in str(caught.value)


LAYERS: dict[str, Callable[[], Any]] = {
    "LIF": lambda: LIF(nn.Linear(INPUTS, 4)),
    "recurrent": lambda: RecurrentLIF(nn.Linear(INPUTS, 4)),
    "Affine": lambda: Affine(nn.Linear(INPUTS, 4)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind not in ("convolution of its own", "orthogonal")])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_would_happen_in_a_call_is_refused_by_the_layer_s_name_when_it_runs(layer: str, kind: str) -> None:
    make, message = REFUSED[kind]
    network = nn.Sequential(LAYERS[layer]())
    name_layers(network)
    network[0].synapse = make()
    with pytest.raises(UsageError, match=rf"^layer 0: .*{message}|^the synapse of a recurrent layer"):
        network(sequence(torch.float32))


@pytest.mark.parametrize("kind", ["forward of one", "forward hook", "weight norm", "another tensor"])
def test_recurrent_weights_are_read_in_the_same_way(kind: str) -> None:
    layer = RecurrentLIF(nn.Linear(INPUTS, INPUTS))
    make, message = REFUSED[kind]
    made = make()
    if kind == "weight norm":
        made = parametrizations.weight_norm(nn.Linear(INPUTS, INPUTS, bias=False))
    layer.recurrent = made
    with pytest.raises(UsageError, match=message):
        layer(sequence(torch.float32))
    layer.recurrent = nn.Linear(4, 4, bias=False)
    with pytest.raises(UsageError, match=r"recurrent must be nn\.Linear\(6, 6, bias=False\)"):
        layer(sequence(torch.float32))
    layer.synapse = nn.Conv2d(1, 6, 1)
    with pytest.raises(UsageError, match=r"recurrent must be an nn\.Conv2d from 6 to 6 channels"):
        layer(torch.rand(3, 2, 1, 2, 2))


def test_what_is_no_module_is_refused(unchecked: None) -> None:
    with pytest.raises(UsageError, match=r"found NoneType"):
        LIF(None)  # type: ignore[arg-type]


def test_backward_hooks_and_forward_hooks_of_layers_run() -> None:
    layer, seen = LIF(nn.Linear(INPUTS, 4), threshold=0.2), []
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    x = constant(torch.rand(2, INPUTS, requires_grad=True), 5)
    spikes = layer(x)
    propagate(spikes, torch.ones_like(spikes))
    assert seen == ["forward", "backward"]
    plain = LIF(copy.deepcopy(layer.synapse), threshold=0.2)
    plain.zero_grad()
    again = plain(x)
    propagate(again, torch.ones_like(again))
    assert torch.equal(plain.synapse.weight.grad, layer.synapse.weight.grad)


def test_subclasses_that_only_start_otherwise_are_taken() -> None:
    class Wide(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.constant_(self.weight, 0.5)
            nn.init.zeros_(self.bias)

    synapse = Wide(INPUTS, 4).double()
    x = sequence()
    assert torch.equal(LIF(synapse)(x), LIF(_plain(synapse))(x))


def _plain(synapse: nn.Linear) -> nn.Linear:
    made = nn.Linear(synapse.in_features, synapse.out_features).to(synapse.weight)
    made.load_state_dict(synapse.state_dict())
    return made


# ---------------------------------------------------------------- exchanged and changed


@pytest.mark.parametrize("kind", [LIF, Affine])
def test_a_synapse_may_be_exchanged(kind: type[SynapticLayer]) -> None:
    layer = kind(nn.Linear(INPUTS, 4))
    layer.synapse = nn.Conv2d(2, 3, 2, stride=2).double()
    x = torch.rand(4, 2, 2, 5, 5, dtype=torch.float64)
    assert torch.equal(layer(x), kind(layer.synapse)(x))
    with pytest.raises(UsageError, match=r"expected samples of \[2, height >= 2, width >= 2\]"):
        layer(sequence())


CHANGES: dict[str, tuple[str, object]] = {
    "stride": ("stride", (2, 1)),
    "stride, one number": ("stride", 2),
    "stride, a list": ("stride", [2, 2]),
    "padding": ("padding", 1),
    "padding, a word": ("padding", "same"),
    "dilation": ("dilation", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_convolution_computes_what_torch_does(change: str) -> None:
    synapse = nn.Conv2d(2, 3, 3).double()
    layer, x = Affine(synapse), torch.rand(2, 2, 2, 7, 6, dtype=torch.float64)
    before = layer(x)
    name, value = CHANGES[change]
    setattr(synapse, name, value)
    after = layer(x)
    assert after.shape != before.shape
    torch.testing.assert_close(after.flatten(0, 1), synapse(x.flatten(0, 1)), rtol=1e-12, atol=1e-12)
    feedback = torch.rand_like(after)
    after.backward(feedback)
    expected = oracles.affine_layer(_tidied(synapse), x, feedback, 1e-6)
    torch.testing.assert_close(-synapse.weight.grad, expected.weight_update, rtol=1e-9, atol=1e-9)


def _tidied(synapse: nn.Conv2d) -> nn.Conv2d:
    described, weight, bias = read_synapse(synapse)
    window: Any = described
    made = nn.Conv2d(2, 3, 3, window.stride, window.padding, window.dilation).double()
    made.load_state_dict({"weight": weight, "bias": bias})
    return made


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_a_changed_padding_mode_is_followed(mode: str) -> None:
    layer = Affine(nn.Conv2d(1, 2, 3, padding=1)).double()
    x = torch.rand(3, 2, 1, 4, 4, dtype=torch.float64)
    before = layer(x)
    layer.synapse.padding_mode = mode
    expected = nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode).double()
    expected.load_state_dict(layer.synapse.state_dict())
    assert not torch.allclose(layer(x), before)
    torch.testing.assert_close(layer(x).flatten(0, 1), expected(x.flatten(0, 1)), rtol=1e-12, atol=1e-12)


def test_weights_of_another_size_are_followed() -> None:
    """As structured pruning leaves them: the numbers beside the weights are the old ones."""
    layer = LIF(nn.Linear(INPUTS, 4).double())
    layer.synapse.weight = nn.Parameter(torch.rand(4, 3, dtype=torch.float64))
    assert layer(torch.rand(5, 2, 3, dtype=torch.float64)).shape == (5, 2, 4)
    with pytest.raises(UsageError, match="expected samples of 3 features"):
        layer(sequence())


@pytest.mark.parametrize("change", ["exchanged", "stride", "pruned", "hook"])
def test_mono_nets_refuse_changes_by_name(change: str) -> None:
    net = FeedforwardNet([nn.Conv2d(1, 2, 2), nn.Linear(8, 1)])
    x = torch.rand(2, 1, 3, 3)
    net(x)
    if change == "exchanged":
        net.synapses[0] = nn.Conv2d(1, 2, 2)
    elif change == "stride":
        net.synapses[0].stride = (2, 2)  # type: ignore[assignment]
    elif change == "pruned":
        prune.l1_unstructured(net.synapses[0], "weight", 0.5)
    else:
        net.synapses[0].register_forward_hook(lambda *_: None)
    message = "the synapse has hooks" if change == "hook" else "was exchanged, changed or pruned"
    with pytest.raises(UsageError, match=rf"^layer 0.*{message}"):
        net(x)


# ---------------------------------------------------------------- pruned


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("kind", [LIF, Affine, RecurrentLIF])
def test_pruned_synapses_run_and_learn_as_torch_masks_them(kind: Callable[..., Any], name: str) -> None:
    layer = kind(nn.Linear(INPUTS, 4).double())
    prune.random_unstructured(layer.synapse, name, 0.5)
    mask = getattr(layer.synapse, f"{name}_mask")
    plain = copy.deepcopy(_permanent(layer))
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    x = sequence()
    for _ in range(2):  # the weights that learn are not those that take part
        optimizer.zero_grad()
        plain.zero_grad()
        out, expected = layer(x), plain(x)
        assert torch.equal(out, expected)
        reward = torch.rand_like(out)
        propagate(out, reward)
        propagate(expected, reward)
        learned = getattr(layer.synapse, f"{name}_orig")
        assert torch.equal(learned.grad, getattr(plain.synapse, name).grad * mask)
        optimizer.step()
        plain = copy.deepcopy(_permanent(layer))
    assert not (getattr(layer.synapse, name)[mask == 0]).any()


def _permanent(layer: Any) -> Any:
    read_synapse(layer.synapse)
    made = copy.deepcopy(layer)
    made.synapse = plain_synapse(layer.synapse, "")
    return made


def test_pruned_digits_stay_pruned_through_training_and_export() -> None:
    torch.manual_seed(0)
    network = mlp(in_shape=(1, 8, 8), classes=4, hidden=(30,), gain=2.0)
    for layer in (network[1], network[2]):
        prune.l1_unstructured(layer.synapse, "weight", 0.6)
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 4
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        spikes = network(constant(images, 8))
        propagate(spikes, spike_count_reward(spikes, labels) / 8)
        optimizer.step()
    integers, report = quantize(network, (images * 255).byte(), labels, 8, list("abcd"))
    for layer, trained in zip(integers.spiking, (network[1], network[2]), strict=True):
        mask = trained.synapse.weight_mask.numpy()
        assert not layer.weight[mask == 0].any()
        assert layer.weight[mask == 1].any()
    assert all(line.disagreement < 0.1 for line in report.layers)
    assert simulate(integers, (images * 255).byte().numpy()).counts.any()


def test_composites_follow_pruned_layers_by_their_names() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.l1_unstructured(model[2], "bias", 0.4)
    plain = copy.deepcopy(nn.Sequential(plain_synapse(model[0], ""), nn.ReLU(), plain_synapse(model[2], "")))
    x, reward = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    for each in (model, plain):
        with Composite(names={"0": ZPlusZMinus()}).applied(each):
            out = each(x)
        propagate(out, reward)
    assert torch.equal(model[0].weight_orig.grad, plain[0].weight.grad * model[0].weight_mask)
    assert torch.equal(model[0].bias.grad, plain[0].bias.grad)
    assert torch.equal(model[2].bias_orig.grad, plain[2].bias.grad * model[2].bias_mask)


def test_masks_by_other_means_are_refused_by_composites_as_before() -> None:
    class Mask(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * 0.5 + 1

    model = nn.Sequential(nn.Linear(4, 3))
    parametrize.register_parametrization(model[0], "weight", Mask())
    with pytest.raises(UsageError, match="computes its weight or bias"), Composite().applied(model):
        model(torch.rand(2, 4))


# ---------------------------------------------------------------- lazy


@pytest.mark.parametrize("kind", [LIF, CubaLIF, Affine, RecurrentLIF])
def test_lazy_synapses_take_their_size_from_the_first_inputs(kind: Callable[..., Any]) -> None:
    layer = kind(nn.LazyLinear(4))
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    x = torch.rand(5, 2, 3)
    out = layer(x)
    assert type(layer.synapse) is nn.Linear
    assert layer.synapse.in_features == 3
    before = layer.synapse.weight.detach().clone()
    propagate(out, torch.ones_like(out))
    optimizer.step()
    assert not torch.equal(before, layer.synapse.weight)
    with pytest.raises(UsageError, match="expected samples of 3 features"):
        layer(torch.rand(5, 2, 4))


def test_lazy_convolutions_learn_and_load() -> None:
    network = nn.Sequential(LIF(nn.LazyConv2d(4, 3), threshold=0.2), Flatten(), LIF(nn.LazyLinear(3), threshold=0.2))
    x = torch.rand(5, 2, 2, 5, 5)
    spikes = network(x)
    propagate(spikes, torch.ones_like(spikes))
    other = nn.Sequential(LIF(nn.LazyConv2d(4, 3), threshold=0.2), Flatten(), LIF(nn.LazyLinear(3), threshold=0.2))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), spikes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lazy_synapses_without_a_size_are_refused_where_one_is_needed() -> None:
    with pytest.raises(UsageError, match="LazyLinear has no size yet: run its layer once"):
        FeedforwardNet([nn.LazyLinear(3)])
    network = nn.Sequential(LIF(nn.LazyLinear(3), reset="zero"))
    with pytest.raises(ExportError, match="layer 0: the synapse LazyLinear has no size yet"):
        to_norse(network)


# ---------------------------------------------------------------- exported


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["forward of one", "forward hook", "weight norm", "adapter"])
def test_exports_refuse_what_would_happen_in_a_call(kind: str) -> None:
    make, message = REFUSED[kind]
    network = nn.Sequential(LIF(nn.Linear(INPUTS, 4), reset="zero"))
    name_layers(network)
    network[0].synapse = make()
    exports: list[Callable[[], object]] = [
        lambda: to_snntorch(network),
        lambda: to_norse(network),
        lambda: quantize(network, torch.zeros(2, INPUTS, dtype=torch.uint8), torch.zeros(2).long(), 4, list("abcd")),
    ]
    for export in exports:
        with pytest.raises(ExportError, match=f"^layer 0: .*{message}"):
            export()


def test_integer_networks_refuse_layers_with_hooks_and_forward_passes_of_their_own() -> None:
    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(1 - x)

    class Spread(Flatten):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).flip(-1)

    def export(network: nn.Module) -> None:
        quantize(network, torch.zeros(2, 1, 1, 6, dtype=torch.uint8), torch.zeros(2).long(), 4, list("abcd"))

    def layers() -> list[nn.Module]:
        return [Flatten(), LIF(nn.Linear(6, 4))]

    hooked = nn.Sequential(*layers())
    hooked[1].register_forward_hook(lambda module, x, out: 1 - out)
    with pytest.raises(ExportError, match="layer 1: has forward hooks"):
        export(hooked)
    with pytest.raises(ExportError, match="layer 0: takes a tensor that code between layers has made"):
        export(Own(*layers()))
    with pytest.raises(ExportError, match="layer 0: Spread has a forward pass of its own"):
        export(nn.Sequential(Spread(), LIF(nn.Linear(6, 4))))


def test_functional_calls_run_on_the_tensors_they_are_given() -> None:
    network = lenet(channels=(2,), hidden=(), in_shape=(1, 8, 8), classes=3, kernel=3, threshold=0.2)
    x = torch.rand(4, 2, 1, 8, 8)
    doubled = {name: 2 * parameter.detach() for name, parameter in network.named_parameters()}
    found = torch.func.functional_call(network, doubled, (x,))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    assert torch.equal(found, network(x))
