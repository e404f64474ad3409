"""Runs the examples of docstrings."""

import doctest
import sys
from typing import Any

import torch
from torch import nn

import spiking_lfp


def run_examples(thing: Any) -> int:
    """Run the examples of a module, class or function; return how many there are.

    They see torch, nn, and every public name.
    """
    public = {name: getattr(spiking_lfp, name) for name in spiking_lfp.__all__}
    module = thing if hasattr(thing, "__path__") or not hasattr(thing, "__module__") else sys.modules[thing.__module__]
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(thing, module=module, globs={"torch": torch, "nn": nn, **public}):
        runner.run(test)
    assert runner.failures == 0
    return runner.tries
