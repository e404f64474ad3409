"""What all tests of composites share."""

import importlib
import warnings
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def tracing() -> None:
    """Import what folds; torch warns of itself while it does, see the test of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torch.fx.experimental.optimization")


@pytest.fixture(autouse=True)
def no_mode_is_left() -> Iterator[None]:
    yield
    assert torch.overrides._get_current_function_mode() is None
