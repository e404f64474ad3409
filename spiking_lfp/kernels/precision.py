"""How exact the products of float32 are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from spiking_lfp.errors import UsageError

Precision = Literal["highest", "high", "medium"]
# what torch calls them on GPUs and on CPUs
_GPU = {"highest": "ieee", "high": "tf32", "medium": "tf32"}
_CPU = {"highest": "ieee", "high": "tf32", "medium": "bf16"}


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Let the processor round the factors of float32 products, those of convolutions too, inside the context.

    Sums are taken in float32, and spikes are 0 or 1 and exact in any case: what is rounded are weights, analogue inputs
    and feedback, and what convolutions on CPUs return. It concerns the whole process; what was set before is set again
    afterwards.

    Args:
        precision: "highest", all 24 bits; "high", TF32, 11 bits, on GPUs that have it; "medium", the same on GPUs and
            bfloat16, 8 bits, on CPUs that multiply it. A product that the processor does not have stays in float32.

    Raises:
        UsageError: if torch is too old for anything but its defaults.
    """
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        if precision != "highest":
            raise UsageError(f"precision {precision!r} needs torch 2.9 or newer, this is {torch.__version__}")
        yield
        return
    backends: Any = torch.backends  # which declares not all of them
    gpu = [backends.cuda.matmul, backends.cudnn.conv]
    cpu = [backends.mkldnn.matmul, backends.mkldnn.conv]
    before = [(product, product.fp32_precision) for product in (*gpu, *cpu)]
    try:
        for product in gpu:
            product.fp32_precision = _GPU[precision]
        for product in cpu:
            product.fp32_precision = _CPU[precision]
        yield
    finally:
        for product, value in before:
            product.fp32_precision = value


def convolves_in_bfloat16(x: Tensor) -> bool:
    """Tell whether `x` has to be bfloat16 to be convolved fast: oneDNN itself converts matrices only.

    That is inside `products_in("medium")`, where the processor multiplies bfloat16: elsewhere it would be slower.
    """
    switch = getattr(torch.backends.mkldnn, "conv", None)  # torch before 2.9 has none
    return (
        switch is not None
        and switch.fp32_precision == _CPU["medium"]
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and torch.cpu._is_avx512_bf16_supported()
    )
