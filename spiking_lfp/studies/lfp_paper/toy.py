"""LFP app. A.1: one-dimensional toy data, and learning from rewards of 1 and -1 only.

The paper does not state the batch size. One sample at a time reproduces its figure: most seeds learn, and accuracies
fluctuate until the learning rate is reduced. In larger batches, whose feedback is summed, weights soon outgrow the
updates, and more seeds never leave chance: the reward punishes a true class that is positive but not the largest, and
lowers it further. Momentum is torch's, as in the authors' package; with the dampening of eq. 5 steps are a tenth as
large, and 150 of them too few.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from spiking_lfp.lfp.rewards import correctness_reward, propagate
from spiking_lfp.nn.composites import composite
from spiking_lfp.nn.layers import NormalizeFeedback
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import Data, accuracy, mean_and_deviation, relu_mlp

HELD_OUT = 100
RATE, MOMENTUM = 1.0, 0.9
# steps after which the learning rate is divided by ten
DECAY = 40
SCHEDULES = {"constant": "no schedule", "decayed": "rate divided by ten every 40 steps"}
COLOURS = {"constant": "#d55e00", "decayed": "#0072b2"}
# test accuracy above which the signal counts as meaningful
LEARNED = 0.9


def toy_inputs(step: float) -> Tensor:
    """Return -4 to 4 in steps of `step`, `[N, 1]`, without 0, which belongs to neither class."""
    places = torch.arange(-round(4 / step), round(4 / step) + 1)
    return (places[places != 0] * step).unsqueeze(1)


def toy_labels(inputs: Tensor) -> Tensor:
    """Return the class of each input, 1 for those above 0."""
    return (inputs[:, 0] > 0).long()


def toy_data(seed: int, step: float = 5e-4) -> Data:
    """Return the samples of LFP app. A.1; 100 random ones are held out for testing."""
    inputs = toy_inputs(step)
    labels = toy_labels(inputs)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    return Data(inputs[train], labels[train], inputs[test], labels[test], 2)


def normalized_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Build an MLP where feedback, or a gradient, is divided by its largest magnitude before and after each layer.

    This includes the reward at the outputs, as in the authors' package: the reward of eq. 7 grows with the logits, and
    updates at a learning rate of 1 would grow with it without bound.
    """
    layers: list[nn.Module] = []
    for layer in relu_mlp(sizes):
        if isinstance(layer, nn.Linear):
            layers.append(NormalizeFeedback())
        layers.append(layer)
    return nn.Sequential(*layers, NormalizeFeedback())


def accuracies(seed: int, schedule: str, batch_size: int, steps: int) -> list[float]:
    """Train on rewards of 1 and -1, and return the test accuracy after each step."""
    torch.manual_seed(seed)
    data = toy_data(seed)
    model = normalized_mlp([1, 32, 32, 2])
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, DECAY, 0.1)
    epsilon = composite("epsilon")
    curve = []
    for _ in range(steps):
        batch = torch.randint(len(data.train_y), (batch_size,))
        optimizer.zero_grad()
        with epsilon.applied(model):
            logits = model(data.train_x[batch])
        propagate(logits, correctness_reward(logits, data.train_y[batch]))
        optimizer.step()
        if schedule == "decayed":
            scheduler.step()
        curve.append(accuracy(model, data.test_x, data.test_y))
    return curve


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return one case for each seed."""
    steps = {"smoke": 20, "small": 150, "paper": 150}[scale]
    return [{"seed": seed, "batch_size": 1, "steps": steps} for seed in range(1, seeds + 1)]


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train the same network with and without the schedule."""
    return {name: accuracies(case["seed"], name, case["batch_size"], case["steps"]) for name in SCHEDULES}


def fluctuation(curve: Sequence[float]) -> float:
    """Return the mean absolute change from step to step in the last third of a curve."""
    last = curve[2 * len(curve) // 3 :]
    return fmean(abs(after - before) for before, after in pairwise(last))


def report(results: Results) -> Report:
    """Compare training with and without the schedule."""
    rows = []
    for name, title in SCHEDULES.items():
        curves = [outcome[name] for _, outcome in results]
        last, spread = mean_and_deviation([fmean(curve[2 * len(curve) // 3 :]) for curve in curves])
        rows.append(
            {
                "schedule": title,
                "best": fmean(map(max, curves)),
                "last third": last,
                "deviation": spread,
                "change from step to step": fmean(map(fluctuation, curves)),
                "batch size": results[0][0]["batch_size"],
                "seeds": len(curves),
            }
        )
    return Report(rows, _figure(results), _findings(results))


def _findings(results: Results) -> list[Finding]:
    curves = {name: [outcome[name] for _, outcome in results] for name in SCHEDULES}
    best = fmean(map(max, curves["constant"]))
    constant, decayed = (fmean(map(fluctuation, curves[name])) for name in ("constant", "decayed"))
    return [
        Finding(
            "A reward of 1 and -1 yields a meaningful signal for updating weights.",
            f"the best test accuracy is {best:.1%}, the mean over seeds; a meaningful signal reaches {LEARNED:.0%}.",
            best > LEARNED,
        ),
        Finding(
            "Training becomes unstable if convergence is not ensured, for instance by reducing the learning rate.",
            f"in the last third the accuracy changes by {constant:.2%} per step without a schedule, by {decayed:.2%} "
            "with one; a change more than twice as large counts as unstable.",
            constant > 2 * decayed if best > LEARNED and results[0][0]["steps"] > DECAY else None,
        ),
    ]


def _figure(results: Results) -> Figure:
    """Draw every seed, and their mean: most learn at once or not at all, which a deviation would hide."""
    figure = Figure(figsize=(PAGE_WIDTH, 3), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), SCHEDULES.items(), strict=True):
        curves = [[100 * value for value in outcome[name]] for _, outcome in results]
        for index, curve in enumerate(curves):
            label = "each seed" if index == 0 else None
            axes.plot(range(1, len(curve) + 1), curve, color=COLOURS[name], alpha=0.35, linewidth=0.8, label=label)
        means = [fmean(values) for values in zip(*curves, strict=True)]
        axes.plot(range(1, len(means) + 1), means, color=COLOURS[name], linewidth=2.2, label="mean")
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="step", ylim=(0, 103))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    figure.axes[0].set_ylabel("test accuracy [%]")
    return figure


SIMPLE_REWARD = Experiment(
    title="LFP-epsilon on rewards of 1 and -1, with and without a schedule of the learning rate (LFP fig. A.1)",
    seeds={"smoke": 1, "small": 10, "paper": 20},
    cases=cases,
    run=run,
    report=report,
)
