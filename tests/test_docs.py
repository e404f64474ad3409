"""README and pages: scripts run, commands and settings are those that there are, generated pages tell all."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
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


def test_tables_of_results_are_those_of_their_files() -> None:
    tables = loaded(ROOT / "benchmarks" / "tables.py")
    places = [name for page in PAGES for _, name, _ in tables.TABLE.findall(page.read_text())]
    assert sorted(places) == sorted(tables.TABLES)
    for page in PAGES:
        text = page.read_text()
        assert tables.written(text) == text, f"{page.name}: run python benchmarks/tables.py"


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
    ],
)
def test_links_lead_to_pages(site: ModuleType, page: str, link: str, shown: str | None) -> None:
    assert site.shown_at(page, link) == shown


def test_a_file_or_folder_becomes_a_page(site: ModuleType) -> None:
    assert (ROOT / "examples" / "train_step.py").read_text() in site.file_page("files/examples/train_step.py.md")
    folder = site.file_page("files/examples.md")
    assert "- [train_step.py](examples/train_step.py): The training step in four lines" in folder
