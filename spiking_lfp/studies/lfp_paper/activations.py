"""LFP on activation functions with and without a derivative, as in the newer version of the paper (TMLR).

Networks like VGG on CIFAR-10, with the reward `logit * (onehot - softmax)` and updates clipped to a norm of 3, as in
the authors' scripts; which convolutions their networks have is not known, so the widths are ours. Theirs learn by SGD
at rates of up to 0.1; here Adam does, since with SGD step functions stay at chance: feedback is divided by what a
neuron added up, which is anything above 0 where a ReLU would hand on as little. For the same reason epsilon is 0.5 for
them. A step has a gradient of zero: below it nothing learns by gradients.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from spiking_lfp.data import load_dataset, subset
from spiking_lfp.lfp.rewards import softmax_reward
from spiking_lfp.nn.composites import Composite
from spiking_lfp.rules import Epsilon
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import (
    COLOURS,
    GRADIENT,
    NAMES,
    Data,
    Learner,
    mean_and_deviation,
    train,
)

RATE, CLIP = 1e-3, 3.0
# channels of pairs of convolutions, each followed by max pooling, and neurons of the dense layer, at full width
CHANNELS, DENSE = (64, 128, 256), 512
# of LFP-epsilon in place of the usual, and of initial weights after He et al. (2015): what neurons add up stays small
# beside such an epsilon, so that no feedback is far larger than others
EPSILON = {"step": 0.5}
GAIN = {"step": 0.25}
# accuracy above chance from which on a network has learned
LEARNED = 0.1


class Step(nn.Module):
    """1 above 0, else 0; torch gives it a gradient of 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the steps."""
        return F.threshold(x, 0.0, 0.0).sign()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "ReLU": nn.ReLU, "ELU": nn.ELU, "SiLU": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "step": Step,
}  # fmt: skip
DIFFERENTIABLE = tuple(name for name in ACTIVATIONS if name != "step")


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return each activation by gradients and by LFP-epsilon."""
    sizes: dict[str, Case] = {
        "smoke": {"data": "mnist-subset", "train": 96, "test": 60, "epochs": 1, "width": 1 / 16, "batch": 32},
        "small": {"data": "cifar10", "train": 5000, "test": 2000, "epochs": 8, "width": 1 / 4, "batch": 32},
        "paper": {"data": "cifar10", "train": None, "test": None, "epochs": 50, "width": 1.0, "batch": 128},
    }
    return [
        {"activation": activation, "method": method, "seed": seed, **sizes[scale]}
        for activation in ACTIVATIONS
        for method in (GRADIENT, "epsilon")
        for seed in range(1, seeds + 1)
    ]


def network(activation: str, in_shape: tuple[int, int, int], classes: int, width: float) -> nn.Sequential:
    """Build three pairs of convolutions with max pooling, and two dense layers."""
    channels, height, wide = in_shape
    layers: list[nn.Module] = []
    for count in CHANNELS:
        out = round(width * count)
        for inputs in (channels, out):
            layers += [nn.Conv2d(inputs, out, 3, padding=1), ACTIVATIONS[activation]()]
        layers.append(nn.MaxPool2d(2))
        channels, height, wide = out, height // 2, wide // 2
    dense = round(width * DENSE)
    layers += [nn.Flatten(), nn.Linear(channels * height * wide, dense), ACTIVATIONS[activation]()]
    model = nn.Sequential(*layers, nn.Linear(dense, classes))
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layer.weight.data.mul_(GAIN.get(activation, 1.0))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a case, on normalised images."""
    data = Data.of_images(subset(load_dataset(case["data"], data_root), None, case["train"], case["test"]))
    mean, deviation = (getattr(data.train_x, what)((0, 2, 3), keepdim=True) for what in ("mean", "std"))
    train_x, test_x = ((x - mean) / deviation for x in (data.train_x, data.test_x))
    data = Data(train_x, data.train_y, test_x, data.test_y, data.classes)
    torch.manual_seed(case["seed"])
    channels, height, wide = data.train_x.shape[1:]
    model = network(case["activation"], (channels, height, wide), data.classes, case["width"])
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    updates = case["epochs"] * -(-len(data.train_y) // case["batch"])
    schedule = OneCycleLR(optimizer, RATE, updates)
    learner = Learner(model, case["method"], optimizer, reward=_reward, clip=CLIP, schedule=schedule)
    if learner.composite is not None and case["activation"] in EPSILON:
        learner.composite = Composite(Epsilon(EPSILON[case["activation"]]))
    return {"classes": data.classes, **train(learner, data, case["epochs"], case["batch"], case["seed"])}


def _reward(logits: Tensor, labels: Tensor) -> Tensor:
    return softmax_reward(logits[None], labels)[0]


def report(results: Results) -> Report:
    """Compare the methods on each activation."""
    groups = Groups(results, ("activation", "method"))
    rows = []
    for (activation, method), outcomes in groups.groups.items():
        accuracy, spread = mean_and_deviation([outcome["accuracy"][-1] for outcome in outcomes])
        rows.append(
            {
                "activation": activation,
                "method": method,
                "accuracy": accuracy,
                "deviation": spread,
                "seconds of an epoch": mean_and_deviation([min(outcome["seconds"]) for outcome in outcomes])[0],
                "seeds": len(outcomes),
            }
        )
    return Report(rows, _figure(groups), _findings(groups))


def _findings(groups: Groups) -> list[Finding]:
    last = groups.mean(lambda outcome: outcome["accuracy"][-1])
    learned = 1 / next(iter(groups.groups.values()))[0]["classes"] + LEARNED
    by_lfp = {name: last[name, "epsilon"] for name in ACTIVATIONS}
    step, gradient = last["step", "epsilon"], last["step", GRADIENT]
    best = max(last.values())
    return [
        Finding(
            "LFP does not need a derivative: it trains networks of step functions.",
            f"with step functions LFP-epsilon reaches {step:.1%}, gradient, for the last layer only, {gradient:.1%}.",
            step > gradient + LEARNED if best > learned else None,
        ),
        Finding(
            "LFP trains networks with any of the activation functions.",
            f"LFP-epsilon reaches {', '.join(f'{value:.1%} ({name})' for name, value in by_lfp.items())}.",
            min(by_lfp.values()) > learned if best > learned else None,
        ),
    ]


def _figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for number, method in enumerate((GRADIENT, "epsilon")):
        values = [
            mean_and_deviation([100 * outcome["accuracy"][-1] for outcome in groups.groups[name, method]])
            for name in ACTIVATIONS
        ]
        means, spreads = zip(*values, strict=True)
        places = [k + 0.4 * number - 0.2 for k in range(len(ACTIVATIONS))]
        axes.bar(places, means, 0.38, yerr=spreads, color=COLOURS[method], label=NAMES[method])
    axes.set_xticks(range(len(ACTIVATIONS)), list(ACTIVATIONS))
    axes.set_ylabel("test accuracy [%]")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return figure


EXPERIMENT = Experiment(
    title="activations with and without a derivative, by LFP-epsilon and by gradients (LFP, newer version)",
    seeds={"smoke": 1, "small": 1, "paper": 3},
    cases=cases,
    run=run,
    report=report,
)
