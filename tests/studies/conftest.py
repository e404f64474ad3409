"""Cases of a grid in this process, where what they come to is tested and not how they are run."""

import pytest

from spiking_lfp.studies import cases, process


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run cases here: a process for each would take seconds to load torch."""
    monkeypatch.setattr(cases, "run_in_process", lambda job, **_: ("", process.answer(job)))
