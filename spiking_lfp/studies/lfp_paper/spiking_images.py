"""Spiking convolutions on MNIST and CIFAR-10 by LFP, surrogate gradients and R-STDP (LFP, newer version).

The settings of the authors' scripts: Adam, one-cycle rates, batches of 128, beta 0.9, torch's weights, normalised
pictures, the reward of eq. A.16, nothing clipped; of R-STDP they say nothing, so that its form is ours. Beside them
stands LFP as the presets of CIFAR-10 have it: larger weights, and membranes as outputs.
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spiking_lfp.data import load_dataset, subset
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import COLOURS as ANN_COLOURS
from spiking_lfp.studies.lfp_paper.ann import GRADIENT, draw_curves, label_epochs, mean_and_deviation
from spiking_lfp.studies.lfp_paper.snn import prepared, train
from spiking_lfp.studies.surrogate_comparison.stdp import RewardSTDPTrainer
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateTrainer
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.loop import Trainer

METHODS = {"surrogate": "surrogate", "epsilon": "LFP-ε", "membrane": "LFP-ε, membranes", "stdp": "R-STDP"}
COLOURS = {
    "surrogate": ANN_COLOURS[GRADIENT],
    "epsilon": ANN_COLOURS["epsilon"],
    "membrane": ANN_COLOURS["alpha2-beta1"],
    "stdp": ANN_COLOURS["zplus-zminus"],
}
TRAINERS: dict[str, type[Trainer]] = {"surrogate": SurrogateTrainer, "stdp": RewardSTDPTrainer}
SETTINGS: dict[str, dict[str, Any]] = {"membrane": {"gain": 3.0, "readout": "membrane", "clip": 0.01}}
NETWORKS = {
    "tiny": "4C5-MP4",
    "LifCNN": "12C5-MP2-64C5-MP2",
    "DeeperSNN": "30C3p2-MP2-150C3-MP2-250C3-MP2-200C3p2-MP2-100C3p2",
}
SETTING = ("data", "network", "method", "lr")
# difference within which two accuracies count as the same, and from which on one is far above another, or chance
SAME, FAR, CHANCE = 0.01, 0.1, 0.1


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return each data set, network, method and rate."""
    sizes: dict[str, tuple[list[tuple[str, str]], list[float], Case]] = {
        "smoke": ([("mnist-subset", "tiny")], [1e-3], {"train": 200, "test": 100, "epochs": 1, "steps": 5}),
        "small": (
            [("mnist", "LifCNN"), ("cifar10", "LifCNN")],
            [1e-4, 1e-3],
            {"train": 5000, "test": 2000, "epochs": 6, "steps": 8},
        ),
        "paper": (
            [(data, network) for data in ("mnist", "cifar10") for network in ("LifCNN", "DeeperSNN")],
            [1e-4, 5e-4, 1e-3],
            {"train": None, "test": None, "epochs": 50, "steps": 25},
        ),
    }
    pairs, rates, size = sizes[scale]
    return [
        {"data": data, "network": network, "method": method, "lr": lr, "seed": seed, **size}
        for data, network in pairs
        for method in METHODS
        for lr in rates
        for seed in range(1, seeds + 1)
    ]


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a network."""
    config = checked_config(
        {
            **{name: case[name] for name in ("data", "lr", "seed", "epochs", "steps")},
            **{"network": "stack", "layers": NETWORKS[case["network"]], "schedule": "one-cycle", "normalize": True},
            **{"clip": 0.0, "precision": "medium", **SETTINGS.get(case["method"], {})},
        }
    )
    images = subset(load_dataset(case["data"], data_root), train=case["train"], test=case["test"])
    epochs = train(config, *prepared(config, images), TRAINERS.get(case["method"], Trainer))
    return {
        "accuracy": [line["test"]["accuracy"] for line in epochs],
        "spike_rates": epochs[-1]["test"]["spike_rates"],
        "seconds": [line["seconds"] for line in epochs],
    }


def report(results: Results) -> Report:
    """Return accuracies by setting, the curves of each method at its best rate, and the statements."""
    groups = Groups(results, SETTING)
    rows = []
    for key, outcomes in groups.groups.items():
        accuracy, spread = mean_and_deviation([outcome["accuracy"][-1] for outcome in outcomes])
        rates = [list(outcome["spike_rates"].values()) for outcome in outcomes]
        rows.append(
            {
                **dict(zip(SETTING, key, strict=True)),
                "accuracy": accuracy,
                "deviation": spread,
                "spike rate of the first layer": mean_and_deviation([each[0] for each in rates])[0],
                "seconds of an epoch": mean_and_deviation([min(outcome["seconds"]) for outcome in outcomes])[0],
                "seeds": len(outcomes),
            }
        )
    return Report(rows, _figure(groups, rows), _findings(rows))


def _best(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Return of each data set and network the row of each method's best rate."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["accuracy"]):
        found.setdefault((row["data"], row["network"]), {})[row["method"]] = row
    return {(row["data"], row["network"]): found[row["data"], row["network"]] for row in rows}


def _findings(rows: list[dict[str, Any]]) -> list[Finding]:
    findings = []
    for (data, network), best in _best(rows).items():
        reached = {method: best[method]["accuracy"] for method in METHODS}
        numbers = ", ".join(f"{METHODS[name]} {100 * value:.1f} %" for name, value in reached.items())
        learned = max(reached.values()) > CHANCE + FAR
        findings += [
            Finding(
                f"{data}, {network}: LFP-ε is not below the surrogate.",
                f"at the better rates of each: {numbers}.",
                reached["epsilon"] >= reached["surrogate"] - SAME if learned else None,
            ),
            Finding(
                f"{data}, {network}: R-STDP is far below both.",
                f"{numbers}.",
                reached["stdp"] < min(reached["epsilon"], reached["surrogate"]) - FAR if learned else None,
            ),
        ]
    return findings


def _figure(groups: Groups, rows: list[dict[str, Any]]) -> Figure:
    best = _best(rows)
    figure = Figure(figsize=(PAGE_WIDTH, 3 * -(-len(best) // 2)), layout="constrained")
    plots = figure.subplots(-(-len(best) // 2), min(len(best), 2), squeeze=False).flat
    for axes, ((data, network), of_methods) in zip(plots, best.items(), strict=False):
        for method, label in METHODS.items():
            row = of_methods[method]
            outcomes = groups.groups[tuple(row[name] for name in SETTING)]
            curves = [[100 * accuracy for accuracy in outcome["accuracy"]] for outcome in outcomes]
            draw_curves(axes, curves, marker="o", color=COLOURS[method], label=f"{label}, lr {row['lr']:g}")
        label_epochs(axes)
        axes.set(ylabel="test accuracy [%]")
        axes.set_title(f"{data}, {network}", fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, frameon=False)
    return figure


EXPERIMENT = Experiment(
    "spiking convolutions on MNIST and CIFAR-10 by LFP, surrogate gradients and R-STDP (LFP, newer version)",
    {"smoke": 1, "small": 1, "paper": 3},
    cases,
    run,
    report,
    "network",
)
