"""The pages of the site that are written elsewhere: MkDocs calls these functions when it builds (`make docs`).

Settings, presets and public names come from the code, README, CHANGELOG and the like from where they are, and files of
the repository that pages link to become pages themselves, so that the site needs no other address.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# pages of the site, and the files that they show
SHOWN = {
    "index.md": "README.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "c_and_verilog.md": "hardware/README.md",
    "branch_prediction.md": "examples/branch_prediction/README.md",
}
LANGUAGES = {".py": "python", ".c": "c", ".v": "verilog", ".toml": "toml", ".sbatch": "bash", ".sh": "bash"}
# the second part of a public name's module, and what the page is called
API = {
    "nn": "Layers and networks",
    "lfp": "Rewards",
    "rules": "Rules",
    "mono": "Mono-nets",
    "training": "Training and runs",
    "data": "Data",
    "events": "Events",
    "deploy": "Hardware",
    "kernels": "Memory",
    "checks": "Checks",
    "errors": "Errors",
}
# a docstring alone, where a page shows one among its own text
DOCSTRING_ALONE = """
    options:
      show_root_heading: false
      show_root_toc_entry: false
      show_bases: false
      show_signature: false
      show_symbol_type_heading: false
      members: false
"""
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: "Files", config: "MkDocsConfig") -> None:
    """Add the pages that are no files below docs."""
    from mkdocs.structure.files import File

    pages = {page: (ROOT / source).read_text() for page, source in SHOWN.items()}
    pages |= {"settings.md": settings(), "presets.md": presets(), **api()}
    written = {file.src_uri: file.content_string for file in files if file.src_uri.endswith(".md")}
    left = {**written, **pages}
    while left:
        page, text = left.popitem()
        for target in targets(page, text):
            if target in written or target in pages or not target.startswith("files/"):
                continue
            pages[target] = left[target] = file_page(target)
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))


def on_page_markdown(markdown: str, *, page: "Page", **_: Any) -> str:
    """Let links to files of the repository lead to their pages."""
    at = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        target = shown_at(at, link[1])
        return link[0] if target is None else f"]({relpath(target, dirname(at) or '.')}{link[2] or ''})"

    if not at.startswith("api/"):
        markdown = re.sub(r"^(::: \S+)$", rf"\1{DOCSTRING_ALONE}", markdown, flags=re.MULTILINE)
    return LINK.sub(led, markdown)


def targets(page: str, text: str) -> Iterator[str]:
    """Yield the pages to which a page links."""
    for link in LINK.finditer(text):
        target = shown_at(page, link[1])
        if target is not None:
            yield target


def shown_at(page: str, link: str) -> str | None:
    """Return the file of the site to which a link leads; None for other addresses and what does not exist."""
    if "://" in link or link.startswith("mailto:"):
        return None
    path = normpath(f"{dirname(source_of(page))}/{link}").removeprefix("/")
    if path.startswith("docs/"):
        # a tutorial is a notebook in a Python file, see notebooks.py
        return re.sub(r"^(tutorials/.*)\.py$", r"\1.md", path.removeprefix("docs/"))
    if not (ROOT / path).exists() or path.startswith(".."):
        return None
    if (ROOT / path / "README.md").is_file():
        path = f"{path}/README.md"
    for shown, source in SHOWN.items():
        if source == path:
            return shown
    return f"files/{path}.md"


def source_of(page: str) -> str:
    """Return the file of the repository whose text a page shows."""
    if page.startswith("files/"):
        return page.removeprefix("files/").removesuffix(".md")
    return SHOWN.get(page, f"docs/{page}")


def file_page(page: str) -> str:
    """Return the page that shows a file, or lists a folder."""
    source = source_of(page)
    path = ROOT / source
    head = f"---\ntitle: {source}\nsearch:\n  exclude: true\n---\n\n"
    if path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("__"))
        # a link is resolved from the folder that this page is about
        lines = [f"- [{each.name}]({path.name}/{each.name}){_title(each)}" for each in inside]
        return f"{head}# {source}\n\n" + "\n".join(lines) + "\n"
    if path.suffix == ".md":
        return f"{head}{path.read_text()}"
    language = LANGUAGES.get(path.suffix, "text")
    return f"{head}# {source}\n\n~~~~~{language}\n{path.read_text()}~~~~~\n"


def _title(path: Path) -> str:
    found = re.match(r'"""(.+?)(?:"""|\n)', path.read_text()) if path.suffix == ".py" else None
    return f": {found[1]}" if found else ""


def settings() -> str:
    """Return the page of all settings, from `training.config`."""
    from spiking_lfp.training.config import GROUPS, checked_config

    values = checked_config({}).model_dump(mode="json")
    parts = [
        "# All settings\n\n`--set KEY=VALUE` on the command line, a keyword of `fit`, a line of `config.toml`. Which "
        "of them a preset changes is in [the presets](presets.md). A run is determined by its settings."
    ]
    for group, kind in GROUPS.items():
        rows = [
            f"| `{name}` | {_cell(shown(values[name]))} | {_cell(limits(field))} | {_cell(field.description or '')} |"
            for name, field in kind.model_fields.items()
        ]
        parts.append(
            f"## {group}\n\n{(kind.__doc__ or '').strip()}\n\n| setting | default | values | meaning |\n"
            "|---|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def shown(value: object) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value) if value != "" else "empty"


def limits(field: Any) -> str:
    """Return the type of a setting, and what its validators accept."""
    kind, choices = field.annotation, list(_literals(field.annotation))
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    words = {int: "integer", float: "number", str: "text", bool: "true or false"}.get(kind, "")
    found = []
    for limit in field.metadata:
        if names := getattr(getattr(limit, "func", None), "names", None):
            return ", ".join(f"`{name}`" for name in names)
        for sign, words_of in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if hasattr(limit, sign):
                value = getattr(limit, sign)
                found.append(f"{words_of} {value:g}" if value > 1e5 else f"{words_of} {value:,}")
        if getattr(limit, "pattern", None):
            found.append(f"`{limit.pattern}`")
    if not words:
        words = "integers, `100,50`" if "int" in str(kind) else "numbers, `1,2.5`" if "float" in str(kind) else "names"
    return " ".join([words, ", ".join(found)]).strip()


def _literals(kind: Any) -> Iterator[str]:
    for part in get_args(kind):
        if isinstance(part, str):
            yield part
        else:
            yield from _literals(part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def presets() -> str:
    """Return the page of the presets."""
    from spiking_lfp.training.config import preset_names, preset_text, preset_title

    parts = ["# Presets\n\n`spiking-lfp train NAME`; `spiking-lfp presets NAME` shows all settings of one."]
    parts += [f"## {name}\n\n{preset_title(name)}\n\n```toml\n{preset_text(name)}```" for name in preset_names()]
    return "\n\n".join(parts) + "\n"


def api() -> dict[str, str]:
    """Return the pages of the public names, from the list of `spiking_lfp/__init__.pyi`."""
    names: dict[str, list[str]] = {}
    for line in (ROOT / "spiking_lfp" / "__init__.pyi").read_text().splitlines():
        if found := re.match(r"from (spiking_lfp\.(\w+)[\w.]*) import (\w+) as", line):
            names.setdefault(found[2], []).append(f"{found[1]}.{found[3]}")
    assert names.keys() == API.keys(), f"the pages of the API are {sorted(API)}, the names are of {sorted(names)}"
    pages = {}
    index = [
        "# API\n\nThe names that `spiking_lfp` has. `from spiking_lfp import NAME`; they are loaded on first use.\n"
    ]
    for part, title in API.items():
        ordered = sorted(names[part], key=lambda name: name.rpartition(".")[2].lower())
        entries = "\n\n".join(f"::: {name}" for name in ordered)
        pages[f"api/{part}.md"] = f"# {title}\n\n{entries}\n"
        listed = ", ".join(f"[`{name.rpartition('.')[2]}`]({part}.md#{name})" for name in ordered)
        index.append(f"**[{title}]({part}.md)**: {listed}\n")
    return {"api/index.md": "\n".join(index), **pages}
