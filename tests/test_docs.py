"""README and pages: scripts run, commands and settings are those that there are, generated pages tell all."""

import ast
import importlib
import importlib.util
import json
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer

import spiking_lfp
from helpers.forks import Forks
from spiking_lfp.cli.console import assignments
from spiking_lfp.cli.main import app
from spiking_lfp.deploy.pretrained import network_names
from spiking_lfp.studies.registry import EXPERIMENTS
from spiking_lfp.training import preset_config, preset_names
from spiking_lfp.training.config import GROUPS, TrainConfig, checked_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the code blocks of a page in these languages."""
    for language, text in FENCE.findall(page.read_text()):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every call of the command in the code blocks of a page, and in its text."""
    for text in (*blocks(page, "", "sh", "bash"), *re.findall(r"(?<!`)`(spiking-lfp [^`]+)`(?!`)", page.read_text())):
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if found := re.search(r"(?:^|-m |srun )spiking[-_]lfp(?: |$)(.*)", line):
                words = shlex.split(found[1], comments=True)
                yield words[: min([words.index(end) for end in ("<", ">", "|") if end in words], default=None)]


COMMAND: Any = typer.main.get_command(app)
CALLS = sorted({(page.name, shlex.join(words)) for page in PAGES for words in commands(page)})
SCRIPTS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "python"))
    if re.search(r"^(import torch|from torch)", text, re.MULTILINE)  # others stand in the middle of something
]


