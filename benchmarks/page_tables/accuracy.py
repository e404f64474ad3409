"""What networks come to: by LFP and by surrogate gradients, on every data set."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from records import KEPT, read

from page_tables.common import SETS, markdown, mean, percent
from page_tables.speed import faster, steps_line, times
from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, Case, Outcome
from spiking_lfp.studies.surrogate_comparison.report import Row, rows
from spiking_lfp.training import preset_config, preset_title

SPEAKERS = "each speaker unknown in turn"
NAMES = {"lfp": "LFP", "surrogate": "surrogate"}


def by_both() -> list[tuple[Row | None, Row | None]]:
    """Return what LFP and the surrogate came to on every data set and network that is not one of recordings."""
    found = [(Case(**line["case"]), Outcome(**line["outcome"])) for line in read(KEPT / "rules" / "cases.jsonl")]
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
        for line in read(KEPT / "tried.jsonl")
    ]
    return markdown(["data", "tried", "epochs", "training, %", "held out, %"], lines)


def rewards() -> str:
    """Other targets than one class a sample: scores on test samples, at the rate that did best on held-out ones."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for line in read(KEPT / "rewards.jsonl"):
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


def mnist() -> str:
    """The networks of the first page: accuracy of each seed, and a training step beside those of others."""
    networks = {"mnist-mlp": "784-1000-1000-10", "mnist-lenet": "12C5-MP2-64C5-MP2-1024-10"}
    found = read(KEPT / "mnist" / "cases.jsonl")
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


def protocol() -> str:
    """LFP and surrogate gradients with the same weights to start from and the same batches."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for line in read(KEPT / "accuracy.jsonl"):
        name = NAMES["lfp" if line["method"] == "spiking_lfp" else "surrogate"]
        key = (line["data"], line["network"], name, f"{line['lr']:g}", str(line["epochs"]))
        groups.setdefault(key, []).append(line["accuracy"][-1])
    lines = [
        [*key, " ".join(percent(each, 2) for each in values), f"**{percent(fmean(values), 2)}**"]
        for key, values in groups.items()
    ]
    return markdown(["data", "network", "method", "learning rate", "epochs", "each seed, %", "mean"], lines)


def events() -> str:
    """Recordings of events, by LFP and by surrogate gradients."""
    found = read(KEPT / "events" / "cases.jsonl")
    means = rows([(Case(**line["case"]), Outcome(**line["outcome"])) for line in found])
    lines = []
    for row in means:
        if row.method == "lfp":
            # the surrogate has settings of its own besides
            others = [each for each in means if each.method == "surrogate" and each.preset == row.preset]
            fit = [each for each in others if {*row.settings.split()} <= {*each.settings.split()}]
            both = row, min(fit, key=lambda each: len(each.settings))
            million = row.synops >= 1e6
            config = preset_config(row.preset, dict(word.split("=", 1) for word in row.settings.split()))
            settings = f", {row.settings}" if row.settings else ""
            settings += "" if row.epochs == config.epochs else f" epochs={row.epochs}"
            lines.append([
                f"`{row.preset}`{settings}: {preset_title(row.preset)}, T = {config.steps}",
                *map(_accuracy, both),
                " / ".join(f"{each.spikes:,.0f}" for each in both),
                " / ".join(f"{each.synops / 1e6:.1f}" if million else f"{each.synops:,.0f}" for each in both)
                + (" million" if million else ""),
                " / ".join(f"{each.seconds:,.0f} s" for each in both),
            ])  # fmt: skip
    return markdown(["preset, data, network", "LFP, %", "surrogate, %", "spikes", "SynOps", "training"], lines)


def settings(about: str) -> str:
    """What other settings came to."""
    found = [line for line in read(KEPT / "settings.jsonl") if line["about"] == about]
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


TABLES: dict[str, Callable[[], str]] = {
    "mnist": mnist, "longer": longer, "accuracies": accuracies, "events": events, "tried": tried, "rewards": rewards,
    "protocol": protocol,
    "settings-spikes": partial(settings, "spikes"), "settings-fine-tuning": partial(settings, "fine-tuning"),
    "settings-cifar": partial(settings, "cifar"), "settings-mono": partial(settings, "mono"),
    "settings-precision": partial(settings, "precision"),
}  # fmt: skip
