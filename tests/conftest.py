"""Settings for every test: reproducible, one thread, no deadlines, a fixed order of examples in CI; several workers."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import pytest
import torch
from filelock import FileLock
from numba.core.caching import IndexDataCacheFile

from helpers.forks import TRAINING, Forks
from helpers.processes import ENVIRONMENT
from spiking_lfp import __file__ as package

# annotations of shapes are checked at run time, in the modules that have some: in all, it takes two fifths of the time
SHAPED = [path for path in Path(package).parent.rglob("*.py") if "\nfrom jaxtyping import" in path.read_text()]
NAMES = [".".join(path.relative_to(Path(package).parents[1]).with_suffix("").parts) for path in SHAPED]
assert not sys.modules.keys() & {*NAMES}
jaxtyping.install_import_hook(NAMES, "beartype.beartype")

# modules that take longest, which begin first so that all workers end together
LONGEST = ("test_training_distributed", "test_package", "test_examples")

hypothesis.settings.register_profile("local", deadline=None, database=None)
hypothesis.settings.register_profile("ci", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # so have processes that tests start: two workers keep two cores busy


def one_process_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """Lock numba's cache: it keeps an index and data, and of two processes at once one loses what it compiled."""

    def call(self: Any, *arguments: Any) -> Any:
        with FileLock(f"{self._index_path}.lock"):
            return method(self, *arguments)

    return call


for each in ("load", "save"):
    setattr(IndexDataCacheFile, each, one_process_at_a_time(getattr(IndexDataCacheFile, each)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Runs code in processes of their own that need not load torch; warnings are errors there."""
    process = Forks([sys.executable, "-W", "error"], TRAINING, ENVIRONMENT)
    yield process
    process.end()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn the annotations' checks at run time off, as they are for users: the package has to notice by itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