def loaded(path: Path) -> ModuleType:
    """Import a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return loaded(ROOT / "docs" / "site.py")


@pytest.fixture(scope="module")
def notebooks() -> ModuleType:
    return loaded(ROOT / "docs" / "notebooks.py")


def test_tables_of_results_are_those_of_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = loaded(ROOT / "benchmarks" / "tables.py")
    places = [name for page in tables.PAGES for _, name, _ in tables.TABLE.findall(page.read_text())]
    assert sorted(places) == sorted(tables.TABLES)
    for page in tables.PAGES:
        text = page.read_text()
        assert tables.written(text) == text, f"{page.name}: run python benchmarks/tables.py"


def test_no_figure_is_typed() -> None:
    """What is measured stands where `tables.py` writes it; the page of networks is written from their cards."""
    place = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)
    of_tables = re.compile(r"\d %|\d%|\d ms\b|\d MB\b|±|\d s \|")
    of_sentences = re.compile(r"\d\.\d+ ?%(?! in the paper)")
    for page in PAGES:
        if page.name != "networks.md":
            typed = place.sub("", page.read_text()).splitlines()
            assert [line for line in typed if line.startswith("|") and of_tables.search(line)] == [], page.name
            assert [line for line in typed if of_sentences.search(line)] == [], page.name


# results from before that was kept
WITHOUT_ORIGIN = ("fpga.jsonl", "integers.jsonl", "rewards.jsonl", "tried.jsonl", "rules/cases.jsonl")


def test_results_say_what_made_them() -> None:
    experiments = ROOT / "docs" / "experiments"
    for path in experiments.rglob("*.jsonl"):
        if path.relative_to(experiments).as_posix() in WITHOUT_ORIGIN:
            continue
        for line in path.read_text().splitlines():
            made = json.loads(line)["made"]
            assert {"date", "versions", "processor", "threads"} <= made.keys(), path


def test_commands_of_results_name_no_place_of_one_machine() -> None:
    for path in (ROOT / "docs" / "experiments").rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            command = json.loads(line).get("made", {}).get("command") or ""
            assert not re.search(r"(^|[\s=])/", command), (path.name, command)


def test_every_public_name_has_its_line() -> None:
    table = "".join(re.findall(r"^\|.*\n", (ROOT / "docs" / "inside.md").read_text(), re.MULTILINE))
    assert [name for name in spiking_lfp.__all__ if not re.search(rf"`{name}\b", table)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_first_what_it_is_for(page: Path) -> None:
    assert re.match(r"# .+\n\n(?!```)[A-Z`]", page.read_text())


def test_readme_is_one_screen_of_reading() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_whole_script_runs_and_learns(script: str, tmp_path: Path, forks: Forks) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    run = forks.run("import runpy, sys\nrunpy.run_path(sys.argv[1], run_name='__main__')", path, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    for accuracy in re.findall(r"accuracy: ([\d.]+)%", run.stdout):
        assert float(accuracy) > 80
    assert "accuracy" in run.stdout or "print" not in script


def test_there_are_scripts_and_commands_of_every_kind() -> None:
    assert len(SCRIPTS) >= 4
    assert {shlex.split(call)[0] for _, call in CALLS if call} > {
        *("train", "evaluate", "predict", "export", "simulate", "verify", "check", "report", "convert", "tune"),
        *("experiment", "bench", "explain", "animate", "datasets", "presets", "networks", "demo", "info"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_pages_is_python(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, page.name, "exec")


@pytest.mark.parametrize(("page", "call"), CALLS)
def test_a_command_has_these_arguments(page: str, call: str) -> None:
    words = shlex.split(call)
    command = COMMAND
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    context = command.context_class(command)
    # raises for options that there are not; files and folders need not be there
    options, left, _ = command.make_parser(context).parse_args(words)
    assert not left
    name = options.get("name")
    if command.name in ("train", "tune") and options.get("preset") != "NAME":
        settings = TrainConfig.model_fields.keys() - {"preset"}
        changes = {setting: value for setting, value in options.items() if setting in settings}
        changes |= assignments([each for each in options.get("changes", []) if each not in ("KEY=VALUE", "reward=...")])
        preset = options.get("preset")
        assert checked_config(changes) if preset is None else preset_config(preset, changes)
    elif command.name == "experiment":
        assert name in (*EXPERIMENTS, "NAME", None)
    elif command.name == "networks":
        assert name in (*network_names(), "NAME", None)


def test_every_setting_and_preset_is_on_its_page(site: ModuleType) -> None:
    page = site.settings()
    for group, kind in GROUPS.items():
        assert f"## {group}\n" in page
        for name, field in kind.model_fields.items():
            assert re.search(rf"^\| `{name}` \| .* \| .+ \| {re.escape(field.description)} \|$", page, re.MULTILINE)
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert "| 0.001 | number > 0, ≤ 1e+36 |" in lines["lr"]
    assert "| subtract | `subtract`, `zero`, `none` |" in lines["reset"]
    assert "| adam | `adam`" in lines["optimizer"]
    assert "| 1000,1000 | integers" in lines["hidden"]
    assert all(f"\n## {name}\n" in site.presets() for name in preset_names())


def test_every_public_name_is_in_the_api(site: ModuleType) -> None:
    pages = site.api()
    names = {name for page in pages.values() for name in re.findall(r"^::: .*\.(\w+)$", page, re.MULTILINE)}
    assert names == set(spiking_lfp.__all__)
    assert all(f"[`{name}`](" in pages["api/index.md"] for name in names)


@pytest.mark.parametrize(
    ("page", "link", "shown"),
    [
        ("index.md", "docs/own_data.md", "own_data.md"),
        ("own_data.md", "../examples/own_network.py", "files/examples/own_network.py.md"),
        ("own_data.md", "rewards.md", "rewards.md"),
        ("hardware.md", "../hardware", "c_and_verilog.md"),
        ("index.md", "CHANGELOG.md", "changes.md"),
        ("files/examples.md", "examples/train_step.py", "files/examples/train_step.py.md"),
        ("index.md", "https://example.org", None),
        ("index.md", "examples/none.py", None),
        ("own_data.md", "../../../etc/passwd", None),
        ("index.md", "docs/tutorials/01_first_network.py", "tutorials/01_first_network.md"),
        ("tutorials/01_first_network.md", "02_feedback.py", "tutorials/02_feedback.md"),
        ("tutorials/01_first_network.md", "../rules.md", "rules.md"),
        ("tutorials/07_hardware.md", "../../hardware/README.md", "c_and_verilog.md"),
    ],
)
def test_links_lead_to_pages(site: ModuleType, page: str, link: str, shown: str | None) -> None:
    assert site.shown_at(page, link) == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_of_the_repository_and_to_headings(page: Path) -> None:
    """Pages are read there, too, where those that the site makes are not."""
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, link


def test_a_file_or_folder_becomes_a_page(site: ModuleType) -> None:
    assert (ROOT / "examples" / "train_step.py").read_text() in site.file_page("files/examples/train_step.py.md")
    folder = site.file_page("files/examples.md")
    assert "- [train_step.py](examples/train_step.py): The training step in four lines" in folder


def cells(tutorial: Path) -> list[tuple[str, str]]:
    """Return the head and the text of every cell of a notebook in jupytext's percent format."""
    parts = re.split(r"^(# %%.*)\n", tutorial.read_text(), flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_every_tutorial_is_in_the_navigation_and_listed() -> None:
    names = [tutorial.stem for tutorial in TUTORIALS]
    assert len(names) >= 10
    assert re.findall(r"tutorials/(\w+)\.md", (ROOT / "mkdocs.yml").read_text()) == names
    assert re.findall(r"^\| .*tutorials/(\w+)\.py", (ROOT / "docs" / "tutorials.md").read_text(), re.MULTILINE) == names


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.stem)
def test_a_tutorial_teaches_and_its_names_are_there(tutorial: Path) -> None:
    """It runs when the site is built; what can be seen without that is seen here."""
    found = cells(tutorial)
    texts = [text for head, text in found if head == "# %% [markdown]"]
    assert all(line.startswith("#") for text in texts for line in text.splitlines() if line)
    assert re.match(r"# # .+\n", texts[0])
    assert "**What you will learn:**" in texts[0]
    assert "minutes to read" in re.sub(r"\n# ", " ", texts[0])
    assert "# ## Where to go on\n" in texts[-1]
    for link in re.findall(r"\]\(([^)#]+)", "".join(texts)):
        assert "://" in link or (tutorial.parent / link).is_file(), link
    code = [(head, text) for head, text in found if head != "# %% [markdown]"]
    for head, text in code:
        compile(text, tutorial.name, "exec")
        if "plt.subplots" in text:  # without `show` the value of the last line would stand above the figure
            assert text.rstrip().endswith("\nplt.show()"), text
            assert re.fullmatch(r'# %% alt="[^"]+"', head), text
    for node in ast.walk(ast.parse("".join(text for _, text in code))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("spiking_lfp"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, each.name) for each in node.names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lfp":
            assert node.attr in spiking_lfp.__all__


def cell(source: str, *outputs: dict[str, Any], **metadata: str) -> SimpleNamespace:
    shown = [SimpleNamespace(**output) for output in outputs]
    return SimpleNamespace(cell_type="code", source=source, outputs=shown, metadata=metadata)


def test_cells_become_code_text_and_pictures(notebooks: ModuleType) -> None:
    title = SimpleNamespace(cell_type="markdown", source="# Title")
    picture = {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": "<Figure>"}}
    number = {"output_type": "execute_result", "data": {"text/plain": "2"}}
    notebook = SimpleNamespace(cells=[title, cell("draw()", picture, alt="A curve"), cell("1 + 1", number)])
    text, pictures = notebooks.page("name", notebook, 3.2)
    assert text.startswith("# Title\n\n[Download the notebook](name.ipynb)")
    assert "ran in 3 seconds" in text
    assert "```python\ndraw()\n```\n\n![A curve](name-1.png)\n\n```python\n1 + 1\n```\n\n~~~~~" in text
    assert pictures == {"name-1.png": b"hello"}


def test_what_cells_warn_of_is_a_warning_of_the_build(notebooks: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    warned = cell("f()", {"output_type": "stream", "name": "stderr", "text": "UserWarning: no\n"})
    nameless = cell("draw()", {"output_type": "display_data", "data": {"image/png": "aGVsbG8="}})
    with caplog.at_level(logging.WARNING):
        notebooks.page("name", SimpleNamespace(cells=[warned, nameless]), 1.0)
    first, second = caplog.messages
    assert "UserWarning: no" in first
    assert 'without alt="..."' in second
