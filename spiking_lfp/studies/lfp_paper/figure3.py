"""LFP fig. 3 and A.6: the rules on a VGG-16 for 20 classes of photographs, from random weights and pretrained.

Tiny ImageNet is used in place of ImageNet. Where torch's cache does not have torchvision's weights of VGG-16, the
network is pretrained by gradients on the available classes of CIFAR-100. Smaller scales use narrower networks: Adam's
learning rate, 1e-4 at full width, is divided by the relative width, so that an update changes the outputs as much.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.data import ImageDataset, load_dataset, subset
from spiking_lfp.data._torchvision import torchvision_models
from spiking_lfp.data.cache import cache_folder
from spiking_lfp.files import RESULTS
from spiking_lfp.nn.composites import COMPOSITES
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
    mean_and_deviation,
    train,
)

RULES = tuple(name for name in COMPOSITES if name != "zero")
STARTS = {"pretrained": "pretrained", "random": "from random weights"}
# difference of accuracy within which two methods count as equal: small scales have few test images
EQUAL = 0.03
# Adam's learning rate at full width
RATE = 1e-4
# mean and standard deviation of ImageNet's channels, on which torchvision's weights were trained
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cases(scale: Scale, seeds: int) -> list[Case]:
    """Return each method from pretrained and from random weights."""
    smoke: Case = {"data": "mnist-subset", "classes": 3, "train": 32, "test": 30, "epochs": 1}
    sizes: dict[str, Case] = {
        "smoke": {**smoke, "width": 1 / 32, "side": 32},
        "small": {
            **{"data": "tiny-imagenet-20", "classes": 5, "train": 1200, "test": 250, "epochs": 6},
            **{"width": 1 / 8, "side": 32},
        },
        "paper": {
            **{"data": "tiny-imagenet-20", "classes": 20, "train": None, "test": None, "epochs": 20},
            **{"width": 1.0, "side": 64},
        },
    }
    before: dict[str, Case] = {
        "smoke": {"before": "mnist-subset", "before_train": 32, "before_epochs": 1},
        "small": {"before": "cifar100-classes", "before_train": 3000, "before_epochs": 8},
        "paper": {"before": "cifar100-classes", "before_train": None, "before_epochs": 30},
    }
    return [
        {
            "start": start,
            "method": method,
            "seed": seed,
            **sizes[scale],
            **(before[scale] if start == "pretrained" else {}),
        }
        for start in STARTS
        for method in (GRADIENT, *RULES)
        for seed in range(1, seeds + 1)
    ]


def run(case: Case, data_root: Path | None) -> Outcome:
    """Train a case by Adam in batches of 32 (LFP app. A.6.2)."""
    images = load_dataset(case["data"], data_root)
    data = _scaled(subset(images, range(case["classes"]), case["train"], case["test"]), case["side"])
    torch.manual_seed(case["seed"])
    model = vgg16(data.classes, case["width"], case["side"])
    if case["start"] == "pretrained":
        weights = _pretrained(case, data_root)
        last = f"classifier.{len(model.classifier) - 1}."
        # the classes differ, so the last layer starts from random weights
        pretrained = {name: value for name, value in weights.items() if not name.startswith(last)}
        model.load_state_dict({**model.state_dict(), **pretrained})
    return train(_learner(model, case["method"], RATE / case["width"]), data, case["epochs"], 32, case["seed"])


def vgg16(classes: int, width: float, side: int) -> Any:
    """Build torchvision's VGG-16 with its channels and dense neurons scaled by `width`.

    Images of `side` 32 end in a single position before the dense layers, which is not pooled to torchvision's 7 x 7.
    """
    vgg = torchvision_models().vgg
    features = vgg.make_layers([each if each == "M" else round(width * each) for each in vgg.cfgs["D"]])
    positions = 1 if side == 32 else 7
    with torch.device("meta"):  # its dense layers, of 120 million weights, are replaced
        model = vgg.VGG(nn.Identity(), init_weights=False)
    model.features = features
    model.avgpool = nn.AdaptiveAvgPool2d(positions)
    dense, channels = round(width * 4096), round(width * 512)
    model.classifier = nn.Sequential(
        nn.Linear(positions**2 * channels, dense),
        nn.ReLU(True),
        nn.Dropout(0.5),
        nn.Linear(dense, dense),
        nn.ReLU(True),
        nn.Dropout(0.5),
        nn.Linear(dense, classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # torchvision's deviation of dense weights, 0.01, is close to this one for 4096 inputs, but not for fewer
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None, "torchvision's layers have a bias"
            nn.init.zeros_(module.bias)
    return model


def _learner(model: nn.Module, method: str, rate: float) -> Learner:
    return Learner(model, method, torch.optim.Adam(model.parameters(), rate))


def _scaled(images: ImageDataset, side: int) -> Data:
    """Return images of three channels and `side` pixels, normalised as torchvision's weights expect."""
    data = Data.of_images(images)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))

    def scale(x: Tensor) -> Tensor:
        coloured = F.interpolate(x, (side, side), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
        return (coloured - mean) / deviation

    return Data(scale(data.train_x), data.train_y, scale(data.test_x), data.test_y, data.classes)


def _pretrained(case: Case, data_root: Path | None) -> dict[str, Tensor]:
    """Return pretrained weights: torchvision's, or those of a training that all methods share."""
    if case["width"] == 1:
        url = torchvision_models().VGG16_Weights.IMAGENET1K_V1.url
        downloaded = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if downloaded.is_file():
            return _read(downloaded)
    settings = {name: case[name] for name in ("seed", "width", "side", "before", "before_train", "before_epochs")}
    images = subset(load_dataset(case["before"], data_root), train=case["before_train"])
    # other classes of CIFAR-100, or another version of torch, give other weights
    key = json.dumps([settings, images.name, images.class_names, torch.__version__])
    path = cache_folder() / "pretrained" / f"vgg16-{hashlib.sha256(key.encode()).hexdigest()}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    # cases in other processes may need the same weights
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            with torch.random.fork_rng():
                data = _scaled(images, case["side"])
                torch.manual_seed(case["seed"])
                model = vgg16(data.classes, case["width"], case["side"])
                # at the full rate some networks die: their later layers get only zeros
                learner = _learner(model, GRADIENT, RATE / case["width"] / 2)
                train(learner, data, case["before_epochs"], 32, case["seed"])
            content = io.BytesIO()
            torch.save(model.state_dict(), content)
            RESULTS.write(path, content.getvalue())
    return _read(path)


def _read(path: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def report(results: Results) -> Report:
    """Compare accuracies, sign changes and changes of parameters."""
    groups = Groups(results, ("start", "method"))
    rows = []
    for (start, method), outcomes in groups.groups.items():
        row: dict[str, Any] = {"start": start, "method": method}
        row["accuracy"], row["deviation"] = mean_and_deviation([outcome["accuracy"][-1] for outcome in outcomes])
        for column, value in (("signs changed in an epoch", _signs), ("squared change in an epoch", _change)):
            row[column], row[f"deviation of {column}"] = mean_and_deviation([value(outcome) for outcome in outcomes])
        row["seconds of an epoch"] = mean_and_deviation([min(outcome["seconds"]) for outcome in outcomes])[0]
        rows.append({**row, "seeds": len(outcomes)})
    classes = results[0][0]["classes"]
    return Report(rows, _figure(groups), _findings(groups, 1 / classes))


def _signs(outcome: Outcome) -> float:
    return sum(outcome["sign_changes"]) / len(outcome["sign_changes"])


def _change(outcome: Outcome) -> float:
    return sum(outcome["change"]) / len(outcome["change"])


def _findings(groups: Groups, chance: float) -> list[Finding]:
    findings = []
    means = [groups.mean(value) for value in (lambda outcome: outcome["accuracy"][-1], _signs, _change)]
    for start in _starts(groups):
        last, signs, change = ({method: mean[start, method] for method in (GRADIENT, *RULES)} for mean in means)
        statements = _accuracies(start, last, chance) + _changes(signs, change)
        learned = last[GRADIENT] > 1.5 * chance
        findings += [
            Finding(f"{STARTS[start].capitalize()}: {paper}", found, holds if learned else None)
            for paper, found, holds in statements
        ]
    return findings


def _starts(groups: Groups) -> list[str]:
    return list(dict.fromkeys(start for start, _ in groups.groups))


def _by_method(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{method} {value:{form}}" for method, value in values.items())


def _accuracies(start: str, last: dict[str, float], chance: float) -> list[tuple[str, str, bool]]:
    """Return the paper's statements about accuracies, what was found, and whether it holds."""
    scores = f"accuracies {_by_method(last, '.1%')}"
    equal = f"{scores}; equal means within {EQUAL:.0%}."
    if start == "pretrained":
        others = min(value for method, value in last.items() if method != "alpha2-beta1")
        return [
            (
                "only LFP-alpha2-beta1 performs significantly lower than the others.",
                equal,
                last["alpha2-beta1"] + EQUAL < others,
            ),
            (
                "LFP-z+z- performs just as well as gradients.",
                equal,
                last["zplus-zminus"] >= last[GRADIENT] - EQUAL,
            ),
        ]
    return [
        ("LFP-epsilon is on par with gradients.", equal, last["epsilon"] >= last[GRADIENT] - EQUAL),
        (
            "all other composites perform significantly worse.",
            equal,
            all(last[rule] < last[GRADIENT] - EQUAL for rule in RULES if rule != "epsilon"),
        ),
        (
            "the mixed composites lead to better accuracies than LFP-z+z-.",
            f"{scores}.",
            min(last["epsilon-zplus-zminus"], last["epsilon-alpha2-beta1"]) > last["zplus-zminus"],
        ),
        (
            "LFP-alpha2-beta1 only achieves random performance.",
            f"{last['alpha2-beta1']:.1%}, chance is {chance:.1%}.",
            last["alpha2-beta1"] < chance + EQUAL,
        ),
    ]


def _changes(signs: dict[str, float], change: dict[str, float]) -> list[tuple[str, str, bool]]:
    """Return the paper's statements about changes of parameters, what was found, and whether it holds."""
    counts = f"fraction of parameters, {_by_method(signs, '.2%')}."
    sizes = f"mean squared change per epoch {_by_method(change, '.1e')}."
    return [
        ("gradients change most signs.", counts, max(signs, key=signs.__getitem__) == GRADIENT),
        ("LFP-alpha2-beta1 changes the fewest signs.", counts, min(signs, key=signs.__getitem__) == "alpha2-beta1"),
        (
            "of the rules, LFP-alpha2-beta1 leads to the largest changes of parameters.",
            sizes,
            max(RULES, key=change.__getitem__) == "alpha2-beta1",
        ),
        (
            "LFP-z+z- leads to the smallest changes of parameters.",
            sizes,
            min(change, key=change.__getitem__) == "zplus-zminus",
        ),
    ]


def _figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(PAGE_WIDTH, 8), layout="constrained")
    starts = _starts(groups)
    panels: list[list[Axes]] = figure.subplots(3, len(starts), sharex=True, sharey="row", squeeze=False).tolist()
    for (start, method), outcomes in groups.groups.items():
        column = starts.index(start)
        for row, (name, factor) in zip(panels, (("accuracy", 100), ("sign_changes", 100), ("change", 1)), strict=True):
            curves = [[factor * value for value in outcome[name]] for outcome in outcomes]
            draw_curves(row[column], curves, color=COLOURS[method], marker=".", label=NAMES[method])
    numbers = {"pretrained": ("I", "II", "A.6"), "random": ("III", "IV", "A.6")}
    for place, row in enumerate(panels):
        for axes, start in zip(row, starts, strict=True):
            axes.set_title(f"{numbers[start][place]}: {STARTS[start]}")
            axes.grid(alpha=0.3)
    for axes, label in zip(
        (row[0] for row in panels),
        ("test accuracy [%]", "parameters that changed sign [%]", "mean squared change"),
        strict=True,
    ):
        axes.set_ylabel(label)
    for axes in panels[2]:
        label_epochs(axes)
        axes.set_yscale("log")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


EXPERIMENT = Experiment(
    title="LFP's rules and gradients on a VGG-16 for Tiny ImageNet, pretrained or not (LFP fig. 3, A.6)",
    seeds={"smoke": 1, "small": 2, "paper": 3},
    cases=cases,
    run=run,
    report=report,
    parts="start",
)
