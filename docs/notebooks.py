"""The tutorials: Python files in jupytext's percent format, run as notebooks whenever the site is built (`make docs`).

Each becomes a page with what its cells printed and drew, and a notebook to download. Nothing of it is checked in. What
a cell writes to standard error, warnings above all, is a warning of the build; a cell that fails ends it.
"""

import base64
import copy
import logging
import re
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

FOLDER = Path(__file__).parent / "tutorials"
PICTURES = {"image/png": "png", "image/gif": "gif"}
# neither a cell nor the start of Python takes nearly as long, so one that does hangs
TIMEOUT_S = 600
LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
log = logging.getLogger("mkdocs.hooks.notebooks")


def on_files(files: "Files", config: "MkDocsConfig") -> None:
    """Add a page, its pictures and a notebook for every tutorial."""
    from mkdocs.structure.files import File

    for path in sorted(FOLDER.glob("*.py")):
        notebook, seconds = executed(path.name, path.read_text())
        text, pictures = page(path.stem, notebook, seconds)
        made: dict[str, Any] = {f"{path.stem}.md": text, f"{path.stem}.ipynb": download(notebook), **pictures}
        for name, content in made.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))


@cache
def executed(name: str, source: str) -> tuple[Any, float]:
    """Run a tutorial in a folder of its own, and return the notebook with its outputs, and how many seconds it took."""
    import jupytext
    import nbclient
    from mkdocs.exceptions import PluginError
    from traitlets.config import Config

    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    started = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            startup_timeout=TIMEOUT_S,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            # else the kernel warns that others could listen
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
        try:
            client.execute()
        except nbclient.exceptions.CellExecutionError as error:
            raise PluginError(f"docs/tutorials/{name} fails:\n{COLOUR.sub('', str(error))}") from None
    return notebook, perf_counter() - started


def page(name: str, notebook: Any, seconds: float) -> tuple[str, dict[str, bytes]]:
    """Return the text of a tutorial's page, and its pictures by file."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            parts.append(shown(name, cell, output, pictures))
    offer = (
        f"[Download the notebook]({name}.ipynb){{ .md-button .md-button--primary download }}\n\n"
        f"All cells ran in {seconds:.0f} seconds, on the machine that built this page."
    )
    parts.insert(1, offer)
    return "\n\n".join(parts) + "\n", pictures


def shown(name: str, cell: Any, output: Any, pictures: dict[str, bytes]) -> str:
    """Return an output of a cell as Markdown, and add the picture that it shows."""
    if output.output_type == "stream":
        if output.name == "stderr":
            log.warning("docs/tutorials/%s.py writes to standard error: %s", name, output.text)
        return as_text(output.text)
    for kind, ending in PICTURES.items():
        if kind in output.data:
            if "alt" not in cell.metadata:
                log.warning('docs/tutorials/%s.py draws a picture without alt="...":\n%s', name, cell.source)
            picture = f"{name}-{len(pictures) + 1}.{ending}"
            pictures[picture] = base64.b64decode(output.data[kind])
            return f"![{cell.metadata.get('alt', '')}]({picture})"
    return as_text(output.data["text/plain"])


def as_text(output: str) -> str:
    """Return what a cell printed as a block that looks unlike code."""
    lines = output.strip("\n")
    return f"~~~~~ {{ .text .no-copy .output }}\n{lines}\n~~~~~"


def download(notebook: Any) -> str:
    """Return a notebook as a file; the site's pages are not beside it, so links to them become text."""
    import nbformat

    alone = copy.deepcopy(notebook)
    for cell in alone.cells:
        if cell.cell_type == "markdown":
            cell.source = LOCAL_LINK.sub(r"\1", cell.source)
    return nbformat.writes(alone) + "\n"
