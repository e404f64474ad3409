"""Folded models compute what they computed, wherever their layers run, or are refused by name."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import spiking_lfp as lfp
from spiking_lfp import UsageError, fold_batch_norm
from spiking_lfp.nn.folding import Folded


class Model(nn.Module):
    """Layers by name, and a forward pass that uses them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def seen(norm: nn.Module) -> nn.Module:
    """A normalisation that has seen data and learned."""
    with torch.no_grad():
        for value in (norm.running_mean, norm.weight, norm.bias):
            if value is not None:
                value.normal_(0.3, 1)
        norm.running_var.uniform_(0.2, 3)
    return norm


def conv(**arguments: Any) -> nn.Conv2d:
    return nn.Conv2d(2, 2, 3, padding=1, **arguments)


def norm(features: int = 2) -> nn.Module:
    return seen(nn.BatchNorm2d(features))


FOLDED: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Sequential(nn.Linear(4, 3), seen(nn.BatchNorm1d(3))), (5, 4)),
    "signal": (nn.Sequential(nn.Conv1d(2, 4, 3, groups=2), seen(nn.BatchNorm1d(4))), (5, 2, 6)),
    "volume": (nn.Sequential(nn.Conv3d(1, 2, 2, bias=False), seen(nn.BatchNorm3d(2))), (5, 1, 3, 3, 3)),
    "without affine": (nn.Sequential(conv(), seen(nn.BatchNorm2d(2, affine=False))), (5, 2, 4, 4)),
    "without shift": (nn.Sequential(conv(), seen(nn.BatchNorm2d(2, bias=False))), (5, 2, 4, 4)),
    "across processes": (nn.Sequential(conv(), seen(nn.SyncBatchNorm(2))), (5, 2, 4, 4)),
    "by the threshold": (nn.Sequential(conv(), seen(lfp.ThresholdBatchNorm(2))), (5, 2, 4, 4)),
    "padded otherwise": (nn.Sequential(conv(padding_mode="circular"), norm()), (5, 2, 4, 4)),
    **{
        f"transposed along {axes} in groups of {groups}": (
            nn.Sequential(kind(4, 6, 3, stride=2, groups=groups), seen(after(6))),
            (5, 4, *[3] * axes),
        )
        for axes, kind, after in (
            (1, nn.ConvTranspose1d, nn.BatchNorm1d),
            (2, nn.ConvTranspose2d, nn.BatchNorm2d),
            (3, nn.ConvTranspose3d, nn.BatchNorm3d),
        )
        for groups in (1, 2)
    },
    "always one after the other": (Model(lambda m, x: m.b(m.c(m.b(m.c(x)))), c=conv(), b=norm()), (5, 2, 4, 4)),
    "and beside": (Model(lambda m, x: m.b(m.c(x)) + m.b(m.c(-x)), c=conv(), b=norm()), (5, 2, 4, 4)),
    "of a block twice": (
        Model(lambda m, x: m.block(m.block(x)), block=nn.Sequential(conv(), norm(), nn.ReLU())),
        (5, 2, 4, 4),
    ),
    "not all layers": (Model(lambda m, x: m.d(m.b(m.c(x))) + m.d(x), c=conv(), d=conv(), b=norm()), (5, 2, 4, 4)),
}
SHARED = conv()
FOLDED["under two names"] = (
    Model(lambda m, x: m.b(m.a(x)) + m.d(m.c(x)), a=SHARED, c=SHARED, b=(both := norm()), d=both),
    (5, 2, 4, 4),
)


