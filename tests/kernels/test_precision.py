"""Products less exact than float32, where they are asked for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from spiking_lfp import UsageError
from spiking_lfp.kernels.precision import Precision, products_in
from spiking_lfp.kernels.product import product

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


def test_torch_without_the_switches_trains_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", object())
    with products_in("highest"):
        pass
    with pytest.raises(UsageError, match=r"precision 'medium' needs torch 2\.9 or newer"), products_in("medium"):
        pass
