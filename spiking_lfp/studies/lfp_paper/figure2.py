"""LFP fig. 2: LFP-epsilon against gradients on small photographs, at three learning rates.

Of the learning rates only 10^-2 and 10^-1 are legible in the paper's text; the third is taken to be 10^-3. Without the
files of CIFAR-10, the available classes of CIFAR-100 are used in its place.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from spiking_lfp.data import ImageDataset, load_dataset, subset
from spiking_lfp.errors import DataError
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import (
    COLOURS,
    GRADIENT,
    NAMES,
    Data,
    Learner,
    draw_curves,
    label_epochs,
    lenet,
    mean_and_deviation,
    relu_mlp,
    train,
)

NETWORKS = {"mlp": "MLP", "lenet": "LeNet"}
RATES = (0.001, 0.01, 0.1)
STYLES = dict(zip(RATES, (":", "--", "-"), strict=True))
# difference of accuracy within which two methods count as comparable
COMPARABLE = 0.03


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return each network by each method at each learning rate; at one rate only for a smoke test."""
    sizes: dict[str, Case] = {
        "smoke": {"data": "mnist-subset", "classes": 10, "train": 200, "test": 100, "epochs": 2},
        "small": {"data": "cifar10", "classes": 10, "train": 3000, "test": 1000, "epochs": 10},
        "paper": {"data": "cifar10", "classes": None, "train": None, "test": None, "epochs": 20},
    }
    return [
        {"network": network, "method": method, "lr": rate, "seed": seed, **sizes[scale]}
        for network in NETWORKS
        for method in (GRADIENT, "epsilon")
        for rate in (RATES[-1:] if scale == "smoke" else RATES)
        for seed in range(1, seeds + 1)
    ]


def photographs(name: str, root: Path | None) -> ImageDataset:
    """Return a data set, or classes of CIFAR-100 in place of CIFAR-10 where that is not available."""
    try:
        return load_dataset(name, root, download=False)
    except DataError:
        if name != "cifar10":
            raise
        return load_dataset("cifar100-classes", root)


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a case by SGD with momentum 0.9 in batches of 32 (LFP app. A.6.1)."""
    dataset = photographs(case["data"], data_root)
    classes = None if case["classes"] is None else range(case["classes"])
    images = subset(dataset, classes, case["train"], case["test"])
    data = Data.of_images(images)
    torch.manual_seed(case["seed"])
    shape = data.train_x.shape[1:]
    if case["network"] == "mlp":
        model = relu_mlp([shape.numel(), 512, 256, 128, data.classes], dropout=0.5)
    else:
        model = lenet(shape, data.classes)
    learner = Learner(model, case["method"], torch.optim.SGD(model.parameters(), case["lr"], momentum=0.9))
    return {"data": dataset.name, "classes": data.classes, **train(learner, data, case["epochs"], 32, case["seed"])}


def report(results: Results) -> Report:
    """Compare the methods at their best learning rates."""
    groups = Groups(results, ("network", "method", "lr"))
    rows = []
    for (network, method, rate), outcomes in groups.groups.items():
        accuracy, spread = mean_and_deviation([outcome["accuracy"][-1] for outcome in outcomes])
        rows.append(
            {
                "network": network,
                "method": method,
                "lr": rate,
                "accuracy": accuracy,
                "deviation": spread,
                "seconds of an epoch": mean_and_deviation([min(outcome["seconds"]) for outcome in outcomes])[0],
                "data": outcomes[0]["data"],
                "seeds": len(outcomes),
            }
        )
    return Report(rows, _figure(groups), _findings(groups))


def _networks(groups: Groups) -> list[str]:
    return list(dict.fromkeys(network for network, *_ in groups.groups))


def _findings(groups: Groups) -> list[Finding]:
    last = groups.mean(lambda outcome: outcome["accuracy"][-1])
    chance = 1 / next(iter(groups.groups.values()))[0]["classes"]
    rates = sorted({rate for *_, rate in groups.groups})
    findings = []
    for network in _networks(groups):
        title = NETWORKS[network]
        best = {method: max((last[network, method, rate], rate) for rate in rates) for method in (GRADIENT, "epsilon")}
        (gradient, gradient_rate), (feedback, feedback_rate) = best[GRADIENT], best["epsilon"]
        learned = max(gradient, feedback) > 1.5 * chance
        findings += [
            Finding(
                f"{title}: with the right choice of hyperparameters LFP achieves performance comparable to gradient "
                "descent.",
                f"at their best learning rates LFP-epsilon reaches {feedback:.1%}, gradient {gradient:.1%}; comparable "
                f"means at most {COMPARABLE:.0%} below.",
                feedback >= gradient - COMPARABLE if learned else None,
            ),
            Finding(
                f"{title}: the learning rates at which both perform best differ.",
                f"LFP-epsilon is best at {feedback_rate:g}, gradient at {gradient_rate:g}.",
                feedback_rate != gradient_rate if learned else None,
            ),
        ]
    return findings


def _figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 3.6), layout="constrained")
    networks = _networks(groups)
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        for (trained, method, rate), outcomes in groups.groups.items():
            if trained == network:
                curves = [[100 * value for value in outcome["accuracy"]] for outcome in outcomes]
                label = f"{NAMES[method]}, {rate:g}"
                draw_curves(axes, curves, color=COLOURS[method], linestyle=STYLES[rate], marker=".", label=label)
        axes.set_title(NETWORKS[network])
        label_epochs(axes)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy [%]")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
        title="method, learning rate",
        title_fontsize=8,
    )
    return figure


EXPERIMENT = Experiment(
    title="LFP-epsilon and gradients on CIFAR-10, or classes of CIFAR-100: MLP and LeNet, three rates (LFP fig. 2)",
    seeds={"smoke": 1, "small": 2, "paper": 5},
    cases=cases,
    run=run,
    report=report,
    parts="network",
)
