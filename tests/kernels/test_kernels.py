"""What the kernels package does beside the LIF recursions."""

import subprocess
import sys

import pytest
import torch

from spiking_lfp.kernels.product import product


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (7, 5, 3), (130, 784, 65)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_equal_those_in_float64(
    rows: int, inputs: int, outputs: int, biased: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, inputs, generator=generator, dtype=dtype)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=dtype)
    bias = torch.randn(outputs, generator=generator, dtype=dtype) if biased else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    # rounding errors of a sum of as many terms, each of about 1
    tolerance = 8 * torch.finfo(dtype).eps * inputs**0.5 * 4
    assert (product(x, weight, bias).double() - exact).abs().max() < tolerance
    # a transposed view, as the update of the weights takes them
    assert (
        product(weight.T, x.new_ones(40, outputs)).double() - weight.double().sum(0)[:, None]
    ).abs().max() < tolerance
    # one of a part of a wider matrix
    wide = torch.cat([weight, weight], 1)[:, :inputs]
    assert torch.equal(product(wide.T, x.new_ones(40, outputs)), product(weight.T, x.new_ones(40, outputs)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps freed memory on demand")
def test_freed_memory_is_kept() -> None:
    script = """
import resource, torch
from spiking_lfp import reuse_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2_500_000), torch.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
assert reuse_freed_memory()
faults(), faults()  # until the heap is large enough for all
assert faults() < given_back / 10
"""
    subprocess.run([sys.executable, "-c", script], check=True)
