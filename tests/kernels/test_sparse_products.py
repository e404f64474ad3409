"""Products that skip the zeros of images equal dense ones, whatever the shapes, and are taken only where they pay."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import spiking_lfp as lfp
from spiking_lfp.kernels.cpu import sparse
from spiking_lfp.kernels.cpu.spike_products import transpose_block

dtypes = st.sampled_from([torch.float32, torch.float64])


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 150), st.integers(1, 150), st.floats(0, 0.25), dtypes)
def test_products(seed: int, batch: int, inputs: int, outputs: int, rate: float, dtype: Any) -> None:
    torch.manual_seed(seed)
    x = torch.randn(batch * inputs, dtype=dtype)
    x[torch.randperm(len(x))[int(rate * len(x)) :]] = 0
    x = x.view(batch, inputs)
    weight, bias, q = (torch.randn(size, dtype=dtype) for size in ((outputs, inputs), outputs, (batch, outputs)))
    near = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    rows, columns = sparse.sparse_rows(x), sparse.sparse_columns(x)
    assert rows is not None
    assert columns is not None
    torch.testing.assert_close(sparse.product(rows, weight, bias), F.linear(x, weight, bias), **near)
    torch.testing.assert_close(sparse.product(rows, weight, None), F.linear(x, weight), **near)
    torch.testing.assert_close(sparse.correlate(q, columns), q.T @ x, **near)


def test_full_images_are_left_to_dense_products() -> None:
    x = torch.zeros(4, 100)
    x[:, :25] = 0.5
    assert sparse.sparse_rows(x) is not None
    assert sparse.sparse_columns(x) is not None
    x[0, 25] = float("nan")
    assert sparse.sparse_rows(x) is None
    assert sparse.sparse_columns(x) is None


@pytest.mark.parametrize("rows", [1, 16, 33])
@pytest.mark.parametrize("columns", [1, 8, 16, 40])
def test_blocks_are_transposed_where_they_lie(rows: int, columns: int) -> None:
    x, out = torch.randn(rows + 2, columns + 3), torch.zeros(columns + 1, rows + 4)
    transpose_block(x.numpy(), columns + 3 + 2, columns + 3, rows, columns, out.numpy(), rows + 4 + 1, rows + 4)
    expected = torch.zeros_like(out)
    expected[1:, 1 : rows + 1] = x[1 : rows + 1, 2 : columns + 2].T
    assert torch.equal(out, expected)


def test_a_layer_learns_the_same_from_dark_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(40, 400, dtype=torch.float64) * (torch.rand(40, 400) < 0.2)
    outcomes, used = [], []
    product = sparse.product
    monkeypatch.setattr(sparse, "product", lambda *arguments: used.append(True) or product(*arguments))
    for most in (0.25, -1.0):
        monkeypatch.setattr(sparse, "MOST_VALUES", most)
        torch.manual_seed(1)
        layer = lfp.LIF(nn.Linear(400, 70, dtype=torch.float64), threshold=0.2)
        spikes = layer(lfp.constant(images, 6))
        assert spikes.any()
        lfp.propagate(spikes, torch.ones_like(spikes))
        outcomes.append((spikes.detach(), *(parameter.grad for parameter in layer.parameters())))
    assert len(used) == 1
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
