"""Random tensors and comparisons in float64."""

import torch
from torch import Tensor


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def assert_near(found: Tensor | None, expected: Tensor | None, tolerance: float = 1e-10) -> None:
    """Compare relative to the largest magnitude expected."""
    assert found is not None
    assert expected is not None
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())
