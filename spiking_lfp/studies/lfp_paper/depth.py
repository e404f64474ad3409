"""What becomes of gradients and feedback in deep ReLU networks, and of training by them (LFP app. A.4).

The paper does not state how the weights of fig. A.2 are drawn. As for Balduzzi et al. 2017, who found gradients to
shatter, they and the biases are normal with He's variance of 2 / inputs. As torch draws them, signals fade with depth
and leave a network nearly linear; with biases of 0 a network of one input is linear on both sides of 0. Signals start
as in training, by eq. 7 for feedback and the cross entropy for gradients. They are shown at the input, where feedback
has the input as a factor and gradients have not; so the table has the correlation without that factor too.

Nor does it state reward and batch size for fig. A.3: eq. 7 is taken, in the batches of 128 of the authors' package.
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
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ordinary import COLOURS, GRADIENT, NAMES, Learner, train
from spiking_lfp.studies.lfp_paper.toy import MOMENTUM, RATE, normalized_mlp, toy_data, toy_inputs, toy_labels

METHODS = (GRADIENT, "epsilon", "zplus-zminus", "alpha2-beta1")
STEP, NEURONS = 0.02, 200
DEEP = 200  # hidden layers that are very many
# a mean size of values, as a share of the largest, below which they are said to vanish
VANISHED = 0.1
# correlations between neighbours that are called stable, and a loss of it that is called shattering
STABLE, LOST = 0.95, 0.1
# of two classes, an accuracy that is hardly better, and a loss of it that counts
CHANCE, RANDOM, REDUCED = 0.5, 0.6, 0.1
QUARTILES = {"minimum": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "maximum": 1.0}


def deep_network(hidden: int, seed: int) -> nn.Sequential:
    """Build the network of fig. A.2: 200 neurons, `hidden` times more 200, and 2 outputs."""
    network = normalized_mlp([1, *[NEURONS] * (1 + hidden), 2])
    generator = torch.Generator().manual_seed(seed)
    for layer in network:
        if isinstance(layer, nn.Linear):
            for parameter in (layer.weight, layer.bias):
                nn.init.normal_(parameter, std=(2 / layer.in_features) ** 0.5, generator=generator)
    return network


def signal(network: nn.Module, method: str) -> Float[Tensor, " inputs"]:
    """Return the gradient or feedback that arrives at the inputs of fig. A.2, in the order of these."""
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
    """Return the correlation of values with their neighbours, 0 where there is nothing that varies."""
    pairs = torch.stack((values[:-1], values[1:])).double()
    pairs = pairs - pairs.mean(1, keepdim=True)
    spread = pairs.square().sum(1).prod().sqrt()
    return float(pairs.prod(0).sum() / spread) if spread > 0 else 0.0


def shattering_cases(scale: Scale, seeds: int) -> list[Case]:
    """Return one for each seed."""
    hidden = [0, 10] if scale == "smoke" else [0, 1, 10, 50, 200, 500]
    return [{"seed": seed, "hidden": hidden} for seed in range(1, seeds + 1)]


def run_shattering(case: Case, data_root: Path | None) -> Outcome:
    """Send the signal of each method back through a network of each depth."""
    found = []
    for hidden in case["hidden"]:
        network = deep_network(hidden, case["seed"])
        for method in METHODS:
            values = signal(network, method)
            factor = 1.0 if method == GRADIENT else toy_inputs(STEP)[:, 0]
            found.append(
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
    return {"signals": found}


def report_shattering(results: Results) -> Report:
    """Compare the methods by depth."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for _, outcome in results:
        for found in outcome["signals"]:
            groups.setdefault((found["hidden"], found["method"]), []).append(found)
    rows: list[dict[str, Any]] = [
        {
            "hidden layers": hidden,
            "method": method,
            "correlation": fmean(found["correlation"] for found in signals),
            "without the factor": fmean(found["without factor"] for found in signals),
            "share of 0": fmean(found["zero"] for found in signals),
            "mean size": fmean(found["size"] for found in signals),
            "seeds": len(signals),
        }
        for (hidden, method), signals in groups.items()
    ]
    return Report(rows, _shattering_figure(results[0][1]), _shattering_findings(rows))


def _shattering_findings(rows: list[dict[str, Any]]) -> list[Finding]:
    flat, deep = (
        {row["method"]: row for row in rows if row["hidden layers"] == hidden}
        for hidden in (min(row["hidden layers"] for row in rows), max(row["hidden layers"] for row in rows))
    )
    layers = deep[GRADIENT]["hidden layers"]
    before, after = ({method: row["correlation"] for method, row in of.items()} for of in (flat, deep))
    size = {method: row["mean size"] for method, row in deep.items()}
    findings = [
        Finding(
            f"{title} become increasingly noise-like for deeper models.",
            f"the correlation of neighbours goes from {before[method]:.2f} to {after[method]:.2f} at {layers} hidden "
            f"layers; noise is called what loses {LOST:g}.",
            before[method] - after[method] > LOST if layers >= DEEP else None,
        )
        for method, title in ((GRADIENT, "Gradients"), ("epsilon", "Values of LFP-epsilon"))
    ]
    rest = max(after[GRADIENT], after["epsilon"])
    return [
        *findings,
        Finding(
            "LFP-epsilon seems to vanish as well.",
            f"at {layers} hidden layers the mean size of its values is {size['epsilon']:.3f} of the largest, that of a "
            f"gradient's {size[GRADIENT]:.3f}, of z+z-'s {size['zplus-zminus']:.3f}; it vanishes below {VANISHED:g}.",
            size["epsilon"] < VANISHED if layers >= DEEP else None,
        ),
        Finding(
            "Rules that tell positive from negative contributions do not shatter to the same extent.",
            f"at {layers} hidden layers their correlations are {after['zplus-zminus']:.3f} and "
            f"{after['alpha2-beta1']:.3f}, the larger one of the others is {rest:.3f}.",
            min(after["zplus-zminus"], after["alpha2-beta1"]) > rest if layers >= DEEP else None,
        ),
        Finding(
            "LFP-z+z- provides an extremely stable signal even for 500 hidden layers.",
            f"its correlation is {after['zplus-zminus']:.3f} at {layers} hidden layers, without the factor "
            f"{deep['zplus-zminus']['without the factor']:.3f}; {STABLE:g} is asked for.",
            after["zplus-zminus"] > STABLE if layers >= DEEP else None,
        ),
    ]


