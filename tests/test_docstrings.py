"""Docstrings of the public names: each has an example, and all examples run."""

import ast
import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spiking_lfp

ROOT = Path(__file__).parents[1]
# packages with public names of their own
PACKAGES = ("spiking_lfp", "spiking_lfp.training", "spiking_lfp.data", "spiking_lfp.mono", "spiking_lfp.plots")


def names_in_texts() -> set[tuple[str, str]]:
    """Return the names, with their modules, that the README, the documentation and the examples import."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.py")]
    found = set()
    for text in texts:
        for line in re.findall(r"^from spiking_lfp[\w.]* import (?:\([^)]*\)|.+)", text.read_text(), re.MULTILINE):
            for node in ast.parse(line).body:
                if isinstance(node, ast.ImportFrom) and node.module:
                    found.update((node.module, alias.name) for alias in node.names)
    return found


def public_names() -> dict[str, Any]:
    """Return public classes and functions by name; constants and types have no docstrings."""
    names = {(package, name) for package in PACKAGES for name in import_module(package).__all__} | names_in_texts()
    things = {name: getattr(import_module(module), name) for module, name in sorted(names)}
    return {
        name: thing
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and thing.__module__.startswith("spiking_lfp.")
    }


PUBLIC = public_names()


def examples_of(thing: Any) -> list[doctest.DocTest]:
    """Return the examples of a class, its methods, or a function; they see torch, nn and all public names."""
    found = doctest.DocTestFinder().find(
        thing, thing.__name__, module=False, globs={"torch": torch, "nn": nn, **PUBLIC}
    )
    return [test for test in found if test.examples]


def test_it_finds_names_of_every_kind() -> None:
    assert {"LIF", "fit", "Meter", "subset", "fully_connected", "simulate", "quantize", "run_experiment"} <= set(PUBLIC)
    assert set(spiking_lfp.__all__) <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = examples_of(PUBLIC[name])
    assert any(test.name == PUBLIC[name].__name__ for test in tests), f"the docstring of {name} has no example"
    monkeypatch.chdir(tmp_path)  # for the files that examples write
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0, capsys.readouterr().out
