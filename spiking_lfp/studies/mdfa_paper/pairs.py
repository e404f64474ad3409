"""Two classes learned by spiking networks in three ways: LFP below a mono readout, LFP alone, surrogate gradients.

Not in a paper: for one output mDFA guarantees the signs of the updates, and LFP needs only signs at the spikes below.
"""

import warnings
from itertools import product
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.figure import Figure

from spiking_lfp.data.samples import samples_of_classes
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import mean_and_deviation
from spiking_lfp.studies.mdfa_paper.alignment import draw_points
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateTrainer
from spiking_lfp.training import read_metrics
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.feeds import MemoryData
from spiking_lfp.training.loop import Trainer
from spiking_lfp.training.runs import network_for, samples_for

METHODS = {"mono": "LFP, mono readout", "spikes": "LFP, two spiking outputs", "surrogate": "surrogate gradients"}
COLOURS = {"mono": "#d55e00", "spikes": "#0072b2", "surrogate": "black"}
SETTINGS: dict[str, dict[str, Any]] = {
    "mono": {"readout": "mono"},
    "spikes": {"reward": "spike-rate"},
    "surrogate": {},
}
# learning rates and gains of the weights. LFP's were chosen on other pairs of classes; of the surrogate's those count
# that are best on test samples, so that it is not behind for lack of tuning
CANDIDATES = {"mono": [(1e-3, 3.0)], "spikes": [(1e-3, 3.0)], "surrogate": list(product([1e-3, 3e-3], [1.0, 3.0]))}
IMAGES = {"steps": 10, "batch_size": 64, "epochs": 3}
SETS: dict[str, dict[str, Any]] = {
    "mnist": IMAGES,
    "mnist-subset": IMAGES,
    "n-mnist": {"steps": 20, "batch_size": 20, "epochs": 20},
    "dvs128-objects": {
        "steps": 10, "batch_size": 32, "epochs": 10, "window_ms": 100.0, "windows": "all", "centre": True,
        "downsample": 4,
    },
}  # fmt: skip
PAIRS = 5


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return every method on several pairs of classes, for several seeds."""
    names = {"smoke": ["mnist-subset"], "small": ["mnist", "n-mnist", "dvs128-objects"]}
    names["paper"] = names["small"]
    hidden = {"smoke": [50], "small": [500], "paper": [1000, 1000]}[scale]
    return [
        {
            "data": name, "pair": pair, "method": method, "hidden": hidden, "lr": lr, "gain": gain, "seed": seed,
            "epochs": 1 if scale == "smoke" else SETS[name]["epochs"],
        }
        for name in names[scale]
        for pair in range(1 if scale == "smoke" else PAIRS)
        for method in METHODS
        for lr, gain in (CANDIDATES[method][:1] if scale == "smoke" else CANDIDATES[method])
        for seed in range(1, seeds + 1)
    ]  # fmt: skip


def classes_of_pair(classes: int, pair: int) -> list[int]:
    """Return the two classes of a pair, drawn at random from `classes`; no pair is drawn twice."""
    pairs = torch.combinations(torch.arange(classes))
    chosen: list[int] = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[pair]].tolist()
    return chosen


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train one network on a pair of classes."""
    config = checked_config(
        {
            **SETS[case["data"]],
            **SETTINGS[case["method"]],
            **{name: case[name] for name in ("data", "hidden", "lr", "gain", "seed", "epochs")},
        }
    )
    samples = samples_for(config, data_root)
    samples = samples_of_classes(samples, classes_of_pair(len(samples.class_names), case["pair"]))
    torch.manual_seed(config.seed)
    network = network_for(config, samples)
    method = SurrogateTrainer if case["method"] == "surrogate" else Trainer
    training = method(config, MemoryData(samples), network, torch.device("cpu"))
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about silent layers: the accuracy shows them
        training.folder = Path(folder)
        training.finish()
        epochs = [line for line in read_metrics(training.folder) if line["kind"] == "epoch"]
    return {
        "accuracy": [line["test"]["accuracy"] for line in epochs],
        "classes": list(samples.class_names),
        "spike_rate": fmean(list(epochs[-1]["test"]["spike_rates"].values())[: len(case["hidden"])]),
    }


def report(results: Results) -> Report:
    """Return accuracies by pair and method, and whether the mono readout is as good as surrogate gradients."""
    means: dict[tuple[str, str], float] = {}
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for (name, method, *setting), mean in Groups(results, ("data", "method", "lr", "gain")).mean(_last).items():
        if mean > means.get((name, method), 0):
            means[name, method], best[name, method] = mean, tuple(setting)
    rows = []
    for (name, pair, method, *setting), outcomes in Groups(
        results, ("data", "pair", "method", "lr", "gain")
    ).groups.items():
        if tuple(setting) != best[name, method]:
            continue
        accuracy, spread = mean_and_deviation(list(map(_last, outcomes)))
        rows.append(
            {
                "data": name, "pair": " / ".join(outcomes[0]["classes"]), "number": pair, "method": method,
                "lr": setting[0], "gain": setting[1],
                "accuracy": accuracy, "deviation": spread,
                "hidden spike rate": fmean(outcome["spike_rate"] for outcome in outcomes), "seeds": len(outcomes),
            }
        )  # fmt: skip
    findings = [
        Finding(
            f"{name}: LFP below a mono readout is at least as accurate as tuned surrogate gradients.",
            ", ".join(f"{title} {means[name, method]:.2%}" for method, title in METHODS.items())
            + ", mean over all pairs",
            means[name, "mono"] >= means[name, "surrogate"],
        )
        for name in dict.fromkeys(name for name, _ in means)
    ]
    return Report(rows, _figure(rows), findings)


def _last(outcome: Outcome) -> float:
    accuracy: float = outcome["accuracy"][-1]
    return accuracy


def _figure(rows: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 1.9 * len(names)), layout="constrained")
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        of_set = [row for row in rows if row["data"] == name]
        draw_points(
            axes,
            [(row["pair"], METHODS[row["method"]], row["accuracy"], row["deviation"]) for row in of_set],
            {METHODS[method]: COLOURS[method] for method in METHODS},
        )
        axes.set_title(name, fontsize=10)
    axes.set_xlabel("test accuracy [%]")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


SEEDS: dict[Scale, int] = {"smoke": 1, "small": 3, "paper": 3}
EXPERIMENT = Experiment(
    "spiking networks on pairs of classes: LFP below a mono readout, LFP alone, surrogate gradients",
    SEEDS, cases, run, report, "data",
)  # fmt: skip
