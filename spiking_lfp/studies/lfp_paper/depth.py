"""Gradients and feedback in deep ReLU networks, and training by them (LFP app. A.4).

The paper does not state how the weights of fig. A.2 are initialised. Here weights and biases are normal with He's
variance of 2 / inputs, as in Balduzzi et al. 2017, who describe shattered gradients. With torch's initialisation,
signals fade with depth and leave a network nearly linear; with biases of 0 a network of one input is linear on both
sides of 0. Signals start as in training, by eq. 7 for feedback and the cross entropy for gradients. They are shown at
the input, where feedback has the input as a factor and gradients do not; so the table also has the correlation without
that factor.

The paper does not state the reward and the batch size of fig. A.3 either: here they are eq. 7 and 128, the batch size
of the authors' package.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.lfp.rewards import logit_reward, propagate
from spiking_lfp.nn.composites import composite
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import COLOURS, GRADIENT, NAMES, Learner, train
from spiking_lfp.studies.lfp_paper.toy import MOMENTUM, RATE, normalized_mlp, toy_data, toy_inputs, toy_labels

METHODS = (GRADIENT, "epsilon", "zplus-zminus", "alpha2-beta1")
STEP, NEURONS = 0.02, 200
DEEP = 200  # hidden layers from which on a network counts as very deep
# mean magnitude relative to the largest one, below which a signal counts as vanished
VANISHED = 0.1
# correlation of neighbours above which a signal counts as stable, and loss of correlation that counts as shattering
STABLE, LOST = 0.95, 0.1
# accuracy at chance for two classes, accuracy up to which a network counts as random, and loss that is significant
CHANCE, RANDOM, REDUCED = 0.5, 0.6, 0.1
QUARTILES = {"minimum": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "maximum": 1.0}


def deep_network(hidden: int, seed: int) -> nn.Sequential:
    """Build the network of fig. A.2: a layer of 200 neurons, `hidden` more of them, and 2 outputs."""
    network = normalized_mlp([1, *[NEURONS] * (1 + hidden), 2])
    generator = torch.Generator().manual_seed(seed)
    for layer in network:
        if isinstance(layer, nn.Linear):
            for parameter in (layer.weight, layer.bias):
                nn.init.normal_(parameter, std=(2 / layer.in_features) ** 0.5, generator=generator)
    return network


def signal(network: nn.Module, method: str) -> Float[Tensor, " inputs"]:
    """Return the gradient or feedback at each input of fig. A.2, in ascending order of the inputs."""
    inputs = toy_inputs(STEP).requires_grad_()
    labels = toy_labels(inputs)
    if method == GRADIENT:
        F.cross_entropy(network(inputs), labels).backward()
    else:
        with composite(method).applied(network):
            logits = network(inputs)
        propagate(logits, logit_reward(logits, labels))
    assert inputs.grad is not None
    return inputs.grad[:, 0]


def correlation(values: Float[Tensor, " inputs"]) -> float:
    """Return the correlation of values with their neighbours, 0 for constant values."""
    pairs = torch.stack((values[:-1], values[1:])).double()
    pairs = pairs - pairs.mean(1, keepdim=True)
    spread = pairs.square().sum(1).prod().sqrt()
    return float(pairs.prod(0).sum() / spread) if spread > 0 else 0.0


def shattering_cases(scale: Scale, seeds: int) -> list[Case]:
    """Return one case for each seed."""
    hidden = [0, 10] if scale == "smoke" else [0, 1, 10, 50, 200, 500]
    return [{"seed": seed, "hidden": hidden} for seed in range(1, seeds + 1)]


def run_shattering(case: Case, data_root: Path | None) -> Outcome:
    """Propagate the signal of each method back through a network of each depth."""
    signals = []
    for hidden in case["hidden"]:
        network = deep_network(hidden, case["seed"])
        for method in METHODS:
            values = signal(network, method)
            factor = 1.0 if method == GRADIENT else toy_inputs(STEP)[:, 0]
            signals.append(
                {
                    "hidden": hidden,
                    "method": method,
                    "correlation": correlation(values),
                    "without factor": correlation(values / factor),
                    "zero": float((values == 0).float().mean()),
                    "size": float(values.abs().mean()),
                    "values": [round(value, 5) for value in values.tolist()],
                }
            )
    return {"signals": signals}


def report_shattering(results: Results) -> Report:
    """Compare the methods by depth."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for _, outcome in results:
        for each in outcome["signals"]:
            groups.setdefault((each["hidden"], each["method"]), []).append(each)
    rows: list[dict[str, Any]] = [
        {
            "hidden layers": hidden,
            "method": method,
            "correlation": fmean(each["correlation"] for each in signals),
            "without the factor": fmean(each["without factor"] for each in signals),
            "share of 0": fmean(each["zero"] for each in signals),
            "mean size": fmean(each["size"] for each in signals),
            "seeds": len(signals),
        }
        for (hidden, method), signals in groups.items()
    ]
    return Report(rows, _shattering_figure(results[0][1]), _shattering_findings(rows))


