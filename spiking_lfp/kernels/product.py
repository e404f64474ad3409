"""Dense products by the fastest library at hand."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

# multiplications that take less time than calling oneDNN, or than looking for zeros
SMALL = 2**20


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x W^T + b`, `[N, O]`, for `x` `[N, I]` and `weight` `[O, I]`, transposed views included.

    In float32 on CPU oneDNN does it, unless it is small: where torch's own choice is a library that leaves AVX-512
    unused on AMD processors, that is twice as fast.
    """
    if is_small(x, weight):
        return F.linear(x, weight, bias)
    if x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        out: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Keep products in the dtype of `x`, also inside `torch.autocast`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def is_small(x: Tensor, weight: Tensor) -> bool:
    """Tell whether the product of `x` `[N, I]` with `weight` `[O, I]` takes less time than a roundabout way to it."""
    return x.numel() * weight.shape[0] <= SMALL


def _dense(matrix: Tensor) -> Tensor:
    """Copy a transposed view of a wider matrix: oneDNN has no kernel for it, and takes one 500 times slower."""
    return matrix if matrix.stride(1) == 1 or matrix.T.is_contiguous() else matrix.contiguous()
