"""Settings for every test: reproducible, one thread, no deadlines, a fixed order of examples in CI."""

import os
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest
import torch

hypothesis.settings.register_profile("local", deadline=None, database=None)
hypothesis.settings.register_profile("ci", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn the annotations' checks at run time off, as they are for users: the package has to notice by itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