def _shattering_figure(outcome: Outcome) -> Figure:
    depths = sorted({found["hidden"] for found in outcome["signals"]})
    inputs = toy_inputs(STEP)[:, 0].tolist()
    figure = Figure(figsize=(2.2 * len(depths), 6), layout="constrained")
    panels = figure.subplots(len(METHODS), len(depths), sharex=True, sharey=True)
    for found in outcome["signals"]:
        axes = panels[METHODS.index(found["method"]), depths.index(found["hidden"])]
        axes.plot(inputs, found["values"], color=COLOURS[found["method"]], linewidth=0.8)
        axes.set(ylim=(-1.1, 1.1), xticks=(-4, 0, 4))
    for axes, hidden in zip(panels[0], depths, strict=True):
        axes.set_title(f"{hidden} hidden layers", fontsize=9)
    for axes, method in zip(panels[:, 0], METHODS, strict=True):
        axes.set_ylabel(NAMES[method], color=COLOURS[method])
    figure.supxlabel("input", fontsize=10)
    figure.supylabel("value at the input", fontsize=10)
    return figure


def depth_cases(scale: Scale, seeds: int) -> list[Case]:
    """Return one for each seed and number of neurons."""
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
    found = []
    for hidden in case["hidden"]:
        for method in METHODS:
            torch.manual_seed(case["seed"])
            network = normalized_mlp([1, *[case["neurons"]] * hidden, 2])
            learner = Learner(network, method, torch.optim.SGD(network.parameters(), RATE, MOMENTUM))
            curves = train(learner, data, case["epochs"], case["batch_size"], case["seed"])
            found.append({"hidden": hidden, "method": method, "accuracy": curves["accuracy"][-1]})
    return {"accuracies": found}


def report_depth(results: Results) -> Report:
    """Compare the methods by depth, over seeds and numbers of neurons."""
    groups: dict[tuple[int, str], list[float]] = {}
    for _, outcome in results:
        for found in outcome["accuracies"]:
            groups.setdefault((found["hidden"], found["method"]), []).append(found["accuracy"])
    rows = [
        {
            "hidden layers": hidden,
            "method": method,
            "mean": fmean(accuracies),
            **{name: float(torch.tensor(accuracies).quantile(share)) for name, share in QUARTILES.items()},
            "runs": len(accuracies),
        }
        for (hidden, method), accuracies in groups.items()
    ]
    return Report(rows, _depth_figure(rows), _depth_findings({key: fmean(each) for key, each in groups.items()}))


def _depth_findings(means: dict[tuple[int, str], float]) -> list[Finding]:
    depths = sorted({hidden for hidden, _ in means})
    between = [hidden for hidden in depths if 1 < hidden <= 6]
    overall = {method: fmean(means[hidden, method] for hidden in between) for method in METHODS if between}
    shown = ", ".join(f"{method} {value:.1%}" for method, value in overall.items())
    separate = ("zplus-zminus", "alpha2-beta1")
    first, six, last = (
        [means[hidden, method] for method in separate] if hidden in depths else [] for hidden in (1, 6, 20)
    )
    told = [" and ".join(f"{value:.1%}" for value in values) or "unknown" for values in (first, six, last)]
    return [
        Finding(
            "LFP-z+z- and LFP-alpha2-beta1 are most robust against depth.",
            f"mean accuracies over networks of 2 to 6 hidden layers: {shown or 'none trained'}.",
            min(overall[each] for each in separate) > max(overall[GRADIENT], overall["epsilon"]) if overall else None,
        ),
        Finding(
            "Their performance is already significantly reduced at 6 hidden layers.",
            f"it goes from {told[0]} at 1 to {told[1]} at 6; {REDUCED:.0%} less are asked for.",
            all(before - after > REDUCED for before, after in zip(first, six, strict=True)) if six else None,
        ),
        Finding(
            "It is completely random at 20 hidden layers.",
            f"it is {told[2]}; less than {RANDOM:.0%} are asked for.",
            max(last) < RANDOM,
        ),
    ]


def _depth_figure(rows: list[dict[str, Any]]) -> Figure:
    """Draw a bar for each method, one on the other, so that what more runs reach is darker."""
    depths = sorted({row["hidden layers"] for row in rows})
    figure = Figure(figsize=(1.7 * len(depths), 3.2), layout="constrained")
    panels = figure.subplots(1, len(depths), sharey=True)
    for row in rows:
        axes = panels[depths.index(row["hidden layers"])]
        place = METHODS.index(row["method"])
        for name in QUARTILES:
            label = NAMES[row["method"]] if name == "minimum" else None
            axes.bar(place, 100 * row[name], 0.85, color=COLOURS[row["method"]], alpha=0.3, linewidth=0, label=label)
        axes.hlines(100 * row["median"], place - 0.42, place + 0.42, color="white", linewidth=1.5)
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
        title="from dark to pale: minimum, 25 %, median (with a line), 75 %, maximum",
        title_fontsize=8,
    )
    return figure


SHATTERING = Experiment(
    title="What of gradients and feedback arrives at the input of deep networks: signal or noise (LFP fig. A.2)",
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
