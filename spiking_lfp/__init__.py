"""Train spiking neural networks without surrogate gradients, by Layer-wise Feedback Propagation (LFP).

The public names are listed in `__init__.pyi`, one a line, and imported on first use, so that `import spiking_lfp` does
not wait for torch.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
_MODULE_OF = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_name("__init__.pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'spiking_lfp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
