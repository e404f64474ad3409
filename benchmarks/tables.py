"""Write the tables of trained figures in README and docs from the results in docs/experiments.

    python benchmarks/tables.py            # writes what differs, and says which pages
    python benchmarks/tables.py --check    # writes nothing; ends with 1 if a page differs

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and is written there only. Results are added by the
command that the page names, and go on from what is there.
"""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer

from spiking_lfp.studies.lfp_paper.spiking_images import METHODS as IMAGE_METHODS
from spiking_lfp.studies.mdfa_paper.alignment import METHODS as ALIGNMENT
from spiking_lfp.studies.mdfa_paper.pairs import METHODS as READOUTS
from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, Case, Outcome
from spiking_lfp.studies.surrogate_comparison.report import Row, rows
from spiking_lfp.training import preset_config, preset_title

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "docs" / "experiments"
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "hardware" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def by_both() -> list[tuple[Row | None, Row | None]]:
    """Return what LFP and the surrogate came to on every data set and network that is not one of recordings."""
    found = [(Case(**line["case"]), Outcome(**line["outcome"])) for line in read(EXPERIMENTS / "rules" / "cases.jsonl")]
    order = list(dict.fromkeys(case.preset for case, _ in found))
    # a training for each speaker that it does not know: a row of their mean
    found = [
        (replace(case, settings=SPEAKERS) if case.settings.startswith("test_session=") else case, outcome)
        for case, outcome in found
    ]

    def place(row: Row) -> tuple[int, int, str]:
        return order.index(row.preset), row.epochs, row.settings

    by_method = {(place(row), row.method): row for row in rows(found)}
    places = sorted({where for where, _ in by_method})
    return [(by_method.get((where, "lfp")), by_method.get((where, "surrogate"))) for where in places]


def accuracies() -> str:
    """Every data set and network that is not one of recordings, by LFP and by the surrogate."""
    lines = []
    for both in by_both():
        found = [each for each in both if each is not None]
        row = found[0]
        known = NEUROTRAIN.get(row.preset) if "data" not in row.settings else None
        lines.append([
            f"`{row.preset}`{f', {row.settings}' if row.settings else ''}",
            f"{preset_title(row.preset)}; {row.epochs} epochs",
            *map(_accuracy, both), " / ".join(f"{each.spikes:,.0f}" for each in found),
            " / ".join(f"{each.seconds:,.0f} s" for each in found), "" if known is None else str(known),
        ])  # fmt: skip
    return markdown(
        ["preset", "data, network", "LFP, %", "surrogate, %", "spikes", "training", "best in NeuroTrain"],
        lines,
    )


def longer() -> str:
    """The best of each data set by LFP."""
    best: dict[str, Row] = {}
    for row, _ in by_both():
        if row is not None and not row.settings:
            data = preset_title(row.preset).partition(",")[0].partition(":")[0]
            best[data] = max(row, best.get(data, row), key=lambda each: each.accuracy)
    lines = [
        [preset_title(row.preset).partition(": membranes")[0], f"`train {row.preset}`", _accuracy(row), _minutes(row)]
        for row in best.values()
    ]
    return markdown(["data, network", "`spiking-lfp`", "test accuracy, %", "training"], lines)


def _minutes(row: Row) -> str:
    return f"{row.seconds / 60:.0f} min" if row.seconds >= 90 else f"{row.seconds:.0f} s"


