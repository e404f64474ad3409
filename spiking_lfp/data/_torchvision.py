"""Import of torchvision, which is slow and so done only when one of its data sets or models is needed."""

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
    return _import_torchvision("torchvision.datasets")


def torchvision_models() -> ModuleType:
    """Return the module `torchvision.models`; its classifiers work, its detectors may lack compiled operators.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision cannot be imported for any other reason.
    """
    return _import_torchvision("torchvision.models")


def _import_torchvision(module: str) -> ModuleType:
    """Import a module of torchvision, even if its compiled operators cannot be loaded.

    PyPI's torchvision is built for CUDA; with a CPU build of torch its compiled operators do not load, and
    `import torchvision` fails when it registers the first of them. Data sets and classifiers need none of them, so
    it is enough to declare the operators. This is done only after the plain import has failed that way.
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
