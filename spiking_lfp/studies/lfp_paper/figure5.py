"""LFP fig. 5: how LFP changes the parameters of a network, and how well the network can be pruned, on digits.

The paper divides the feedback by its largest magnitude after each layer (app. A.6.4), so updates of the lower layers
stay large however small the feedback is. With torch's SGD, whose momentum of 0.9 makes steps ten times longer,
LFP-epsilon stays at chance; with that of eq. 5, which weighs the new update by 1 - momentum (torch's `dampening`), it
learns. Gradients are not normalised here, and use torch's SGD: normalised, they stay at chance with either.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spiking_lfp.data import load_dataset, subset
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import (
    COLOURS,
    GRADIENT,
    NAMES,
    Data,
    Learner,
    ParameterWatch,
    draw_curves,
    label_epochs,
    lenet,
    mean_and_deviation,
    pruned_accuracies,
    train,
)

RULES = ("epsilon", "zplus-zminus")
MOMENTUM = 0.9
# fractions of the weights set to 0
STEP = 0.05
PRUNED = tuple(round(STEP * step, 2) for step in range(20))
# loss of accuracy up to which pruning preserves it; differences of methods that count as equal, and as slightly worse
PRESERVED, EQUAL, SLIGHTLY = 0.05, 0.01, 0.1


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return training by gradients, and by each rule from the start or after some updates by gradients."""
    sizes: dict[str, Case] = {
        "smoke": {"data": "mnist-subset", "train": 320, "test": 200, "epochs": 2},
        "small": {"data": "mnist-subset", "train": 10_000, "test": 2000, "epochs": 10},
        "paper": {"data": "mnist", "train": None, "test": None, "epochs": 10},
    }
    first = {"smoke": 5, "small": 100, "paper": 100}[scale]
    kinds = [(GRADIENT, 0), *((rule, updates) for rule in RULES for updates in (0, first))]
    return [
        {"method": method, "pretraining": updates, "seed": seed, **sizes[scale]}
        for method, updates in kinds
        for seed in range(1, seeds + 1)
    ]


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a case at learning rate 0.01 in batches of 32, its first updates by gradients, and prune it."""
    data = Data.of_images(subset(load_dataset(case["data"], data_root), None, case["train"], case["test"]))
    torch.manual_seed(case["seed"])
    model = lenet(data.train_x.shape[1:], data.classes)
    median = ParameterWatch(model).measure()["median"]
    gradient = Learner(model, GRADIENT, torch.optim.SGD(model.parameters(), 0.01, MOMENTUM))
    learner_from = {}
    if case["method"] != GRADIENT:
        damped = torch.optim.SGD(model.parameters(), 0.01, MOMENTUM, dampening=MOMENTUM)
        learner_from[case["pretraining"]] = Learner(model, case["method"], damped, normalize=True)
    curves = train(gradient, data, case["epochs"], 32, case["seed"], learner_from)
    curves["median"].insert(0, median)
    return {**curves, "pruned": pruned_accuracies(model, data, PRUNED)}


def report(results: Results) -> Report:
    """Compare accuracies, sign changes, pruning and magnitudes of the weights."""
    groups = Groups(results, ("method", "pretraining"))
    rows = []
    for (method, updates), outcomes in groups.groups.items():
        accuracy, spread = mean_and_deviation([outcome["accuracy"][-1] for outcome in outcomes])
        row = {"method": method, "gradient updates before": updates, "accuracy": accuracy, "deviation": spread}
        for percent in (70, 80, 90):
            pruned = [outcome["pruned"][PRUNED.index(percent / 100)] for outcome in outcomes]
            row[f"{percent} % pruned"], row[f"deviation at {percent} %"] = mean_and_deviation(pruned)
        rows.append(
            {
                **row,
                "preserved up to": fmean(map(_preserved, outcomes)),
                "signs changed in a later epoch": fmean(fmean(outcome["sign_changes"][1:]) for outcome in outcomes),
                "median at first": fmean(outcome["median"][0] for outcome in outcomes),
                "median at last": fmean(outcome["median"][-1] for outcome in outcomes),
                "seconds of an epoch": fmean(min(outcome["seconds"]) for outcome in outcomes),
                "seeds": len(outcomes),
            }
        )
    return Report(rows, _figure(groups), _findings(groups))


def _preserved(outcome: Outcome) -> float:
    """Return the largest fraction up to which pruning preserves the accuracy."""
    least = outcome["pruned"][0] - PRESERVED
    preserved = 0.0
    for fraction, accuracy in zip(PRUNED, outcome["pruned"], strict=True):
        if accuracy < least:
            break
        preserved = fraction
    return preserved


def _findings(groups: Groups) -> list[Finding]:
    gradient = (GRADIENT, 0)
    first = max(updates for _, updates in groups.groups)
    epsilon, later_epsilon, z, later_z = ((rule, updates) for rule in RULES for updates in (0, first))
    feedback = (epsilon, later_epsilon, z, later_z)

    def each(value: Callable[[Outcome], float], form: str) -> tuple[dict[tuple[str, int], float], str]:
        """Return the mean of a value for each kind of training, as numbers and as text."""
        means = groups.mean(value)
        return means, ", ".join(f"{_name(*kind)} {mean:{form}}" for kind, mean in means.items())

    last, accuracies = each(lambda outcome: outcome["accuracy"][-1], ".1%")
    learned = last[gradient] > 0.5

    def finding(paper: str, found: str, holds: bool) -> Finding:
        return Finding(paper, found, holds if learned else None)

    speed, speeds = each(lambda outcome: outcome["accuracy"][0], ".1%")
    signs, all_signs = each(lambda outcome: fmean(outcome["sign_changes"][1:]), ".2%")
    preserved, all_preserved = each(_preserved, ".0%")
    at_85, all_at_85 = each(lambda outcome: outcome["pruned"][PRUNED.index(0.85)], ".1%")
    at_90, all_at_90 = each(lambda outcome: outcome["pruned"][PRUNED.index(0.9)], ".1%")
    fall, falls = each(lambda outcome: outcome["median"][0] - outcome["median"][1], ".3f")
    later_fall = groups.mean(lambda outcome: outcome["median"][1] - outcome["median"][-1])[gradient]
    moved, moves = each(lambda outcome: abs(outcome["median"][-1] - outcome["median"][0]), ".3f")
    return [
        finding(
            "LFP-epsilon achieves final performances equal to gradient descent regardless of pretraining.",
            f"final accuracies {accuracies}; equal means within {EQUAL:.0%}.",
            all(last[kind] >= last[gradient] - EQUAL for kind in (epsilon, later_epsilon)),
        ),
        finding(
            "LFP-z+z- performs slightly worse, but slightly better in the pretrained setting.",
            f"final accuracies {accuracies}; slightly means up to {SLIGHTLY:.0%}.",
            last[gradient] - SLIGHTLY <= last[z] < min(last[gradient], last[later_z]),
        ),
        finding(
            "Gradient descent converges the fastest, and pretraining by it makes LFP converge faster.",
            f"accuracies after the first epoch {speeds}.",
            speed[gradient] >= max(speed.values())
            and speed[later_epsilon] > speed[epsilon]
            and speed[later_z] > speed[z],
        ),
        finding(
            "Signs of parameters change throughout training by gradients, and are constant as soon as LFP is applied.",
            f"an epoch after the first changes {all_signs}; constant means less than a tenth of those by gradients.",
            all(signs[kind] < signs[gradient] / 10 for kind in feedback),
        ),
        finding(
            "Models trained with LFP-epsilon preserve their performance the longest, until almost 90 % of weights are "
            "pruned; those trained with gradients lose it around 70 %.",
            f"within {PRESERVED:.0%} of the accuracy before up to {all_preserved}; at 90 % pruned {all_at_90}.",
            min(preserved[epsilon], preserved[later_epsilon]) >= 0.85 and 0.6 <= preserved[gradient] <= 0.8,
        ),
        finding(
            "LFP-epsilon preserves performance under pruning longer than gradients do.",
            f"within {PRESERVED:.0%} of the accuracy before up to {all_preserved}; longer means by {STEP:.0%} or more.",
            min(preserved[epsilon], preserved[later_epsilon]) >= preserved[gradient] + STEP,
        ),
        finding(
            "With pretraining LFP-z+z- preserves performance under pruning for much longer than without.",
            f"within {PRESERVED:.0%} of the accuracy before up to {all_preserved}; much longer: above {STEP:.0%}.",
            preserved[later_z] > preserved[z] + STEP,
        ),
        finding(
            "LFP-z+z-, especially if pretrained, overtakes gradients above 80 % of parameters pruned.",
            f"at 85 % pruned {all_at_85}; at 90 % {all_at_90}.",
            at_85[later_z] > at_85[gradient] and at_90[later_z] > at_90[gradient],
        ),
        finding(
            "Gradient descent significantly reduces the median magnitude, normalised by the 75th percentile, "
            "especially in the beginning of training.",
            f"in the first epoch it falls by {falls}; by gradients {later_fall:.3f} in all epochs after.",
            fall[gradient] > 0.01 and fall[gradient] > later_fall,
        ),
        finding(
            "Of the rules, LFP-z+z- changes the distribution of magnitudes the least.",
            f"from the first to the last epoch the median moves by {moves}.",
            moved[z] < moved[epsilon] and moved[later_z] < moved[later_epsilon],
        ),
    ]


def _name(method: str, updates: int) -> str:
    return f"{GRADIENT} then {method}" if updates else method


def _figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 6.4), layout="constrained")
    panels: list[Axes] = list(figure.subplots(2, 2).flat)
    for (method, updates), outcomes in groups.groups.items():
        style: dict[str, Any] = {"color": COLOURS[method], "linestyle": "--" if updates else "-", "marker": "."}

        def curves(name: str, factor: float = 100.0, outcomes: list[Outcome] = outcomes) -> list[list[float]]:
            return [[factor * value for value in outcome[name]] for outcome in outcomes]

        label = f"gradient, then {NAMES[method]}" if updates else NAMES[method]
        draw_curves(panels[0], curves("accuracy"), label=label, **style)
        draw_curves(panels[1], curves("sign_changes"), **style)
        draw_curves(panels[2], curves("pruned"), [100 * fraction for fraction in PRUNED], **style)
        medians = curves("median", 1.0)
        draw_curves(panels[3], medians, [float(epoch) for epoch in range(len(medians[0]))], **style)
    panels[0].set(title="I: accuracy", ylabel="test accuracy [%]")
    panels[1].set(title="II: sign changes", ylabel="parameters that changed sign [%]")
    panels[2].set(title="III: pruning", xlabel="weights pruned [%]", ylabel="test accuracy [%]")
    panels[3].set(title="IV: median magnitude", ylabel="in units of the 75th percentile")
    for axes in (panels[0], panels[1], panels[3]):
        label_epochs(axes)
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


EXPERIMENT = Experiment(
    title="LFP and gradients on a LeNet for MNIST: signs, pruning, magnitudes (LFP fig. 5)",
    seeds={"smoke": 1, "small": 2, "paper": 5},
    cases=cases,
    run=run,
    report=report,
)