def _accuracy(row: Row | None) -> str:
    if row is None:
        return ""
    return f"**{row.accuracy:.2f}**" + (
        f" ±\N{NO-BREAK SPACE}{row.deviation:.2f} ({row.seeds})" if row.seeds > 1 else ""
    )


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
        row = [line["network"], str(line["bits"]), line["board"]]
        row += [f"{line['lanes']} x {line['adds']}" if "lanes" in line else str(line["lanes asked"] or "")]
        if line["fits"]:
            row += [f"{line['MHz']:.1f}"]
            row += [f"{line[name]:,}" for name in ("cells", "block RAM", "multipliers", "cycles")]
            row += [f"{line['MHz'] * 1e6 / line['cycles']:,.0f}", f"{line['bytes']:,}"]
        else:
            # what it takes, and what there is; without what each memory takes, and advice
            why = re.sub(r" \(.*?\)(?=,| and)", "", line["reason"]).split(": take")[0]
            why = why.replace("the network with", "with").replace(" takes", " it takes", 1)
            row += [f"does not fit: {why}", *[""] * 6]
        lines.append(row)
    return markdown(
        ["network", "bits", "board", "lanes x weights", "MHz", "cells", "block RAM", "multipliers", "cycles",
         "samples/s", "bitstream, bytes"], lines
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


def of_experiment(name: str) -> list[dict[str, Any]]:
    """Return the rows that `spiking-lfp experiment NAME --out docs/experiments/NAME` wrote."""
    rows: list[dict[str, Any]] = json.loads((EXPERIMENTS / name / "numbers.json").read_text())["rows"]
    return rows


VERDICTS = {True: "holds", False: "no", None: "not settled"}


def findings_of(name: str) -> list[dict[str, Any]]:
    """Return the findings that the same command wrote: what the paper says, what was found, and whether it holds."""
    findings: list[dict[str, Any]] = json.loads((EXPERIMENTS / name / "numbers.json").read_text())["findings"]
    return findings


def verdict(name: str, statement: str) -> str:
    """Return whether a finding of an experiment holds, whose statement of the paper begins like this."""
    [holds] = [found["holds"] for found in findings_of(name) if found["paper"].startswith(statement)]
    return VERDICTS[holds]


def one(rows: Sequence[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Return the only row with these settings."""
    [row] = [row for row in rows if settings.items() <= row.items()]
    return row


def percent(value: float, digits: int = 1) -> str:
    """Return a share in percent."""
    return f"{100 * value:.{digits}f}"


def steps_line(network: str, steps: int) -> dict[str, Any]:
    """Return the latest run of `steps.py` on a network."""
    return [line for line in read(EXPERIMENTS / "steps.jsonl") if (line["network"], line["T"]) == (network, steps)][-1]


def faster(line: dict[str, Any], name: str) -> str:
    """Return the method of this name in a line; snnTorch's is the faster of two forms."""
    forms: dict[str, float] = {key: ms for key, ms in line["median_ms"].items() if key.startswith(name)}
    return min(forms, key=lambda key: forms[key])


def times(line: dict[str, Any], method: str, measure: str = "median_ms") -> float:
    """Return how many times that of the first method a time or a peak of memory is."""
    kept = line.get({"median_ms": "times_first", "peak_mb": "memory_times_first"}[measure])
    if kept:  # from before all digits were kept
        return float(kept[method])
    values = line[measure]
    return float(values[method] / next(iter(values.values())))


def mnist() -> str:
    """The networks of the first page: accuracy of each seed, and a training step beside those of others."""
    networks = {"mnist-mlp": "784-1000-1000-10", "mnist-lenet": "12C5-MP2-64C5-MP2-1024-10"}
    found = read(EXPERIMENTS / "mnist" / "cases.jsonl")
    lines = []
    for preset, network in networks.items():
        accuracies = [line["outcome"]["accuracy"] for line in found if line["case"]["preset"] == preset]
        step = steps_line(network, 25)
        lines.append([
            network, f"{' '.join(percent(each, 2) for each in accuracies)}, mean **{percent(fmean(accuracies), 2)} %**",
            f"{step['median_ms']['spiking_lfp']:.0f} ms",
            *(f"{times(step, faster(step, name)):.1f} times faster" for name in ("lfprop", "snntorch")),
        ])  # fmt: skip
    return markdown(
        ["network", "test accuracy, each seed", "training step", "against lfprop 1.0.0",
         "against snnTorch BPTT, its faster form"], lines
    )  # fmt: skip


def steps() -> str:
    """A training step beside those of others."""
    names = {"lfprop": "lfprop 1.0.0", "snntorch": "snnTorch 1.0.0, BPTT", "spikingjelly": "SpikingJelly 2.0.0"}
    latest = {(line["network"], line["T"]): line for line in read(EXPERIMENTS / "steps.jsonl") if line["T"] < 100}
    lines = []
    for (network, length), line in latest.items():
        ms, mb = line["median_ms"], line["peak_mb"]
        lines.append([
            network, str(length), f"{ms['spiking_lfp']:.0f} ms, {mb['spiking_lfp']:.0f} MB",
            *(
                f"{ms[form]:.0f} ms ({times(line, form):.1f}), {mb[form]:.0f} MB ({times(line, form, 'peak_mb'):.1f})"
                for form in (faster(line, name) for name in names)
            ),
        ])  # fmt: skip
    return markdown(["network", "T", "spiking_lfp", *names.values()], lines)


def long_sequences() -> str:
    """A training step on 100 steps, at once and in chunks."""
    names = {
        "spiking_lfp": "at once",
        "spiking_lfp, chunks of 25": "in chunks",
        "snntorch": "snnTorch, loop over time",
    }
    latest = {line["network"]: line for line in read(EXPERIMENTS / "steps.jsonl") if line["T"] == 100}
    lines = [
        [network, *(f"{line['median_ms'][name]:.0f} ms, {line['peak_mb'][name]:.0f} MB" for name in names)]
        for network, line in latest.items()
    ]
    return markdown(["network", *names.values()], lines)


def protocol() -> str:
    """LFP and surrogate gradients with the same weights to start from and the same batches."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for line in read(EXPERIMENTS / "accuracy.jsonl"):
        name = NAMES["lfp" if line["method"] == "spiking_lfp" else "surrogate"]
        key = (line["data"], line["network"], name, f"{line['lr']:g}", str(line["epochs"]))
        groups.setdefault(key, []).append(line["accuracy"][-1])
    lines = [
        [*key, " ".join(percent(each, 2) for each in values), f"**{percent(fmean(values), 2)}**"]
        for key, values in groups.items()
    ]
    return markdown(["data", "network", "method", "learning rate", "epochs", "each seed, %", "mean"], lines)


def in_the_loop() -> str:
    """Networks whose integers were in the training loop, beside others."""
    found = read(EXPERIMENTS / "in-the-loop.jsonl")
    weights = list(dict.fromkeys(line["weights"] for line in found))
    lines = [
        [network, *(f"{percent(one(found, network=network, weights=each)['accuracy'], 2)} %" for each in weights)]
        for network in dict.fromkeys(line["network"] for line in found)
    ]
    return markdown(["network", *weights], lines)


def xylo() -> str:
    """Braille letters within the limits of Xylo."""
    found = json.loads((EXPERIMENTS / "xylo.json").read_text())
    lines = []
    for name, title in (("real numbers", "real numbers"), ("xylo in the loop", "Xylo's arithmetic in the loop")):
        seeds = found[name]["seeds"].values()
        accuracies = [seed["test"] for seed in seeds]
        compared = [layer for seed in seeds for layer in seed.get("xylosim", ())]
        counts = [f"{sum(layer[what] for layer in compared):,}" for what in ("compared", "different")]
        values = " ".join(percent(each) for each in accuracies)
        lines.append([title, f"{values} %", f"{percent(fmean(accuracies))} %", *(counts if compared else ("", ""))])
    return markdown(["", "test accuracy", "mean", "spikes compared with XyloSim", "different"], lines)


def live() -> str:
    """Pages in which a network runs."""
    lines = []
    for line in {line["network"]: line for line in read(EXPERIMENTS / "live.jsonl")}.values():
        name = f"`{line['network']}`, {line['sizes']}" if line["network"] else f"{line['sizes']}, random weights"
        size = f"{line['kB'] / 1000:.1f} MB" if line["kB"] >= 1000 else f"{line['kB']} kB"
        lines.append([name, str(line["T"]), size, f"{line['samples a second']:,}"])
    return markdown(["network", "T", "page", "samples a second"], lines)


def loading() -> str:
    """How long batches of recordings are made, read and waited for, beside the training step that takes them."""
    latest = {line["preset"]: line for line in read(EXPERIMENTS / "loading.jsonl")}
    lines = []
    for preset, line in latest.items():
        step, batch, _, waited = line["median_ms"].values()
        files, copy = line["bytes"].values()
        times = [f"{step:.1f} ms", f"{batch:.2f} ms", f"{waited:.1f} ms"]
        lines.append([f"`{preset}`", *times, f"{files / 1e6:.1f} MB", f"{copy / 1e6:.1f} MB"])
    head = ["preset", "training step", "its batch from memory", "waited for two processes that read", "files"]
    return markdown([*head, "a copy in the cache"], lines)


def streaming() -> str:
    """How fast long recordings are read, and in how much memory."""
    latest = {(line["file"], line["into"]): line for line in read(EXPERIMENTS / "streaming.jsonl")}
    lines = []
    for (name, into), line in latest.items():
        memory = [f"{each:.0f}" for each in sorted(line["mb_after_each_tenth"])]
        rate = f"{line['events_per_second'] / 1e6:.1f}"
        size = f"{line['bytes'] / 1e9:.1f} GB, {line['events'] / 1e6:.0f} million events"
        lines.append(
            [
                {"evt3": "EVT 3", "npy": "NumPy"}[name],
                size,
                into,
                rate,
                " to ".join(dict.fromkeys([memory[0], memory[-1]])),
            ]
        )
    return markdown(["file", "size", "into", "million events a second", "memory of the process, MB"], lines)


def events() -> str:
    """Recordings of events, by LFP and by surrogate gradients."""
    found = read(EXPERIMENTS / "events" / "cases.jsonl")
    means = rows([(Case(**line["case"]), Outcome(**line["outcome"])) for line in found])
    lines = []
    for row in means:
        if row.method == "lfp":
            # the surrogate has settings of its own besides
            others = [each for each in means if each.method == "surrogate" and each.preset == row.preset]
            fit = [each for each in others if {*row.settings.split()} <= {*each.settings.split()}]
            both = row, min(fit, key=lambda each: len(each.settings))
            million = row.synops >= 1e6
            settings = f", {row.settings}" if row.settings else ""
            steps = preset_config(row.preset, dict(word.split("=", 1) for word in row.settings.split())).steps
            lines.append([
                f"`{row.preset}`{settings}: {preset_title(row.preset)}, T = {steps}",
                *map(_accuracy, both),
                " / ".join(f"{each.spikes:,.0f}" for each in both),
                " / ".join(f"{each.synops / 1e6:.1f}" if million else f"{each.synops:,.0f}" for each in both)
                + (" million" if million else ""),
                " / ".join(f"{each.seconds:,.0f} s" for each in both),
            ])  # fmt: skip
    return markdown(["preset, data, network", "LFP, %", "surrogate, %", "spikes", "SynOps", "training"], lines)


NETWORKS = {"fc": "fully connected", "cnn": "convolutional"}
SETS = {
    "mnist": "MNIST", "mnist-subset": "digits", "n-mnist": "N-MNIST", "cifar10": "CIFAR-10", "cifar": "CIFAR-100",
    "imagenet": "Tiny-ImageNet",
}  # fmt: skip


def aligned(rows: Sequence[dict[str, Any]], keys: Sequence[str], columns: Sequence[str], training: bool) -> list[Any]:
    """Return a line for each entry of the tables of mDFA, its test accuracies and maybe that in training."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        [
            *columns_of(group[0], columns),
            *(f"{percent(one(group, method=method)['test'])} %" for method in ALIGNMENT),
            *([f"{percent(one(group, method='mdfa')['train'])} %"] if training else []),
        ]
        for group in groups.values()
    ]


def columns_of(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return what an entry is: its data and network in words, and other settings."""
    words = {
        "network": f"{NETWORKS[row['network']]}, {row['activation'].replace('relu', 'ReLU')}",
        "data": f"{SETS[row['set']]}, {row['classes']} classes, {NETWORKS[row['network']]}",
    }
    return [words.get(column, str(row.get(column))) for column in columns]


def mdfa_pairs(name: str, columns: Sequence[str]) -> str:
    """Pairs of classes of one of the sets."""
    rows = [row for row in of_experiment("mdfa-binary") if row["set"] == name]
    return markdown(
        ["", *columns[1:], *ALIGNMENT.values(), "mDFA, training"],
        aligned(rows, ("network", "activation"), columns, True),
    )


def mdfa_classes() -> str:
    """More classes than two."""
    keys = ("data", "epochs", "draws")
    rows = of_experiment("mdfa-classes")
    return markdown(["", *keys[1:], *ALIGNMENT.values()], aligned(rows, ("set", "classes", "network"), keys, False))


def spiking_pairs() -> str:
    """Pairs of classes in spikes: means over pairs."""
    rows = of_experiment("spiking-pairs")
    sets = {"mnist": "MNIST", "n-mnist": "N-MNIST", "dvs128-objects": "DVS128 objects"}
    lines = [
        [
            title,
            *(
                f"{percent(fmean(r['accuracy'] for r in rows if (r['data'], r['method']) == (name, method)), digits)} %"
                for name, digits in zip(sets, (2, 1, 1), strict=True)
            ),
        ]
        for method, title in READOUTS.items()
    ]
    return markdown(["", *sets.values()], lines)


def latency() -> str:
    """An update by depth."""
    names = {"forward": "forward pass", "bp": "back-propagation", "mdfa": "mDFA", "autograd": "autograd, both ways"}
    lines = [
        [
            str(line["hidden layers"]), *(f"{line['ms'][name]:#.2g} ms" for name in names),
            *(str(line["path"][name]) for name in ("bp", "mdfa")),
        ]
        for line in {line["hidden layers"]: line for line in read(EXPERIMENTS / "latency.jsonl")}.values()
    ]  # fmt: skip
    return markdown(["hidden layers", *names.values(), "waits, back-propagation", "waits, mDFA"], lines)


def settings(about: str) -> str:
    """What other settings came to."""
    found = [line for line in read(EXPERIMENTS / "settings.jsonl") if line["about"] == about]
    lines = [
        [
            f"{SETS[line['data']]}, {line['network']}",
            "" if line["beta"] is None else f"{line['beta']:g}", str(line["steps"]), line["settings"],
            str(line["epochs"] or ""), " ".join(f"{round(100 * each, 2):g}" for each in line["accuracy"]),
            line["samples"],
        ]
        for line in found
    ]  # fmt: skip
    return markdown(["", "beta", "T", "settings", "epochs", "accuracy of each seed, %", "of samples"], lines)


def first_steps() -> str:
    """A stranger's way from a clone to a C program."""
    latest = {line["stage"]: line for line in read(EXPERIMENTS / "first-steps.jsonl")}
    total, lines = 0.0, []
    for stage, line in latest.items():
        total += line["seconds"]
        minutes, seconds = divmod(round(total), 60)
        lines.append([stage, f"{line['seconds']:.0f} s", f"{minutes} min {seconds} s"])
    return markdown(["", "takes", "since the start"], lines)


GRADIENT, EPSILON, Z, ALPHA = "gradient", "epsilon", "zplus-zminus", "alpha2-beta1"
EPSILON_Z, EPSILON_ALPHA = "epsilon-zplus-zminus", "epsilon-alpha2-beta1"
RULES = {
    GRADIENT: "gradient", EPSILON: "ε", Z: "z⁺z⁻", EPSILON_Z: "ε-z⁺z⁻", EPSILON_ALPHA: "ε-α2β1", ALPHA: "α2β1",  # noqa: RUF001
}  # fmt: skip


def each(values: Mapping[str, float], digits: int = 1) -> str:
    """Return what rules come to, in percent."""
    return ", ".join(f"{RULES.get(name, name)} {percent(value, digits)}" for name, value in values.items()) + " %"


def lfp_paper() -> str:
    """Statements of the LFP paper, and what was measured."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in of_experiment("cifar"):
        key = row["network"], row["method"]
        best[key] = max(best.get(key, row), row, key=lambda each: each["accuracy"])
    pairs = [(title, best[name, EPSILON], best[name, GRADIENT]) for name, title in (("mlp", "MLP"), ("lenet", "LeNet"))]
    vgg = {
        start: {row["method"]: row for row in of_experiment("vgg") if row["start"] == start}
        for start in ("random", "pretrained")
    }
    random, pretrained = ({method: rows[method]["accuracy"] for method in RULES} for rows in vgg.values())
    signs = {method: vgg["pretrained"][method]["signs changed in an epoch"] for method in (GRADIENT, EPSILON, Z)}
    tuned = {
        f"{'gradient then ' if row['gradient updates before'] != 0 else ''}{RULES[row['method']]}": row
        for row in of_experiment("fine-tuning")
    }
    pruned = "; ".join(
        f"{name} {' '.join(percent(row[f'{share} % pruned']) for share in (70, 80, 90))}" for name, row in tuned.items()
    )
    changed = {name: tuned[name]["signs changed in a later epoch"] for name in (GRADIENT, "ε")}
    constant, decayed = of_experiment("simple-reward")
    moves = [f"{percent(row['change from step to step'])} %" for row in (constant, decayed)]
    noise = {row["method"]: row["correlation"] for row in of_experiment("shattering") if row["hidden layers"] == 500}
    depth: dict[int, dict[str, float]] = {}
    for row in of_experiment("depth"):
        depth.setdefault(row["hidden layers"], {})[row["method"]] = row["mean"]
    lines = [
        [
            f"`cifar`, fig. 2, at the paper's scale, seeds: {pairs[0][1]['seeds']}",
            "LFP-ε is comparable to gradients at its best learning rate",
            "; ".join(f"{name} {percent(a['accuracy'])} % against {percent(b['accuracy'])} %" for name, a, b in pairs),
            ", ".join(f"{title} {verdict('cifar', f'{title}: with the right')}" for title, *_ in pairs),
        ],
        ["", "the best learning rates differ",
         "; ".join(f"{title} {a['lr']:g} for LFP-ε, {b['lr']:g} for gradients" for title, a, b in pairs),
         verdict("cifar", "MLP: the learning rates")],
        ["`vgg`, fig. 3, from random weights", "LFP-ε is on par with gradients",
         each({name: random[name] for name in (EPSILON, GRADIENT)}),
         verdict("vgg", "From random weights: LFP-epsilon is on par")],
        ["", "every other composite is worse", each({name: random[name] for name in (EPSILON_ALPHA, EPSILON_Z, Z)}),
         verdict("vgg", "From random weights: all other composites")],
        ["", f"LFP-{RULES[ALPHA]} alone stays at chance", f"{percent(random[ALPHA])} %, chance is 20 %",
         verdict("vgg", "From random weights: LFP-alpha2-beta1 only")],
        ["pretrained", f"all but LFP-{RULES[ALPHA]} do as well as gradients, z⁺z⁻ too", each(pretrained),
         f"{verdict('vgg', 'Pretrained: only LFP')}, {verdict('vgg', 'Pretrained: LFP-z+z- performs')}"],
        ["", "gradients change most signs", f"in an epoch {each(signs, 2)} of parameters",
         verdict("vgg", "Pretrained: gradients change")],
        ["`snn-grid`, fig. 4, A.4, A.5", "see below", "", ""],
        ["`fine-tuning`, fig. 5, at the paper's scale", "LFP-ε ends equal to gradients, within a point",
         f"{each({name: row['accuracy'] for name, row in tuned.items()})} after 10 epochs",
         verdict("fine-tuning", "LFP-epsilon achieves")],
        ["", "gradients converge fastest, and LFP faster after some of them", "panel I of [its figure](gallery.md)",
         verdict("fine-tuning", "Gradient descent converges")],
        ["", "signs stop changing once LFP is applied", f"in an epoch after the first {each(changed, 2)}",
         verdict("fine-tuning", "Signs of parameters")],
        ["", "LFP-ε keeps its accuracy longer under pruning", f"at 70, 80, 90 % pruned: {pruned} %",
         verdict("fine-tuning", "LFP-epsilon preserves")],
        ["", "z⁺z⁻ keeps it longer after some gradients, and beyond gradients above 80 %", "the same figures",
         f"{verdict('fine-tuning', 'With pretraining')}, {verdict('fine-tuning', 'LFP-z+z-, especially')}"],
        ["", "z⁺z⁻ changes the distribution of magnitudes least", "the median, in units of the 75th percentile, from "
         f"{tuned['ε']['median at first']:.2f} to "
         + ", ".join(f"{name} {row['median at last']:.2f}" for name, row in tuned.items()),
         verdict("fine-tuning", "Of the rules")],
        ["`simple-reward`, fig. A.1", "+1 and -1 teach, and are unstable without a schedule",
         f"{percent(constant['best'])} % at best; accuracy moves by {moves[0]} a step without, by {moves[1]} with "
         "(one sample a step, chosen to show both)",
         "holds" if constant["best"] > 0.9 else "less than the 90 % asked for"],
        ["`shattering`, fig. A.2", "gradients and LFP-ε turn to noise with depth, z⁺z⁻ does not",
         "correlation of neighbours at 500 hidden layers: "
         + ", ".join(f"{RULES[name]} {noise[name]:.2f}" for name in (GRADIENT, EPSILON, Z)), "holds"],
        ["`depth`, fig. A.3", f"z⁺z⁻ and {RULES[ALPHA]} are most robust, worse at 6 layers, random at 20",
         "; ".join(f"at {layers} layers {each(depth[layers], 0)}" for layers in (3, 6, 20)), f"{RULES[ALPHA]} is"],
    ]  # fmt: skip
    return markdown(["experiment", "what the paper says", "what was found", ""], lines)


def spiking_images() -> str:
    """Spiking convolutions of the paper's newer version by each method, at the best of its rates."""
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in of_experiment("snn-images"):
        key = row["data"], row["network"], row["method"]
        best[key] = max(best.get(key, row), row, key=lambda each: each["accuracy"])
    pairs = list(dict.fromkeys(key[:2] for key in best))
    lines = [
        [label, *(f"{percent(found['accuracy'])} ({found['lr']:g})" for found in (best[*pair, name] for pair in pairs))]
        for name, label in IMAGE_METHODS.items()
    ]
    return markdown(["test accuracy, % (rate)", *(f"{SETS[data]}, {network}" for data, network in pairs)], lines)


def activations() -> str:
    """Activation functions of the paper's newer version by gradients and by LFP."""
    found = of_experiment("activations")
    names = list(dict.fromkeys(row["activation"] for row in found))
    lines = [
        [label, *(percent(one(found, activation=name, method=method)["accuracy"]) for name in names)]
        for method, label in ((GRADIENT, "gradient"), (EPSILON, "LFP-ε"))
    ]
    return markdown(["test accuracy, %", *names], lines)


def boards() -> str:
    """Networks on bare boards in qemu."""
    latest = {(line["network"], line["bits"], line["board"]): line for line in read(EXPERIMENTS / "boards.jsonl")}
    lines = []
    for network, bits in dict.fromkeys(key[:2] for key in latest):
        first = latest[network, bits, "cortex-m4"]
        each = (latest[network, bits, board] for board in ("cortex-m4", "cortex-m0", "rv32"))
        name = network if network[0].isdigit() else f"`{network}`"
        sizes = (f"{first[what]:,}" for what in ("flash", "RAM"))
        lines.append([name, str(bits), *sizes, *(f"{line['instructions']:,}" for line in each)])
    return markdown(["network", "bits", "flash", "RAM", "Cortex-M4", "Cortex-M0", "RV32IMAC"], lines)


def cycles() -> str:
    """Cycles of the Verilog core."""
    lines = [
        [
            f"{line['network'] if line['network'][0].isdigit() else '`' + line['network'] + '`'}, T = {line['T']}",
            f"{line['cycles']:,}", "" if line["at least"] is None else f"{line['at least']:,}",
        ]
        for line in read(EXPERIMENTS / "cycles.jsonl")
    ]  # fmt: skip
    return markdown(["network", "cycles", "at least"], lines)


def precision_of_products() -> str:
    """Training steps with products in float32 and in bfloat16."""
    latest = {(line["preset"], line["made"]["threads"]): line for line in read(EXPERIMENTS / "precision.jsonl")}
    lines = [
        [
            f"`{preset}`", str(line["T"]), str(threads),
            *(f"{line['median_ms'][name]:.0f} ms" for name in ("highest", "medium")),
            f"{line['median_ms']['highest'] / line['median_ms']['medium']:.1f}",
        ]
        for (preset, threads), line in latest.items()
    ]  # fmt: skip
    return markdown(["preset", "T", "threads", "float32", "bfloat16", "times faster"], lines)


def snn_grid() -> str:
    """What the spiking networks reach over decay and steps, as a paragraph."""
    rows = of_experiment("snn-grid")
    best = {
        (network, method): max(row["accuracy"] for row in rows if (row["network"], row["method"]) == (network, method))
        for network in ("mlp", "lenet")
        for method in ("epsilon", "surrogate", "zplus-zminus")
    }
    awake = [row["accuracy"] for row in rows if row["method"] == "awake"]
    mlp, lenet = (
        " against ".join(percent(best[network, method]) for method in ("epsilon", "surrogate"))
        for network in ("mlp", "lenet")
    )
    z = " and ".join(percent(best[network, "zplus-zminus"]) for network in ("mlp", "lenet"))
    text = (
        f"As the paper finds, LFP-ε matches or beats the surrogate at its best setting (MLP {mlp} %, LeNet {lenet} %), "
        f"z⁺z⁻ does not ({z} %), and with a fast leak LFP learns nothing: only the biases of the last layer move, as "
        "in the paper's figure A.5. The cause is silence at the start, not LFP: first weights three times as large, "
        "and a reward that asks for a rate whatever T is (`awake` in the figure: `--set gain=3 --set "
        "reward=spike-rate`), "
        f"and the same rule reaches {percent(min(awake))} to {percent(max(awake))} % in every cell, more than the "
        "surrogate in each."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


def snn_grid_at_scale() -> str:
    """What the paper says of its spiking networks, and what was found at its scale."""
    lines = [[found["paper"], found["found"], VERDICTS[found["holds"]]] for found in findings_of("snn-grid-paper")]
    return markdown(["what the paper says", "what was found", ""], lines)


# each is written where a page has a place for it
TABLES: dict[str, Callable[[], str]] = {
    "mnist": mnist, "longer": longer, "first-steps": first_steps, "accuracies": accuracies, "tried": tried,
    "rewards": rewards,
    "steps": steps, "long-sequences": long_sequences, "protocol": protocol,
    "integers": integers, "in-the-loop": in_the_loop, "xylo": xylo, "live": live, "fpga": fpga,
    "loading": loading, "streaming": streaming,
    "events": events, "lfp-paper": lfp_paper, "snn-grid": snn_grid,
    "snn-grid-paper": snn_grid_at_scale,
    "snn-images": spiking_images, "activations": activations,
    "boards": boards, "cycles": cycles, "precision": precision_of_products,
    "mdfa-cifar": partial(mdfa_pairs, "cifar", ("network", "epochs")),
    "mdfa-imagenet": partial(mdfa_pairs, "imagenet", ("network",)),
    "settings-spikes": partial(settings, "spikes"), "settings-fine-tuning": partial(settings, "fine-tuning"),
    "settings-cifar": partial(settings, "cifar"),
    "settings-mono": partial(settings, "mono"), "settings-precision": partial(settings, "precision"),
    "mdfa-classes": mdfa_classes, "spiking-pairs": spiking_pairs, "latency": latency,
}  # fmt: skip


def written(text: str) -> str:
    """Return the text of a page with its tables made anew."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}{found[3]}", text)


def main(check: Annotated[bool, typer.Option(help="Write nothing; end with 1 if a page differs.")] = False) -> None:
    """Write all tables."""
    differ = False
    for page in PAGES:
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
