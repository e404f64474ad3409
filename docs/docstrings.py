"""How the site reads docstrings: `Example:` in them is a section of code that runs, not a box."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives the section the name by which griffe knows it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