def _shattering_findings(rows: list[dict[str, Any]]) -> list[Finding]:
    shallow, deep = (
        {row["method"]: row for row in rows if row["hidden layers"] == hidden}
        for hidden in (min(row["hidden layers"] for row in rows), max(row["hidden layers"] for row in rows))
    )
    layers = deep[GRADIENT]["hidden layers"]
    before, after = ({method: row["correlation"] for method, row in by.items()} for by in (shallow, deep))
    size = {method: row["mean size"] for method, row in deep.items()}
    findings = [
        Finding(
            f"{title} become increasingly noise-like for deeper models.",
            f"the correlation of neighbours changes from {before[method]:.2f} to {after[method]:.2f} at {layers} "
            f"hidden layers; a loss of more than {LOST:g} counts as noise.",
            before[method] - after[method] > LOST if layers >= DEEP else None,
        )
        for method, title in ((GRADIENT, "Gradients"), ("epsilon", "Values of LFP-epsilon"))
    ]
    others = max(after[GRADIENT], after["epsilon"])
    return [
        *findings,
        Finding(
            "LFP-epsilon seems to vanish as well.",
            f"at {layers} hidden layers its mean magnitude is {size['epsilon']:.3f} of the largest, that of gradients "
            f"{size[GRADIENT]:.3f}, of LFP-z+z- {size['zplus-zminus']:.3f}; below {VANISHED:g} counts as vanished.",
            size["epsilon"] < VANISHED if layers >= DEEP else None,
        ),
        Finding(
            "Rules that separate positive and negative contributions do not shatter to the same extent.",
            f"at {layers} hidden layers their correlations are {after['zplus-zminus']:.3f} and "
            f"{after['alpha2-beta1']:.3f}, the larger one of the others is {others:.3f}.",
            min(after["zplus-zminus"], after["alpha2-beta1"]) > others if layers >= DEEP else None,
        ),
        Finding(
            "LFP-z+z- provides an extremely stable signal even for 500 hidden layers.",
            f"its correlation is {after['zplus-zminus']:.3f} at {layers} hidden layers, without the factor "
            f"{deep['zplus-zminus']['without the factor']:.3f}; above {STABLE:g} counts as stable.",
            after["zplus-zminus"] > STABLE if layers >= DEEP else None,
        ),
    ]


def _shattering_figure(outcome: Outcome) -> Figure:
    depths = sorted({each["hidden"] for each in outcome["signals"]})
    inputs = toy_inputs(STEP)[:, 0].tolist()
    figure = Figure(figsize=(PAGE_WIDTH, 5), layout="constrained")
    panels = figure.subplots(len(METHODS), len(depths), sharex=True, sharey=True)
    for each in outcome["signals"]:
        axes = panels[METHODS.index(each["method"]), depths.index(each["hidden"])]
        axes.plot(inputs, each["values"], color=COLOURS[each["method"]], linewidth=0.8)
        axes.set(ylim=(-1.1, 1.1), xticks=(-4, 0, 4))
    for axes, hidden in zip(panels[0], depths, strict=True):
        axes.set_title(f"{hidden} hidden", fontsize=9)
    for axes, method in zip(panels[:, 0], METHODS, strict=True):
        axes.set_ylabel(NAMES[method], color=COLOURS[method], fontsize=9)
    for axes in panels.flat:
        axes.tick_params(labelsize=8)
    figure.supxlabel("input", fontsize=10)
    figure.supylabel("value at the input", fontsize=10)
    return figure


def depth_cases(scale: Scale, seeds: int) -> list[Case]:
    """Return one case for each seed and number of neurons."""
    neurons, hidden, batch_size, epochs = {
        "smoke": ([8], [1, 20], 4096, 1),
        "small": ([8, 32], [1, 2, 3, 6, 20], 128, 1),
        "paper": ([8, 16, 32, 64], [1, 2, 3, 4, 5, 6, 20], 128, 5),
    }[scale]
    return [
        {"seed": seed, "neurons": each, "hidden": hidden, "batch_size": batch_size, "epochs": epochs}
        for each in neurons
        for seed in range(1, seeds + 1)
    ]


