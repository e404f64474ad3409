"""A browser without a screen, for tests of pages."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def chromium(folder: Path, *arguments: str, budget: int | None = 3000) -> str:
    """Run a browser without a screen and return what it prints.

    `budget` are milliseconds that the page takes to be for itself; None lets it run until it has loaded everything, in
    true time, which decoders and compilers of the browser need.
    """
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    if budget is not None:
        command.insert(1, f"--virtual-time-budget={budget}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