@pytest.mark.parametrize("kind", FOLDED)
def test_folded_models_compute_the_same(kind: str) -> None:
    model, shape = FOLDED[kind]
    model = copy.deepcopy(model).double()
    x = torch.randn(*shape, dtype=torch.float64)
    model.eval()
    expected = model(x)
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model.train())
    torch.testing.assert_close(folded(x), expected, rtol=1e-9, atol=1e-9)
    assert not [each for each in folded.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def test_frozen_layers_stay_frozen_and_others_learn() -> None:
    model = nn.Sequential(frozen(conv()), frozen(norm()), frozen(conv()), norm(), conv(bias=False), frozen(norm()))
    found = [parameter.requires_grad for parameter in fold_batch_norm(model).parameters()]
    assert found == [False, False, True, True, True, False]


class Doubling(nn.Conv2d):
    """A subclass that does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda *_: None)
    return module


def tied(first: nn.Module, second: nn.Module) -> nn.Module:
    second.weight = first.weight
    return second


PLACE = "c is also used where {} does not follow it, so {} cannot be folded: give each place layers of its own"
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two normalisations": (
        lambda: Model(lambda m, x: m.b(m.c(x)) + m.d(m.c(x)), c=conv(), b=norm(), d=norm()),
        PLACE.format("b", "b"),
    ),
    "once without": (lambda: Model(lambda m, x: m.c(x) + m.b(m.c(x)), c=conv(), b=norm()), PLACE.format("b", "b")),
    "its output twice": (
        lambda: Model(lambda m, x: (lambda z: z + m.b(z))(m.c(x)), c=conv(), b=norm()),
        PLACE.format("b", "b"),
    ),
    "after itself": (lambda: Model(lambda m, x: m.b(m.c(m.c(x))), c=conv(), b=norm()), PLACE.format("b", "b")),
    "before and after": (lambda: Model(lambda m, x: m.c(m.b(m.c(x))), c=conv(), b=norm()), PLACE.format("b", "b")),
    "behind two layers": (
        lambda: Model(lambda m, x: m.b(m.c(x)) + m.b(m.d(x)), c=conv(), d=conv(), b=norm()),
        "b does not follow a linear layer or convolution: it cannot be folded",
    ),
    "behind an input": (
        lambda: Model(lambda m, x: m.b(m.c(x)) + m.b(x), c=conv(), b=norm()),
        "b does not follow a linear layer or convolution: it cannot be folded",
    ),
    "twice": (lambda: nn.Sequential(conv(), norm(), norm()), "2 does not follow a linear layer or convolution"),
    "a subclass": (
        lambda: nn.Sequential(Doubling(2, 2, 3), norm()), "1 does not follow a linear layer or convolution",
    ),
    "a weight in the model's code": (
        lambda: Model(lambda m, x: F.conv2d(m.b(m.c(x)), m.c.weight), c=conv(), b=norm()),
        "parameters of c are used elsewhere too: b cannot be folded",
    ),
    "a weight of two layers": (
        lambda: nn.Sequential(first := conv(), norm(), tied(first, conv())),
        "parameters of 0 are used elsewhere too: 1 cannot be folded",
    ),
    "a function": (
        lambda: Model(lambda m, x: m.b(m.c(F.batch_norm(x, m.b.running_mean, m.b.running_var))), c=conv(), b=norm()),
        "batch_norm is batch normalisation by a function, not a module: it cannot be folded",
    ),
    "hooks of the model": (
        lambda: hooked(nn.Sequential(conv(), norm())),
        "Sequential has hooks, which its traced copy would not run: remove them",
    ),
    "hooks": (lambda: nn.Sequential(hooked(conv()), norm()), "0 has hooks or a parametrization: 1 cannot be folded"),
    "hooks of the normalisation": (lambda: nn.Sequential(conv(), hooked(norm())), "1 has hooks or a parametrization"),
    "a parametrization": (
        lambda: nn.Sequential(parametrizations.weight_norm(conv()), norm()),
        "0 has hooks or a parametrization: 1 cannot be folded; remove them",
    ),
    "no statistics": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(2, track_running_stats=False)),
        "1 cannot be folded into 0: BatchNorm2d keeps no running statistics, by which it would be folded: use "
        "track_running_stats=True",
    ),
    "another size": (lambda: nn.Sequential(conv(), norm(3)), "1 cannot be folded into 0: norm has 3 features, but"),
    "other axes": (
        lambda: nn.Sequential(conv(), seen(nn.BatchNorm1d(2))), "1 is a BatchNorm1d, which does not take what 0 gives",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_folded_is_refused_in_one_sentence(kind: str) -> None:
    build, message = REFUSED[kind]
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        fold_batch_norm(build())


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 3), seen(nn.BatchNorm1d(3))), (2, 3, 4)),
        (nn.Sequential(nn.Linear(4, 3), seen(lfp.ThresholdBatchNorm(3))), (2, 3, 4)),
        (nn.Sequential(nn.Conv1d(2, 3, 1), seen(nn.BatchNorm1d(3))), (2, 3)),
    ],
)
def test_inputs_whose_other_axis_was_normalised_are_refused_when_they_come(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    """torch normalises the second axis, whatever the layer before made of it."""
    x = torch.randn(*shape)
    model(x)
    with pytest.raises(UsageError, match=r"^1 was folded into outputs of . axes, found \[.*of the outputs$"):
        fold_batch_norm(model)(x)


def test_folded_models_fold_again_and_copy() -> None:
    model, x = FOLDED["of a block twice"][0].eval(), torch.randn(5, 2, 4, 4)
    folded = fold_batch_norm(model)
    assert [each for each in folded.modules() if isinstance(each, Folded)]
    for again in (fold_batch_norm(folded), copy.deepcopy(folded)):
        assert torch.equal(again(x), folded(x))