def run_depth(case: Case, data_root: Path | None) -> Outcome:
    """Train a network of each depth by each method, from the same weights."""
    data = toy_data(case["seed"])
    accuracies = []
    for hidden in case["hidden"]:
        for method in METHODS:
            torch.manual_seed(case["seed"])
            network = normalized_mlp([1, *[case["neurons"]] * hidden, 2])
            learner = Learner(network, method, torch.optim.SGD(network.parameters(), RATE, MOMENTUM))
            curves = train(learner, data, case["epochs"], case["batch_size"], case["seed"])
            accuracies.append({"hidden": hidden, "method": method, "accuracy": curves["accuracy"][-1]})
    return {"accuracies": accuracies}


def report_depth(results: Results) -> Report:
    """Compare the methods by depth, over seeds and numbers of neurons."""
    groups: dict[tuple[int, str], list[float]] = {}
    for _, outcome in results:
        for each in outcome["accuracies"]:
            groups.setdefault((each["hidden"], each["method"]), []).append(each["accuracy"])
    rows = [
        {
            "hidden layers": hidden,
            "method": method,
            "mean": fmean(accuracies),
            **{name: float(torch.tensor(accuracies).quantile(quantile)) for name, quantile in QUARTILES.items()},
            "runs": len(accuracies),
        }
        for (hidden, method), accuracies in groups.items()
    ]
    return Report(rows, _depth_figure(rows), _depth_findings({key: fmean(each) for key, each in groups.items()}))


def _depth_findings(means: dict[tuple[int, str], float]) -> list[Finding]:
    depths = sorted({hidden for hidden, _ in means})
    moderate = [hidden for hidden in depths if 1 < hidden <= 6]
    overall = {method: fmean(means[hidden, method] for hidden in moderate) for method in METHODS if moderate}
    shown = ", ".join(f"{method} {value:.1%}" for method, value in overall.items())
    separate = ("zplus-zminus", "alpha2-beta1")
    first, six, last = (
        [means[hidden, method] for method in separate] if hidden in depths else [] for hidden in (1, 6, 20)
    )
    texts = [" and ".join(f"{value:.1%}" for value in values) or "unknown" for values in (first, six, last)]
    return [
        Finding(
            "LFP-z+z- and LFP-alpha2-beta1 are most robust against depth.",
            f"mean accuracies over networks of 2 to 6 hidden layers: {shown or 'none trained'}.",
            min(overall[each] for each in separate) > max(overall[GRADIENT], overall["epsilon"]) if overall else None,
        ),
        Finding(
            "Their performance is already significantly reduced at 6 hidden layers.",
            f"their accuracies are {texts[0]} at 1 and {texts[1]} at 6; more than {REDUCED:.0%} less is significant.",
            all(before - after > REDUCED for before, after in zip(first, six, strict=True)) if six else None,
        ),
        Finding(
            "It is completely random at 20 hidden layers.",
            f"it is {texts[2]}; less than {RANDOM:.0%} counts as random.",
            max(last) < RANDOM,
        ),
    ]


def _depth_figure(rows: list[dict[str, Any]]) -> Figure:
    """Draw the quantiles of each method as transparent bars on top of each other: what more runs reach is darker."""
    depths = sorted({row["hidden layers"] for row in rows})
    figure = Figure(figsize=(PAGE_WIDTH, 3.2), layout="constrained")
    panels = figure.subplots(1, len(depths), sharey=True)
    for row in rows:
        axes = panels[depths.index(row["hidden layers"])]
        position = METHODS.index(row["method"])
        for name in QUARTILES:
            label = NAMES[row["method"]] if name == "minimum" else None
            axes.bar(position, 100 * row[name], 0.85, color=COLOURS[row["method"]], alpha=0.3, linewidth=0, label=label)
        axes.hlines(100 * row["median"], position - 0.42, position + 0.42, color="white", linewidth=1.5)
    for axes, hidden in zip(panels, depths, strict=True):
        axes.axhline(100 * CHANCE, color="grey", linewidth=0.8, linestyle=":")
        axes.set(title=f"{hidden} hidden layer{'s' if hidden > 1 else ''}", xticks=[], ylim=(0, 102))
        axes.title.set_fontsize(9)
    panels[0].set_ylabel("test accuracy [%]")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(METHODS),
        fontsize=8,
        frameon=False,
        title="from dark to light: minimum, 25 %, median (with a line), 75 %, maximum",
        title_fontsize=8,
    )
    return figure


SHATTERING = Experiment(
    title="Gradients and feedback at the input of deep networks: signal or noise (LFP fig. A.2)",
    seeds={"smoke": 1, "small": 3, "paper": 10},
    cases=shattering_cases,
    run=run_shattering,
    report=report_shattering,
)
DEPTH = Experiment(
    title="Training of networks with up to 20 hidden layers, by gradients and three LFP rules (LFP fig. A.3)",
    seeds={"smoke": 1, "small": 3, "paper": 3},
    cases=depth_cases,
    run=run_depth,
    report=report_depth,
)
