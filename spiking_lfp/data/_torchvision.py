"""The one door to torchvision: slow to import, so only opened when data sets or models of its are asked for."""

import importlib
import sys
from types import ModuleType

import torch


def torchvision_datasets() -> ModuleType:
    """Return the module `torchvision.datasets`.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision cannot be imported for any other reason.
    """
    return _imported("torchvision.datasets")


def torchvision_models() -> ModuleType:
    """Return the module `torchvision.models`: those that classify; those that detect call what may only be declared.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision cannot be imported for any other reason.
    """
    return _imported("torchvision.models")


def _imported(module: str) -> ModuleType:
    """Import a module of torchvision, also where its operators do not load.

    PyPI's torchvision is built for CUDA; beside a CPU build of torch its compiled operators do not load, and
    `import torchvision` stops where it describes the first of them. Data sets and classifiers need none of them, so
    declaring the operators is enough. This is done only after the plain import has failed that way.
    """
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module(module)
