"""Products less exact than float32, where they are asked for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spiking_lfp import UsageError
from spiking_lfp.kernels.precision import Precision, convolves_in_bfloat16, products_in
from spiking_lfp.kernels.product import product
from spiking_lfp.lfp.synapses import synapse_of

CONV, MATMUL = torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul


def switches() -> list[str]:
    found = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, MATMUL, CONV)
    return [each.fp32_precision for each in found]


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("highest", ["ieee"] * 4), ("high", ["tf32"] * 4), ("medium", ["tf32", "tf32", "bf16", "bf16"])],
)
def test_settings_hold_inside_and_no_longer(precision: Precision, expected: list[str]) -> None:
    before, inside = switches(), []

    def fail() -> None:
        with products_in(precision):
            inside.extend(switches())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == expected
    assert switches() == before


@pytest.mark.parametrize("work", [product, F.conv2d])
def test_medium_rounds_factors_to_bfloat16_and_nothing_else(work: Callable[..., Any]) -> None:
    shapes = [(70, 784), (130, 784)] if work is product else [(6, 12, 14, 14), (64, 12, 5, 5)]
    x, weight = (torch.randn(shape) for shape in shapes)
    exact = work(x.double(), weight.double())
    rounded = work(x.bfloat16().double(), weight.bfloat16().double())
    scale = exact.norm()
    with products_in("highest"):
        assert (work(x, weight).double() - exact).norm() / scale < 1e-6
    with products_in("medium"):
        found = work(x, weight).double()
    if (found - exact).norm() / scale < 1e-6:
        pytest.skip("oneDNN multiplies float32 on this CPU: it rounds to bfloat16 only where that is faster")
    assert (found - rounded).norm() / scale < 1e-6
    assert 5e-4 < (found - exact).norm() / scale < 5e-3


@pytest.mark.parametrize(
    ("module", "sides"),
    [
        (nn.Conv2d(12, 40, 5), (14, 14)),
        (nn.Conv2d(25, 40, 3, padding=2), (2, 3)),  # small images: weights by windows
        (nn.Conv2d(25, 40, (3, 2), stride=(2, 1), padding=(1, 0)), (7, 6)),
        (nn.Conv2d(24, 40, 3, groups=4), (6, 6)),
        (nn.Conv2d(24, 40, 3, dilation=2), (7, 7)),
        (nn.Conv2d(12, 40, 3, padding=1, padding_mode="circular"), (4, 5)),
        (nn.ConvTranspose2d(12, 40, 3, stride=2), (4, 4)),
        (nn.Conv1d(12, 40, 3), (9,)),
        (nn.Conv3d(5, 40, 3), (4, 5, 6)),
    ],
    ids=str,
)
def test_medium_convolves_in_bfloat16_there_and_back(module: nn.Module, sides: tuple[int, ...]) -> None:
    layer: Any = module
    weight, bias = layer.weight.detach(), torch.randn(40)
    synapse = synapse_of(module, weight)
    x = torch.randn(2, 9, layer.in_channels, *sides).bfloat16().float()
    exact = synapse.current(x.double(), weight.double(), bias.double())
    q = torch.randn(exact.shape)
    back = synapse.adjoints(q.double(), x.double(), weight.double(), True, True)
    rounded = synapse.adjoints(q.bfloat16().double(), x.double(), weight.bfloat16().double(), True, True)
    with products_in("medium"):
        found = (synapse.current(x, weight, bias), *synapse.adjoints(q, x, weight, True, True))
        half = convolves_in_bfloat16(x)
    targets = (exact, *(rounded if half else back))
    for each, target in zip(found, targets, strict=True):
        assert each is not None
        assert target is not None
        assert each.dtype == torch.float32
        assert each.shape == target.shape
        # two roundings, that of the weights and that of the result, by up to 2^-9 each
        assert (each.double() - target).norm() / target.norm() < (4e-3 if half else 1e-6)


def test_torch_without_the_switches_trains_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", object())
    with products_in("highest"):
        pass
    with pytest.raises(UsageError, match=r"precision 'medium' needs torch 2\.9 or newer"), products_in("medium"):
        pass
