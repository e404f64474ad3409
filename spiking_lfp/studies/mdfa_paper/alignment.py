"""Feedback alignment compared with back-propagation on photographs of a few classes (mDFA sec. 4, tables 1 to 6)."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spiking_lfp.checks import raise_deferred
from spiking_lfp.data import load_dataset, subset
from spiking_lfp.errors import NonFiniteError
from spiking_lfp.mono import (
    FeedbackAlignment,
    FeedforwardNet,
    Monotone,
    convolutional,
    fully_connected,
    loss_gradient,
)
from spiking_lfp.mono.networks import Initial
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import Experiment, Finding, Groups, Report, Results, Scale
from spiking_lfp.studies.lfp_paper.ann import Data, accuracy, mean_and_deviation
from spiking_lfp.training.devices import pick_device

METHODS = {"bp": "BP", "dfa": "DFA", "fa": "FA", "mdfa": "mDFA"}
COLOURS = {"bp": "black", "dfa": "#0072b2", "fa": "#009e73", "mdfa": "#d55e00"}
MARKS = "osD^"
# in the order of the paper's tables
ACTIVATIONS = ("tanh", "hard-tanh", "relu")
BATCH = 64
HELD_OUT = 0.1
# difference of accuracy within which two methods count as equal
SAME = 0.01
# how often the accuracy is measured during training, but not more often than every second epoch
MEASUREMENTS = 40
# test accuracies of tables 1 and 3 to 6, fully connected and convolutional, in per cent
PAPER_BINARY: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("cifar", "hard-tanh"): {"bp": (81.3, 80.9), "dfa": (76.8, 80.0), "fa": (76.9, 77.5), "mdfa": (77.3, 80.9)},
    ("cifar", "relu"): {"bp": (80.0, 82.2), "dfa": (72.9, 72.0), "fa": (71.0, 69.8), "mdfa": (62.1, 75.5)},
    ("cifar", "tanh"): {"bp": (81.4, 81.1), "dfa": (77.5, 79.7), "fa": (77.6, 83.4), "mdfa": (77.2, 81.1)},
    ("imagenet", "hard-tanh"): {"bp": (77.3, 81.7), "dfa": (74.0, 83.0), "fa": (74.7, 54.7), "mdfa": (79.5, 83.8)},
    ("imagenet", "relu"): {"bp": (78.3, 72.5), "dfa": (73.2, 52.7), "fa": (71.0, 54.8), "mdfa": (59.7, 58.4)},
    ("imagenet", "tanh"): {"bp": (75.8, 76.2), "dfa": (76.8, 83.2), "fa": (76.5, 60.8), "mdfa": (78.0, 83.0)},
}
PAPER_CLASSES: dict[tuple[str, int], dict[str, tuple[float, float]]] = {
    ("cifar", 3): {"bp": (77.4, 76.2), "dfa": (49.1, 79.8), "fa": (74.2, 79.6), "mdfa": (50.9, 82.0)},
    ("cifar", 5): {"bp": (68.5, 65.4), "dfa": (31.2, 71.8), "fa": (60.7, 70.1), "mdfa": (33.9, 73.3)},
    ("cifar", 10): {"bp": (57.3, 57.5), "dfa": (25.0, 65.0), "fa": (46.9, 55.1), "mdfa": (26.3, 63.9)},
    ("cifar", 25): {"bp": (41.2, 41.8), "dfa": (13.4, 48.3), "fa": (28.2, 35.0), "mdfa": (13.1, 44.0)},
    ("imagenet", 3): {"bp": (74.5, 68.5), "dfa": (62.8, 76.5), "fa": (64.2, 53.3), "mdfa": (62.0, 74.8)},
    ("imagenet", 5): {"bp": (63.0, 61.6), "dfa": (43.8, 68.7), "fa": (42.3, 29.0), "mdfa": (37.3, 61.9)},
    ("imagenet", 10): {"bp": (41.2, 52.8), "dfa": (30.8, 53.6), "fa": (26.0, 10.6), "mdfa": (33.3, 44.1)},
}
FILES = {"cifar": "cifar100-classes", "imagenet": "tiny-imagenet-20"}
# app. B.1
DENSE = {"cifar": (1024, 1024), "imagenet": (1024, 1024, 1024, 1024)}
CONVOLUTIONS = {
    "cifar": ((96, 5, 2), (96, 3, 2), (96, 3, 1)),
    "imagenet": ((96, 3, 2), (96, 5, 1), (128, 3, 2), (192, 3, 1), (192, 3, 2), (384, 3, 1)),
}


class Setting(NamedTuple):
    """Settings of gradient descent and feedback that are chosen on held-out samples."""

    lr: float
    momentum: float = 0.0
    density: float = 1.0
    initial: Initial = "zeros"


Settings = dict[str, tuple[Setting, ...]]
# candidates by data set and network; untuned entries use the last one. Feedback alignment works best from weights of
# zero, except with ReLU, whose units would stay at zero (app. B.3)
_CNN: Settings = {
    "bp": (Setting(0.03, initial="uniform"), Setting(0.01, 0.9, initial="uniform")),
    "dfa": (Setting(0.01), Setting(0.001, 0.9)),
    "fa": (Setting(0.01), Setting(0.001, 0.9)),
    "mdfa": (Setting(0.01), Setting(0.03, 0.0, 0.05), Setting(0.003, 0.9, 0.05)),
}
_FC_BP = (Setting(0.03, initial="uniform"), Setting(0.1, initial="uniform"))
CANDIDATES: dict[tuple[str, str], Settings] = {
    ("cifar", "fc"): {
        "bp": _FC_BP,
        **dict.fromkeys(("dfa", "fa", "mdfa"), (Setting(0.02, initial="normal"), Setting(0.02))),
    },
    ("cifar", "cnn"): _CNN,
    # with four times as many inputs and two more layers, networks hardly learn at CIFAR's rates
    ("imagenet", "fc"): {
        "bp": _FC_BP,
        **dict.fromkeys(("dfa", "fa", "mdfa"), (Setting(0.005), Setting(0.002, initial="normal"))),
    },
    ("imagenet", "cnn"): {**_CNN, "fa": _CNN["fa"][::-1]},
}
CANDIDATES_WITH_RELU: dict[str, Settings] = {
    "fc": {
        "bp": _FC_BP,
        **dict.fromkeys(("dfa", "fa"), (Setting(0.01, initial="uniform"), Setting(0.001, initial="uniform"))),
        "mdfa": (Setting(0.001, initial="uniform"), Setting(0.01, initial="uniform")),
    },
    "cnn": {
        "bp": (Setting(0.01, 0.9, initial="uniform"), Setting(0.03, initial="uniform")),
        **dict.fromkeys(("dfa", "fa"), (Setting(0.001, initial="uniform"), Setting(0.003, initial="uniform"))),
        "mdfa": (Setting(0.0001, initial="uniform"), Setting(0.03, 0.0, 0.05, "uniform")),
    },
}
EPOCHS = {"fc": 800, "cnn": 200}
ENTRY = ("set", "classes", "network", "activation", "method")
TUNED = (*Setting._fields, "epochs")


def binary_cases(scale: Scale, draws: int) -> list[Case]:
    """Return the cases of tables 1 and 2: two classes, drawn several times."""
    if scale == "smoke":
        return _smoke(2, draws, epochs=2)
    if scale == "small":
        return [
            *_entry("cifar", 2, "fc", "tanh", draws, 800),
            *_entry("cifar", 2, "fc", "tanh", draws, 250, tuned=True),
            *_entry("cifar", 2, "cnn", "tanh", draws, 150, tuned=True),
            *_entry("cifar", 2, "fc", "hard-tanh", draws, 100),
            *_entry("cifar", 2, "cnn", "hard-tanh", draws, 100, tuned=True),
            *_entry("cifar", 2, "fc", "relu", draws, 100),
            *_entry("cifar", 2, "cnn", "relu", draws, 100),
            *(case for activation in ACTIVATIONS for case in _entry("imagenet", 2, "fc", activation, draws, 30)),
            *(case for activation in ACTIVATIONS for case in _entry("imagenet", 2, "cnn", activation, draws, 20)),
        ]
    return [
        case
        for name, network, activation in product(FILES, EPOCHS, ACTIVATIONS)
        for case in _entry(name, 2, network, activation, draws, EPOCHS[network], tuned=True)
    ]


def classes_cases(scale: Scale, draws: int) -> list[Case]:
    """Return the cases of tables 3 to 6: more classes, as far as the data sets have them."""
    if scale == "smoke":
        return _smoke(3, draws, epochs=1)
    if scale == "small":
        return [
            *_entry("cifar", 3, "fc", "tanh", draws, 40),
            *_entry("cifar", 3, "cnn", "tanh", draws, 60),
            *_entry("cifar", 5, "fc", "tanh", draws, 40),
            *_entry("cifar", 5, "cnn", "tanh", draws, 60),
            *_entry("cifar", 10, "fc", "tanh", draws, 20),
            *_entry("cifar", 25, "fc", "tanh", draws, 10),
            *_entry("imagenet", 3, "fc", "tanh", draws, 30, tuned=True),
            *_entry("imagenet", 3, "cnn", "tanh", draws, 14),
            *_entry("imagenet", 5, "fc", "tanh", draws, 20, tuned=True),
        ]
    counts = {"cifar": [3, 5, 10, 25], "imagenet": [3, 5, 10]}
    return [
        case
        for name, class_counts in counts.items()
        for classes, network in product(class_counts, EPOCHS)
        for case in _entry(name, classes, network, "tanh", draws, EPOCHS[network], tuned=True)
    ]


def _smoke(classes: int, draws: int, epochs: int) -> list[Case]:
    return [case for case in _entry("cifar", classes, "fc", "tanh", draws, epochs) if case["method"] in ("bp", "mdfa")]


def _entry(
    name: str, classes: int, network: str, activation: str, draws: int, epochs: int, tuned: bool = False
) -> list[Case]:
    """Return the cases of an entry of a table: every method with all candidates or only the last, for every draw."""
    candidates = CANDIDATES_WITH_RELU[network] if activation == "relu" else CANDIDATES[name, network]
    return [
        {
            "set": name, "classes": classes, "network": network, "activation": activation, "method": method,
            **setting._asdict(), "epochs": epochs, "seed": draw,
        }
        for method in METHODS
        for setting in (candidates[method] if tuned else candidates[method][-1:])
        for draw in range(1, draws + 1)
    ]  # fmt: skip


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a network on classes drawn by the seed: batches of 64, inputs in 0..1, gradient descent (sec. 4).

    The paper states no schedule; here the learning rate falls linearly to 0 in the second half of the epochs.
    """
    images = load_dataset(FILES[case["set"]], data_root)
    generator = torch.Generator().manual_seed(case["seed"])
    drawn = torch.randperm(len(images.class_names), generator=generator)[: case["classes"]].tolist()
    data = Data.of_images(subset(images, drawn)).to(pick_device("auto"))
    torch.manual_seed(case["seed"])
    order = torch.randperm(len(data.train_y)).to(data.train_y.device)
    held_out, trained = order.tensor_split([round(HELD_OUT * len(order))])
    net = network(case, list(data.train_x.shape[1:])).to(data.train_x.device)
    alignment = FeedbackAlignment(net, case["method"], data.train_x[:1], case["seed"], density=case["density"])
    optimizer = torch.optim.SGD(net.parameters(), case["lr"], case["momentum"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1.0, 2 - 2 * epoch / case["epochs"]))
    net.keep_monotone(optimizer)
    curves: dict[str, list[float]] = {"train": [], "validation": [], "test": []}
    splits = {
        "train": (data.train_x[trained], data.train_y[trained]),
        "validation": (data.train_x[held_out], data.train_y[held_out]),
        "test": (data.test_x, data.test_y),
    }
    measurements = max(1, min(MEASUREMENTS, case["epochs"] // 2))
    try:
        for epoch in range(case["epochs"]):
            for batch in trained[torch.randperm(len(trained))].split(BATCH):
                activations = net.activations(data.train_x[batch])
                alignment.assign(activations, loss_gradient(activations[-1], data.train_y[batch]))
                optimizer.step()
            schedule.step()
            raise_deferred()
            if (epoch + 1) * measurements // case["epochs"] > len(curves["test"]):
                for name, (x, labels) in splits.items():
                    curves[name].append(_accuracy(net, x, labels))
    except NonFiniteError:  # that a learning rate is too large is a result, too
        for values in curves.values():
            values.extend([1 / case["classes"]] * (measurements - len(values)))
    # when to stop is chosen on held-out samples, like other settings; of equals the later one
    best = max(range(measurements), key=lambda index: (curves["validation"][index], index))
    return {
        "accuracy": curves["test"][best],
        "best_validation": curves["validation"][best],
        "highest_train": max(curves["train"]),
        **curves,
    }


def network(case: Case, in_shape: Sequence[int]) -> FeedforwardNet:
    """Build the network of a case (app. B.1): a mono-net for mDFA."""
    outputs = 1 if case["classes"] == 2 else case["classes"]
    monotone: Monotone = "later" if case["method"] == "mdfa" else "no"
    activation, initial = case["activation"], case["initial"]
    if case["network"] == "fc":
        inputs = torch.Size(in_shape).numel()
        return fully_connected(inputs, DENSE[case["set"]], outputs, activation, monotone, initial)
    return convolutional(in_shape, CONVOLUTIONS[case["set"]], outputs, activation, monotone, initial)


@torch.no_grad()
def _accuracy(net: FeedforwardNet, x: torch.Tensor, labels: torch.Tensor) -> float:
    if net.parameters_of(len(net.maps) - 1)[0].shape[0] > 1:
        return accuracy(net, x, labels)
    correct = sum(
        int(((net(inputs)[:, 0] > 0) == classes).sum())
        for inputs, classes in zip(x.split(500), labels.split(500), strict=True)
    )
    return correct / len(labels)


def report(results: Results) -> Report:
    """Return the paper's tables and bar plots (sec. 4).

    Training accuracies are the highest of all settings, test accuracies those of the best setting in validation.
    """
    highest: dict[tuple[Any, ...], tuple[float, float]] = {}
    for setting, outcomes in Groups(results, (*ENTRY, *TUNED)).groups.items():
        key = setting[: len(ENTRY)]
        fit = mean_and_deviation([outcome["highest_train"] for outcome in outcomes])
        highest[key] = max(fit, highest.get(key, fit))
    rows: list[dict[str, Any]] = []
    for key, (tuned, outcomes) in best_settings(results).items():
        row: dict[str, Any] = {**dict(zip(ENTRY, key, strict=True)), **dict(zip(TUNED, tuned, strict=True))}
        row["train"], row["train deviation"] = highest[key]
        row["test"], row["test deviation"] = mean_and_deviation([outcome["accuracy"] for outcome in outcomes])
        row["paper's test"] = _paper_accuracy(key)
        row["draws"] = len(outcomes)
        rows.append(row)
    # in the order of the paper's tables
    rows.sort(
        key=lambda row: (row["set"], row["classes"], row["network"] != "fc", ACTIVATIONS.index(row["activation"]))
    )
    return Report(rows, _figure(rows), _findings(rows))


def best_settings(results: Results) -> dict[tuple[Any, ...], tuple[tuple[Any, ...], list[Outcome]]]:
    """Return for each entry of a table the best values of `TUNED` in validation, and their outcomes in every draw."""
    groups = Groups(results, (*ENTRY, *TUNED))
    validation = groups.mean(lambda outcome: outcome["best_validation"])
    best: dict[tuple[Any, ...], tuple[tuple[Any, ...], list[Outcome]]] = {}
    for setting, outcomes in groups.groups.items():
        key, tuned = setting[: len(ENTRY)], setting[len(ENTRY) :]
        if key not in best or validation[(*key, *tuned)] > validation[(*key, *best[key][0])]:
            best[key] = tuned, outcomes
    return best


def _paper_accuracy(key: tuple[Any, ...]) -> float | None:
    name, classes, network, activation, method = key
    table: Any = PAPER_BINARY.get((name, activation)) if classes == 2 else PAPER_CLASSES.get((name, classes))
    return None if table is None else round(table[method][network == "cnn"] / 100, 3)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    places = [_place(row) for row in rows]
    figure = Figure(figsize=(PAGE_WIDTH, 1.2 + 0.55 * len(set(places))), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = {METHODS[method]: COLOURS[method] for method in METHODS}
    for panel, split in zip(axes, ("train", "test"), strict=True):
        points = [
            (place, METHODS[row["method"]], row[split], row[f"{split} deviation"])
            for place, row in zip(places, rows, strict=True)
        ]
        papers = [None if split == "train" else row["paper's test"] for row in rows]
        draw_points(panel, points, colours, papers)
        panel.set_xlabel(f"{'training' if split == 'train' else split} accuracy [%]")
    low = min(panel.get_xlim()[0] for panel in axes)
    for panel in axes:
        panel.set_xlim(left=low)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return figure


def _place(row: dict[str, Any]) -> str:
    """Name an entry of the tables as the pages do."""
    classes = f"{row['classes']} classes\n" if row["classes"] != 2 else "\n"
    data = {"cifar": "CIFAR-100", "imagenet": "Tiny-ImageNet"}[row["set"]]
    network = {"fc": "fully connected", "cnn": "convolutional"}[row["network"]]
    return f"{data}, {classes}{network}, {row['activation'].replace('relu', 'ReLU')}".replace(", \n", "\n")


def draw_points(
    axes: Axes,
    points: Sequence[tuple[str, str, float, float]],
    colours: Mapping[str, str],
    papers: Sequence[float | None] = (),
) -> None:
    """Draw shares in percent with their deviations, a line for each place, the marks of the methods below each other.

    Args:
        axes: where to draw.
        points: place, method, share and its deviation.
        colours: of the methods, in their order.
        papers: what a paper says of each point, if it does.
    """
    places = list(dict.fromkeys(place for place, *_ in points))
    methods = list(colours)
    shown = set()
    for index, (place, method, share, deviation) in enumerate(points):
        number = methods.index(method)
        y = places.index(place) + 0.18 * (number - (len(methods) - 1) / 2)
        axes.errorbar(
            100 * share, y, xerr=100 * deviation, fmt=MARKS[number], markersize=4, capsize=2, elinewidth=1,
            color=colours[method], label=None if method in shown else method,
        )  # fmt: skip
        shown.add(method)
        if papers and papers[index] is not None:
            label = None if "paper" in shown else "in the paper"
            axes.plot(100 * (papers[index] or 0), y, "|", color="grey", markersize=7, markeredgewidth=1.5, label=label)
            shown.add("paper")
    for line in range(1, len(places)):
        axes.axhline(line - 0.5, color="grey", linewidth=0.3)
    axes.set_yticks(range(len(places)), places, fontsize=8)
    axes.set_ylim(len(places) - 0.5, -0.5)
    # error bars end where shares do
    low = min(100 * (share - deviation) for _, _, share, deviation in points)
    span = max(100 - low, 0.1)
    axes.set_xlim(max(0, low) - 0.03 * span, 100 + 0.03 * span)
    axes.grid(axis="x", alpha=0.3)


def _findings(rows: list[dict[str, Any]]) -> list[Finding]:
    entries: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        entries.setdefault(tuple(row[name] for name in ENTRY[:-1]), {})[row["method"]] = row
    findings = []
    for (name, classes, network, activation), by_method in entries.items():
        if set(by_method) != set(METHODS):
            continue
        entry = f"{name}, {classes} classes, {network}, {activation}"
        accuracies = ", ".join(f"{METHODS[method]} {row['test']:.1%}" for method, row in by_method.items())
        mono = by_method["mdfa"]
        if (name, classes, network) == ("cifar", 2, "fc") and activation != "relu":
            zero = mono["train"] > 0.9995
            text = f"its training accuracy is {mono['train']:.1%}."
            findings.append(Finding(f"{entry}: mDFA brings the training error to zero.", text, zero))
        for method in ("bp", "dfa", "fa"):
            published, measured = (mono[column] - by_method[method][column] for column in ("paper's test", "test"))
            relation = "within a point of" if abs(published) <= SAME else "above" if published > 0 else "below"
            holds = abs(measured) <= SAME if relation == "within a point of" else measured * published > 0
            findings.append(
                Finding(f"{entry}: mDFA is {relation} {METHODS[method]} on test samples.", accuracies, holds)
            )
    return findings


SEEDS: dict[Scale, int] = {"smoke": 1, "small": 5, "paper": 5}
BINARY = Experiment(
    "mDFA tables 1, 2: BP, DFA, FA and mDFA on pairs of classes",
    SEEDS, binary_cases, run, report,
)  # fmt: skip
CLASSES = Experiment(
    "mDFA tables 3 to 6: the same on 3 to 25 classes",
    SEEDS, classes_cases, run, report,
)  # fmt: skip
