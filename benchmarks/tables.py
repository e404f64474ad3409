"""Write the tables of trained figures in README and docs from the results in docs/experiments.

    python benchmarks/tables.py            # writes what differs, and says which pages
    python benchmarks/tables.py --check    # writes nothing; ends with 1 if a page differs

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and is written there only. Results are added by the
command that the page names, and go on from what is there.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer

from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, Case, Outcome
from spiking_lfp.studies.surrogate_comparison.report import Row, rows
from spiking_lfp.training import preset_title

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "docs" / "experiments"
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
SPEAKERS = "each speaker unknown in turn"
NAMES = {"lfp": "LFP", "surrogate": "surrogate"}


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "".join(f"|{'|'.join(line)}|\n" for line in [[f" {cell} " for cell in head], ["---"] * len(head)]) + "".join(
        f"| {' | '.join(line)} |\n" for line in lines
    )


def mean(values: Sequence[float], digits: int) -> str:
    """Return the mean, with the deviation of several."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def accuracies() -> str:
    """Every data set and network that is not one of recordings, by LFP and by the surrogate."""
    found = [(Case(**line["case"]), Outcome(**line["outcome"])) for line in read(EXPERIMENTS / "rules" / "cases.jsonl")]
    order = list(dict.fromkeys(case.preset for case, _ in found))
    # a training for each speaker that it does not know: a row of their mean
    found = [
        (replace(case, settings=SPEAKERS) if case.settings.startswith("test_session=") else case, outcome)
        for case, outcome in found
    ]

    def place(row: Row) -> tuple[int, int, str, str]:
        return order.index(row.preset), row.epochs, row.settings, row.method

    lines = []
    for row in sorted(rows(found), key=place):
        known = NEUROTRAIN.get(row.preset) if "data" not in row.settings else None
        lines.append([
            f"`{row.preset}`{f', {row.settings}' if row.settings else ''}", preset_title(row.preset),
            NAMES[row.method], str(row.epochs),
            f"**{row.accuracy:.2f}**" + (f" ± {row.deviation:.2f}" if row.seeds > 1 else ""), str(row.seeds),
            f"{row.spikes:,.0f}", f"{row.seconds:,.0f} s", "" if known is None else str(known),
        ])  # fmt: skip
    return markdown(
        ["preset", "data, network", "method", "epochs", "test accuracy, %", "runs", "spikes", "training",
         "best in NeuroTrain"], lines
    )  # fmt: skip


def tried() -> str:
    """What settings were chosen from, on training samples held out."""
    lines = [
        [
            line["data"],
            line["tried"],
            str(line["epochs"]),
            f"{100 * line['train']:.1f}",
            f"{100 * line['held_out']:.1f}",
        ]
        for line in read(EXPERIMENTS / "tried.jsonl")
    ]
    return markdown(["data", "tried", "epochs", "training, %", "held out, %"], lines)


def rewards() -> str:
    """Other targets than one class a sample: scores on test samples, at the rate that did best on held-out ones."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for line in read(EXPERIMENTS / "rewards.jsonl"):
        if not line["held_out"]:
            groups.setdefault((line["task"], line["method"], line["lr"]), []).append(line)
    lines = []
    for (task, method, rate), runs in groups.items():
        scores = [name for name in list(runs[0])[7:] if name != "seconds"]
        cells = [
            f"{name.removeprefix('-')} {mean([abs(run[name]) for run in runs], 1 if name.startswith('-') else 3)}"
            for name in scores
        ]
        seconds = fmean(run["seconds"] for run in runs)
        lines.append([task, method, f"{rate:g}", str(len(runs)), ", ".join(cells), f"{seconds:.0f}"])
    return markdown(["task", "method", "rate", "seeds", "test", "seconds"], lines)


def fpga() -> str:
    """Networks on FPGA boards: clock after place and route, what they take, and samples a second at that clock."""
    lines = []
    for line in read(EXPERIMENTS / "fpga.jsonl"):
        row = [line["network"], str(line["bits"]), line["board"], str(line.get("lanes", ""))]
        if line["fits"]:
            row += [f"{line['MHz']:.1f}"]
            row += [f"{line[name]:,}" for name in ("cells", "block RAM", "multipliers", "cycles")]
            row += [f"{line['MHz'] * 1e6 / line['cycles']:,.0f}", f"{line['bytes']:,}"]
        lines.append(row if line["fits"] else [*row, "does not fit", *[""] * 6])
    return markdown(
        ["network", "bits", "board", "lanes", "MHz", "cells", "block RAM", "multipliers", "cycles", "samples/s",
         "bitstream, bytes"], lines
    )  # fmt: skip


def integers() -> str:
    """Networks that were trained in real numbers, and the same in integers."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in read(EXPERIMENTS / "integers.jsonl"):
        groups.setdefault((line["preset"], line["settings"]), []).append(line)
    bits = sorted({key for runs in groups.values() for run in runs for key in run["integers"]}, key=int, reverse=True)
    lines = [
        [
            f"`{preset}`{f', {settings}' if settings else ''}",
            str(len(runs)),
            mean([100 * run["real"] for run in runs], 2),
            *(mean([100 * run["integers"][each] for run in runs], 2) for each in bits),
        ]
        for (preset, settings), runs in groups.items()
    ]
    return markdown(["preset", "runs", "real numbers, %", *(f"{each} bits, %" for each in bits)], lines)


# each is written where a page has a place for it
TABLES: dict[str, Callable[[], str]] = {
    "accuracies": accuracies, "integers": integers, "tried": tried, "fpga": fpga, "rewards": rewards,
}  # fmt: skip


def written(text: str) -> str:
    """Return the text of a page with its tables made anew."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}{found[3]}", text)


def main(check: Annotated[bool, typer.Option(help="Write nothing; end with 1 if a page differs.")] = False) -> None:
    """Write all tables."""
    differ = False
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        before = page.read_text()
        after = written(before)
        if after != before:
            differ = True
            print(page.relative_to(ROOT))
            if not check:
                page.write_text(after)
    sys.exit(int(check and differ))


if __name__ == "__main__":
    typer.run(main)
