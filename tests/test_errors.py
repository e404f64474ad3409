"""What cannot work is refused: with the right class, in one sentence, naming the layer."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    AdaptiveLIF,
    Affine,
    AvgPool2d,
    AvgPool3d,
    CubaLIF,
    DataError,
    Dropout,
    Epsilon,
    Flatten,
    MaxPool1d,
    MaxPool2d,
    NonFiniteError,
    RecurrentLIF,
    RunError,
    SpikingLFPError,
    SumPool2d,
    UsageError,
    add,
    logit_reward,
    name_layers,
    propagate,
    run_in_integers,
)
from spiking_lfp.errors import unknown_name

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture
def network() -> nn.Sequential:
    network = nn.Sequential(
        LIF(nn.Conv2d(2, 3, 3)), MaxPool2d(2), Flatten(), LIF(nn.Linear(12, 4)), Affine(nn.Linear(4, 2))
    )
    name_layers(network)
    return network


def raised(kind: type[SpikingLFPError], action: Callable[[], object], *words: str) -> str:
    """Return the message of the error: a single sentence that holds all `words`."""
    with pytest.raises(kind) as caught:
        action()
    assert caught.type is kind
    message = str(caught.value)
    assert "\n" not in message
    assert not re.search(r"\.\s", message)
    assert [word for word in words if word not in message] == []
    return message


# ---------------------------------------------------------------- shapes, types, devices


@pytest.mark.parametrize(
    ("layer", "shape", "found"),
    [
        (0, (5, 3, 2, 6), "[2, 6]"),  # no channels
        (0, (5, 3, 4, 6, 6), "[4, 6, 6]"),  # wrong channels
        (0, (5, 3, 2, 2, 6), "[2, 2, 6]"),  # lower than the kernel
        (0, (5, 3, 2, 6, 2), "[2, 6, 2]"),  # narrower than the kernel
        (0, (5, 3, 1, 2, 6, 6), "[1, 2, 6, 6]"),  # one axis too many
        (3, (5, 3, 11), "[11]"),
        (3, (5, 3, 3, 4), "[3, 4]"),  # not flattened
        (4, (5, 3, 5), "[5]"),
    ],
)
def test_samples_of_another_shape(network: nn.Sequential, layer: int, shape: tuple[int, ...], found: str) -> None:
    raised(UsageError, lambda: network[layer](torch.zeros(shape)), f"layer {layer}", "[T, B, ...]", f"found {found}")


@pytest.mark.parametrize(("height", "width", "fits"), [(3, 4, True), (2, 4, False), (3, 3, False)])
def test_samples_smaller_than_a_dilated_and_padded_kernel(height: int, width: int, fits: bool) -> None:
    """Taps 3 and 2 apart, one row and no column of padding: 5 rows less 2, 4 columns."""
    layer = LIF(nn.Conv2d(1, 1, (3, 2), dilation=(2, 3), padding=(1, 0)))
    x = torch.zeros(2, 1, 1, height, width)
    if fits:
        assert layer(x).shape == (2, 1, 1, 1, 1)
    else:
        raised(UsageError, lambda: layer(x), "[1, height >= 3, width >= 4]", f"found [1, {height}, {width}]")


@pytest.mark.parametrize("layer", [3, 4])
@pytest.mark.parametrize("kind", ["no steps", "no samples", "no time"])
def test_empty_sequences(network: nn.Sequential, layer: int, kind: str) -> None:
    inputs = network[layer].synapse.in_features
    shape = {"no steps": (0, 3, inputs), "no samples": (5, 0, inputs), "no time": (3, inputs)}[kind]
    raised(UsageError, lambda: network[layer](torch.zeros(shape)), f"layer {layer}", "one step", str(list(shape)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("layer", [3, 4])
def test_inputs_of_another_type(network: nn.Sequential, layer: int, dtype: torch.dtype) -> None:
    x = torch.zeros(5, 3, network[layer].synapse.in_features, dtype=dtype)
    raised(UsageError, lambda: network[layer](x), f"layer {layer}", str(dtype), "torch.float32", ".to()")


def test_inputs_on_another_device(network: nn.Sequential) -> None:
    x = torch.zeros(5, 3, 12, device="meta")
    raised(UsageError, lambda: network[3](x), "layer 3", "meta", "cpu", ".to()")


@pytest.mark.parametrize(
    "membrane", [torch.zeros(3, 5), torch.zeros(4, 4), torch.zeros(3, 2, 2), torch.zeros(3, 4).double()]
)
def test_a_membrane_that_does_not_fit(network: nn.Sequential, membrane: Tensor) -> None:
    """Too large ones only: had the kernel gone on with a smaller one, it would have read what is not its own."""
    raised(UsageError, lambda: network[3].run(torch.zeros(5, 3, 12), membrane), "layer 3", "membrane")


@pytest.mark.parametrize("pool", [MaxPool2d(3), AvgPool2d(3)])
@pytest.mark.parametrize("shape", [(4, 2, 3, 5), (4, 2, 1, 2, 5), (4, 2, 1, 5, 2), (1, 4, 2, 1, 5, 5)])
def test_pooling_of_what_is_no_image(pool: nn.Module, shape: tuple[int, ...]) -> None:
    raised(
        UsageError, lambda: pool(torch.zeros(shape)), repr(pool), "[T, B, C, height >= 3, width >= 3]", str([*shape])
    )


@pytest.mark.parametrize(
    ("pool", "shape", "expected"),
    [
        (MaxPool1d(3, padding=1), (2, 1, 1, 0), "[T, B, C, length >= 1]"),
        (SumPool2d((1, 4)), (2, 1, 1, 3, 3), "[T, B, C, height >= 1, width >= 4]"),
        (AvgPool3d(2), (2, 1, 1, 3, 3), "[T, B, C, depth >= 2, height >= 2, width >= 2]"),
    ],
)
def test_pooling_of_what_has_other_sides(pool: nn.Module, shape: tuple[int, ...], expected: str) -> None:
    raised(UsageError, lambda: pool(torch.zeros(shape)), f"expected {expected}", str([*shape]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((2, 2, 2),), "kernel_size of MaxPool2d must be an integer of at least 1, or 2 of them, found (2, 2, 2)"),
        ((2, (1, 0)), "stride of MaxPool2d"),
        ((2, 1, -1), "padding of MaxPool2d must be an integer of at least 0"),
        ((2.0,), "kernel_size"),
        (((2, 3), None, (2, 0)), "padding must be at most half of kernel_size, found (2, 0) and (2, 3)"),
    ],
)
def test_windows_that_cannot_be(arguments: Any, words: str) -> None:
    raised(UsageError, lambda: MaxPool2d(*arguments), words)


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(("kernel", "stride"), [(0, None), (-1, None), (2, 0), (2, -1)])
def test_windows_without_size(pool: type[nn.Module], kernel: int, stride: int | None) -> None:
    raised(UsageError, lambda: pool(kernel, stride), "at least 1")


def test_terms_of_different_shapes() -> None:
    raised(UsageError, lambda: add(torch.zeros(4, 2, 3), torch.zeros(4, 1, 3)), "[4, 2, 3]", "[4, 1, 3]")


# ---------------------------------------------------------------- constants


@pytest.mark.parametrize(
    "beta", [0.0, -0.5, 1.001, math.nan, math.inf, torch.tensor([0.5, 0.0]), torch.tensor([0.5, math.nan])]
)
def test_beta_out_of_range(beta: float | Tensor) -> None:
    raised(UsageError, lambda: LIF(nn.Linear(3, 2), beta=beta), "beta must be greater than 0 and at most 1")


@pytest.mark.parametrize("beta", ["0.9", None, [0.9, None], [[0.9], [0.8, 0.7]], 0.9j, object()])
def test_constants_that_are_no_numbers_are_refused_by_name(beta: Any) -> None:
    raised(UsageError, lambda: LIF(nn.Linear(3, 2), beta=beta), "beta must be a number or a tensor, found ")


@pytest.mark.parametrize(
    "threshold", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, 0.0]), torch.tensor([1.0, math.nan])]
)
def test_threshold_out_of_range(threshold: float | Tensor) -> None:
    raised(UsageError, lambda: LIF(nn.Linear(3, 2), threshold=threshold), "threshold must be finite and greater than 0")


def test_the_ends_of_the_ranges_are_in() -> None:
    LIF(nn.Linear(3, 2), beta=1.0, threshold=1e-6)


@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 4), (5, 4)])
@pytest.mark.parametrize("constant", ["beta", "threshold"])
def test_constants_that_do_not_fit_the_neurons(constant: str, shape: tuple[int, ...]) -> None:
    layer = LIF(nn.Linear(12, 4), **{constant: torch.full(shape, 0.5)})
    name_layers(nn.Sequential(layer))
    raised(UsageError, lambda: layer(torch.zeros(5, 3, 12)), "layer 0", constant, str(list(shape)))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_dropout_out_of_range(p: float) -> None:
    raised(UsageError, lambda: Dropout(p), "p must be at least 0 and less than 1")


@pytest.mark.parametrize("rule", ["epsilon", Epsilon, 1e-6, {}])
def test_rules_that_are_none_are_refused_where_a_layer_is_made(rule: Any) -> None:
    makers: list[Callable[[], object]] = [
        lambda: LIF(nn.Linear(2, 2), rule=rule), lambda: RecurrentLIF(nn.Linear(2, 2), nn.Linear(2, 2), rule=rule),
        lambda: CubaLIF(nn.Linear(2, 2), rule=rule), lambda: AdaptiveLIF(nn.Linear(2, 2), rule=rule),
        lambda: Affine(nn.Linear(2, 2), rule=rule), lambda: AvgPool2d(2, rule=rule),
        lambda: add(torch.ones(1, 2), torch.ones(1, 2), rule=rule),
    ]  # fmt: skip
    for make in makers:
        with pytest.raises(UsageError, match=r"^rule is .*, expected a rule such as Epsilon"):
            make()


def test_unknown_reset() -> None:
    raised(UsageError, lambda: LIF(nn.Linear(3, 2), reset="soft"), "subtract, zero, none", "'soft'")


# ---------------------------------------------------------------- synapses


@pytest.mark.parametrize("module", [nn.Identity(), nn.Bilinear(2, 2, 2), nn.Embedding(2, 2)])
@pytest.mark.parametrize("layer", [LIF, Affine])
def test_unsupported_synapses(layer: Callable[[nn.Module], nn.Module], module: nn.Module) -> None:
    raised(UsageError, lambda: layer(module), "nn.Linear or a convolution", "nn.Conv1d", type(module).__name__)


@pytest.mark.parametrize(
    ("synapse", "shape", "expected"),
    [
        (nn.Conv1d(2, 1, 5, padding=1), (2, 2), "[2, length >= 3]"),
        (nn.Conv1d(2, 1, 5), (2, 6, 6), "[2, length >= 5]"),
        (nn.Conv2d(1, 1, 3, padding=2, padding_mode="reflect"), (1, 2, 4), "[1, height >= 3, width >= 3]"),
        (nn.Conv3d(1, 1, (1, 2, 3)), (1, 4, 4, 2), "[1, depth >= 1, height >= 2, width >= 3]"),
        (nn.ConvTranspose1d(1, 1, 2, stride=3, padding=3), (1, 2), "[1, length >= 3]"),
    ],
)
def test_samples_that_do_not_fit_a_convolution(synapse: nn.Module, shape: tuple[int, ...], expected: str) -> None:
    raised(
        UsageError, lambda: LIF(synapse)(torch.zeros(2, 1, *shape)), f"expected samples of {expected}", str([*shape])
    )


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch tells of a copy
@pytest.mark.parametrize("length", range(1, 8))
@pytest.mark.parametrize(
    "synapse",
    [
        nn.Conv1d(1, 1, 3, padding=1, dilation=2),
        nn.Conv1d(1, 1, 4, padding="same"),
        *(nn.Conv1d(1, 1, 3, padding=3, padding_mode=mode) for mode in ("reflect", "replicate", "circular")),
        nn.ConvTranspose1d(1, 1, 2, stride=2, padding=3, output_padding=1),
        nn.ConvTranspose1d(1, 1, 3, stride=3, padding=4, dilation=2),
    ],
)
def test_samples_fit_where_torch_takes_them(synapse: nn.Module, length: int) -> None:
    x = torch.zeros(1, 1, length)
    try:
        synapse(x)
    except RuntimeError:
        raised(UsageError, lambda: LIF(synapse)(x[None]), "expected samples of", f"[1, {length}]")
    else:
        LIF(synapse)(x[None])


def test_transposed_convolutions_do_not_run_in_integers() -> None:
    layer = LIF(nn.ConvTranspose2d(2, 3, 2))
    run_in_integers(layer, 8, 1)
    raised(UsageError, lambda: layer(torch.ones(2, 1, 2, 3, 3)), "transposed convolutions do not run in integers")


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["first step", "last step", "weight", "bias"])
def test_membranes_that_are_not_finite(where: str, value: float, reset: str) -> None:
    layer = LIF(nn.Linear(2, 3), reset=reset)  # type: ignore[arg-type]
    layer.name = "the.layer"
    nn.init.constant_(layer.synapse.weight, 0.5)  # all of one sign: a reset to zero could hide an infinity
    x = torch.ones(4, 2, 2)
    with torch.no_grad():
        if where == "weight":
            layer.synapse.weight[1, 1] = value
        elif where == "bias":
            layer.synapse.bias[2] = value
        else:
            x[0 if where == "first step" else 3, 1, 0] = value
    raised(NonFiniteError, lambda: layer(x), "layer the.layer", "membrane", "NaN or infinity")


def test_an_initial_membrane_that_is_not_finite() -> None:
    layer = LIF(nn.Linear(2, 3))
    raised(NonFiniteError, lambda: layer.run(torch.ones(4, 2, 2), torch.full((2, 3), math.nan)), "membrane")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_membrane_that_is_not_finite_without_learning(network: nn.Sequential, value: float) -> None:
    with torch.no_grad():
        raised(NonFiniteError, lambda: network(torch.full((3, 1, 2, 6, 6), value)), "layer 0")


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pooling_hides_no_nan(dtype: torch.dtype, place: int) -> None:
    """Compiled or not, NaN reaches the next layer, which says so."""
    window = torch.tensor([1.0, 2.0, 0.0, 3.0], dtype=dtype)
    window[place] = math.nan
    assert MaxPool2d(2)(window.view(1, 1, 1, 2, 2)).isnan().all()


@pytest.mark.parametrize("layer", [LIF(nn.Linear(2, 3)), Affine(nn.Linear(2, 3)), LIF(nn.Linear(2, 3, bias=False))])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_feedback_that_is_not_finite(layer: LIF | Affine, value: float) -> None:
    layer.name = "the.layer"
    out = layer(torch.rand(4, 2, 2))
    feedback = torch.zeros_like(out)
    feedback[1, 1, 1] = value
    raised(NonFiniteError, lambda: out.backward(feedback), "layer the.layer", "feedback", "AdaptiveClip")


def test_feedback_that_grows_beyond_all_numbers_is_noticed_in_a_frozen_layer_too() -> None:
    layer = LIF(nn.Linear(2, 3), threshold=0.01).requires_grad_(False)
    layer.name = "the.layer"
    x = torch.rand(4, 2, 2, requires_grad=True)
    spikes = layer(x)
    raised(NonFiniteError, lambda: propagate(spikes, torch.full_like(spikes, 3e38)), "layer the.layer", "feedback")


def test_a_nan_in_analogue_outputs_is_stopped_at_the_door() -> None:
    out = Affine(nn.Linear(2, 3))(torch.full((1, 2, 2), math.nan))
    reward = logit_reward(out, torch.tensor([0, 1]))
    raised(NonFiniteError, lambda: propagate(out, reward), "the reward holds NaN")


# ---------------------------------------------------------------- the errors themselves


def test_errors_can_be_caught_by_what_they_mean_elsewhere() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(NonFiniteError, FloatingPointError)
    for kind in (UsageError, DataError, NonFiniteError, RunError):
        assert issubclass(kind, SpikingLFPError)
        assert (kind is UsageError) == issubclass(kind, UsageError)


KNOWN = ["mnist-mlp", "cifar10", "batch_size", "threshold", "rule", "gain", "seed", "channels", "image_size", "reset"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("mnist-mpl", "mnist-mlp"), ("MNIST-MLP", "mnist-mlp"), ("mnist", "mnist-mlp"), ("cifar", "cifar10"),
        ("batchsize", "batch_size"), ("batch-size", "batch_size"), ("treshold", "threshold"),
        ("rules", "rule"), ("gian", "gain"), ("Seed", "seed"), ("sed", "seed"),
    ],
)  # fmt: skip
def test_the_name_that_is_meant_is_suggested(typed: str, meant: str) -> None:
    assert str(unknown_name("word", typed, KNOWN)).startswith(f"unknown word {typed!r}: did you mean {meant!r}? known")


@pytest.mark.parametrize(
    "typed", ["banana", "train", "speech", "imagenet", "leraning", "elephant", "xyzzy", "x", "", "-", "Regen", 3, None]
)
def test_far_off_names_are_not_suggested(typed: object) -> None:
    assert str(unknown_name("word", typed, KNOWN)) == f"unknown word {typed!r}: known are {', '.join(sorted(KNOWN))}"
