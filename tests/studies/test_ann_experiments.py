"""Experiments on non-spiking networks: smoke runs, what is measured, and findings that follow from the numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.data.cache import FOLDER_VARIABLE
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies.cases import Case
from spiking_lfp.studies.experiment import Experiment, Report, Results
from spiking_lfp.studies.lfp_paper import figure2, figure3, figure5
from spiking_lfp.studies.lfp_paper.ann import (
    GRADIENT,
    METHODS,
    Data,
    Learner,
    ParameterWatch,
    lenet,
    pruned_accuracies,
    relu_mlp,
    train,
)
from spiking_lfp.studies.registry import EXPERIMENTS, run_experiment

OURS = {"cifar": figure2.EXPERIMENT, "vgg": figure3.EXPERIMENT, "fine-tuning": figure5.EXPERIMENT}


@pytest.fixture(autouse=True)
def here(in_this_process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    for name, experiment in OURS.items():
        monkeypatch.setitem(EXPERIMENTS, name, experiment)


@pytest.mark.parametrize("name", OURS)
def test_a_smoke_run_is_written_and_not_run_twice(name: str, tmp_path: Path) -> None:
    called: list[Case] = []
    out = tmp_path / "out"
    first, paths = run_experiment(name, "smoke", out, lambda case, *_: called.append(case))
    assert called == OURS[name].cases("smoke", 1)
    assert all(path.stat().st_size for path in paths)
    assert {figure.get_figwidth() for figure in (first.figure, *first.others.values())} == {PAGE_WIDTH}
    assert {tuple(row) for row in first.rows} == {tuple(first.rows[0])}
    again, _ = run_experiment(name, "smoke", out, lambda case, *_: called.append(case))
    assert len(called) == len(OURS[name].cases("smoke", 1))
    assert again.rows == first.rows
    assert again.findings == first.findings
    json.loads((out / "numbers.json").read_text())
    setting = OURS[name].parts
    if setting is not None:
        parts = dict.fromkeys(case[setting] for case in called)
        alone = [
            run_experiment(name, "smoke", out, lambda case, *_: called.append(case), part=part)[0] for part in parts
        ]
        assert len(called) == len(OURS[name].cases("smoke", 1))
        assert [row for each in alone for row in each.rows] == first.rows
        assert [finding for each in alone for finding in each.findings] == first.findings


def last_case(experiment: Experiment, **settings: Any) -> Case:
    return [case for case in experiment.cases("smoke", 1) if settings.items() <= case.items()][-1]


@pytest.mark.parametrize(
    ("experiment", "case"),
    [
        (figure2.EXPERIMENT, last_case(figure2.EXPERIMENT, network="lenet", lr=0.1)),
        (figure3.EXPERIMENT, last_case(figure3.EXPERIMENT, start="pretrained", method="epsilon-zplus-zminus")),
        (figure5.EXPERIMENT, last_case(figure5.EXPERIMENT, method="epsilon")),
    ],
    ids=["cifar", "vgg", "fine-tuning"],
)
def test_a_case_has_one_outcome(
    experiment: Experiment, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = experiment.run(case, None)
    torch.rand(3)
    cached = experiment.run(case, None)
    # pretrained once more
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "other"))
    anew = experiment.run(case, None)
    for outcome in (first, cached, anew):
        del outcome["seconds"]
    assert first == cached == anew
    assert experiment.run({**case, "seed": 2}, None)["change"] != first["change"]


@pytest.mark.parametrize("experiment", [figure2.EXPERIMENT, figure3.EXPERIMENT], ids=["cifar", "vgg"])
def test_missing_data_are_named(experiment: Experiment, tmp_path: Path) -> None:
    case = experiment.cases("small", 1)[0]
    with pytest.raises(DataError, match=r"is not in .*cannot be downloaded"):
        experiment.run(case, tmp_path)


def test_real_photographs_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of a smoke run, on the data of the larger ones."""
    names = {"data": "tiny-imagenet-20", "before": "cifar100-classes", "classes": 20, "before_train": 64}
    case = {**last_case(figure3.EXPERIMENT, start="pretrained", method="epsilon"), **names}
    small = {**last_case(figure2.EXPERIMENT, network="mlp"), "data": "cifar10"}
    try:
        outcomes = [figure3.run(case, None), figure2.run(small, None)]
    except DataError as error:
        pytest.skip(str(error))
    assert all(0 <= outcome["accuracy"][-1] <= 1 for outcome in outcomes)
    assert outcomes[1]["data"] in ("cifar10", "cifar100-classes")


def blobs(classes: int = 3) -> Data:
    """Points around a centre for each class, few enough to learn at once."""
    labels = torch.arange(60) % classes
    x = F.one_hot(labels, 8).float() + 0.1 * torch.rand(60, 8)
    return Data(x[:48], labels[:48], x[48:], labels[48:], classes)


def test_a_gradient_is_that_of_cross_entropy() -> None:
    torch.manual_seed(3)
    model = relu_mlp([8, 5, 3])
    data = blobs()
    before = [each.detach().clone() for each in model.parameters()]
    loss = F.cross_entropy(model(data.train_x), data.train_y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    Learner(model, GRADIENT, torch.optim.SGD(model.parameters(), 0.5)).update(data.train_x, data.train_y)
    for was, now, gradient in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(now, was - 0.5 * gradient)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_updates(method: str) -> None:
    torch.manual_seed(1)
    model = relu_mlp([8, 32, 3])
    learner = Learner(model, method, torch.optim.SGD(model.parameters(), 0.1), normalize=True)
    curves = train(learner, blobs(), epochs=2, batch_size=8, seed=1)
    assert {name: len(curve) for name, curve in curves.items()} == dict.fromkeys(
        ("seconds", "accuracy", "sign_changes", "change", "median"), 2
    )
    assert min(curves["change"]) > 0
    with pytest.raises(UsageError, match="unknown method"):
        Learner(model, "epsilom", learner.optimizer)


@pytest.mark.parametrize("method", [GRADIENT, "epsilon"])
def test_blobs_are_learned(method: str) -> None:
    torch.manual_seed(1)
    model = relu_mlp([8, 32, 3])
    learner = Learner(model, method, torch.optim.SGD(model.parameters(), 0.3))
    assert train(learner, blobs(), epochs=20, batch_size=8, seed=1)["accuracy"][-1] > 0.9


def test_another_learner_goes_on_after_so_many_updates() -> None:
    """Three updates by gradients, then the others by LFP, across the end of an epoch of six."""

    def trained(changes: bool) -> list[Tensor]:
        torch.manual_seed(2)
        model, data = relu_mlp([8, 5, 3]), blobs()
        gradient = Learner(model, GRADIENT, torch.optim.SGD(model.parameters(), 0.1))
        feedback = Learner(model, "epsilon", torch.optim.SGD(model.parameters(), 0.1))
        if changes:
            train(gradient, data, 2, 8, 5, {3: feedback})
        else:
            generator = torch.Generator().manual_seed(5)
            orders = [torch.randperm(48, generator=generator) for _ in range(2)]
            for update, batch in enumerate(torch.cat(orders).split(8)):
                (gradient if update < 3 else feedback).update(data.train_x[batch], data.train_y[batch])
        return list(model.parameters())

    for parameter, expected in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(parameter, expected)


def test_feedback_that_is_lost_ends_learning_only() -> None:
    torch.manual_seed(1)
    model, data = relu_mlp([8, 5, 3]), blobs()
    learner = Learner(model, "epsilon", torch.optim.SGD(model.parameters(), 1e30))
    curves = train(learner, data, 3, 8, 1)
    assert len(curves["accuracy"]) == 3
    assert curves["change"][1:] == [0, 0]


def test_parameters_are_compared_one_by_one() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    watch = ParameterWatch(model)
    before = [each.tolist() for each in model.parameters()]
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.4 * torch.randn(each.shape))
    seen = watch.measure()
    changed, squares, sizes = [], [], []
    for was, parameter in zip(before, model.parameters(), strict=True):
        for a, b in zip(torch.tensor(was).flatten().tolist(), parameter.flatten().tolist(), strict=True):
            changed.append((a > 0) != (b > 0))
            squares.append((a - b) ** 2)
            if parameter.dim() > 1:
                sizes.append(abs(b))
    sizes.sort()
    # 20 weights: the middle lies halfway between two, three quarters a quarter after the 15th
    middle, upper = (sizes[9] + sizes[10]) / 2, sizes[14] + 0.25 * (sizes[15] - sizes[14])
    assert 0 < sum(changed) < len(changed)
    assert seen["sign_changes"] == pytest.approx(sum(changed) / len(changed))
    assert seen["change"] == pytest.approx(sum(squares) / len(squares), rel=1e-5)
    assert seen["median"] == pytest.approx(middle / upper, rel=1e-5)
    assert watch.measure() == {"sign_changes": 0, "change": 0, "median": seen["median"]}


def test_pruning_silences_the_smallest_weights() -> None:
    torch.manual_seed(5)
    model, data = relu_mlp([8, 16, 3]), blobs()
    train(Learner(model, GRADIENT, torch.optim.SGD(model.parameters(), 0.1)), data, 20, 8, 1)
    before = [each.detach().clone() for each in model.parameters()]
    fractions = [0.0, 0.3, 0.6, 0.9, 1.0]
    accuracies = pruned_accuracies(model, data, fractions)
    for was, now in zip(before, model.parameters(), strict=True):
        assert torch.equal(was, now)
    ranked = sorted(
        (abs(value), layer, i, j)
        for layer in (0, 2)
        for i, row in enumerate(before[layer].tolist())
        for j, value in enumerate(row)
    )
    for fraction, accuracy in zip(fractions, accuracies, strict=True):
        pruned = [each.tolist() for each in before]
        for _, layer, i, j in ranked[: round(fraction * len(ranked))]:
            pruned[layer][i][j] = 0.0
        right = 0
        for x, label in zip(data.test_x.tolist(), data.test_y.tolist(), strict=True):
            hidden = [max(0.0, z) for z in dense(pruned[0], pruned[1], x)]
            logits = dense(pruned[2], pruned[3], hidden)
            right += logits.index(max(logits)) == label
        assert accuracy == pytest.approx(right / len(data.test_y))


def dense(weight: list[list[float]], bias: list[float], x: list[float]) -> list[float]:
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def test_networks_are_those_of_the_paper() -> None:
    mlp = relu_mlp([3072, 512, 256, 128, 10], 0.5)
    assert [tuple(each.weight.shape) for each in mlp if isinstance(each, nn.Linear)] == [
        (512, 3072),
        (256, 512),
        (128, 256),
        (10, 128),
    ]
    assert [each.p for each in mlp if isinstance(each, nn.Dropout)] == [0.5] * 3
    assert [tuple(each.shape) for each in lenet((3, 32, 32), 10).parameters() if each.dim() > 1] == [
        (16, 3, 5, 5),
        (16, 16, 5, 5),
        (120, 400),
        (84, 120),
        (10, 84),
    ]
    small = figure3.vgg16(5, 1 / 8, 32)
    assert [each.out_channels for each in small.features if isinstance(each, nn.Conv2d)] == [
        8, 8, 16, 16, 32, 32, 32, 64, 64, 64, 64, 64, 64
    ]  # fmt: skip
    assert small(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    with torch.device("meta"):
        whole = figure3.vgg16(1000, 1.0, 64)
        known = figure3.torchvision_models().vgg16()
    assert {name: each.shape for name, each in whole.state_dict().items()} == {
        name: each.shape for name, each in known.state_dict().items()
    }


def curve(value: float) -> list[float]:
    return [value] * 3


def holds(report: Report) -> list[bool | None]:
    return [finding.holds for finding in report.findings]


def test_findings_of_figure_2() -> None:
    def results(feedback: float, best_rate: float, gradient: float = 0.5) -> Results:
        return [
            (
                case,
                {
                    "data": "cifar10",
                    "classes": 10,
                    "seconds": curve(1.0),
                    "accuracy": curve(
                        (gradient if case["lr"] == 0.01 else 0.2)
                        if case["method"] == GRADIENT
                        else (feedback if case["lr"] == best_rate else 0.2)
                    ),
                },
            )
            for case in figure2.cases("small", 2)
        ]

    assert holds(figure2.report(results(0.49, 0.1))) == [True, True] * 2
    assert holds(figure2.report(results(0.3, 0.01))) == [False, False] * 2
    assert holds(figure2.report(results(0.1, 0.01, 0.1)))[0] is not None
    nothing = [(case, {**outcome, "accuracy": curve(0.1)}) for case, outcome in results(0.1, 0.1)]
    assert holds(figure2.report(nothing)) == [None] * 4


def test_findings_of_figure_3() -> None:
    random = {
        GRADIENT: 0.6,
        "epsilon": 0.6,
        "zplus-zminus": 0.2,
        "alpha2-beta1": 0.1,
        "epsilon-zplus-zminus": 0.4,
        "epsilon-alpha2-beta1": 0.3,
    }
    order = list(random)

    def results(random: dict[str, float], fine: dict[str, float], worst: str) -> Results:
        return [
            (
                case,
                {
                    "seconds": curve(1.0),
                    "accuracy": curve((random if case["start"] == "random" else fine)[case["method"]]),
                    "sign_changes": curve(
                        {GRADIENT: 0.3, "alpha2-beta1": 0.001}.get(
                            case["method"], 0.01 * (1 + order.index(case["method"]))
                        )
                    ),
                    "change": curve(
                        {worst: 1e-3, "zplus-zminus": 1e-9}.get(
                            case["method"], 1e-6 * (1 + order.index(case["method"]))
                        )
                    ),
                },
            )
            for case in figure3.cases("small", 2)
        ]

    fine = dict.fromkeys(random, 0.8) | {"alpha2-beta1": 0.3}
    assert holds(figure3.report(results(random, fine, "alpha2-beta1"))) == [True] * 14
    equal = dict.fromkeys(random, 0.5)
    verdicts = holds(figure3.report(results(equal, equal, "epsilon")))
    assert verdicts[:2] == [False, True]
    assert verdicts[6:10] == [True, False, False, False]
    assert verdicts[4] is verdicts[12] is False
    assert (
        holds(figure3.report(results(dict.fromkeys(random, 0.1), dict.fromkeys(random, 0.1), "epsilon"))) == [None] * 14
    )


def test_findings_of_figure_5() -> None:
    def results(paper: bool) -> Results:
        results = []
        for case in figure5.cases("small", 2):
            method, later = case["method"], bool(case["pretraining"])
            last = {GRADIENT: 0.99, "epsilon": 0.99, "zplus-zminus": 0.96 if later else 0.94}[method]
            ends = {GRADIENT: 0.7, "epsilon": 0.85, "zplus-zminus": 0.5 if later else 0.3}[method]
            floor = {GRADIENT: 0.2, "epsilon": 0.3, "zplus-zminus": 0.6}[method]
            median = {GRADIENT: [0.66, 0.5, 0.48], "epsilon": [0.66, 0.6, 0.5], "zplus-zminus": [0.66, 0.66, 0.65]}
            outcome = {
                "seconds": curve(1.0),
                "accuracy": [0.95 if method == GRADIENT else 0.8 if later else 0.6, 0.9, last],
                "sign_changes": curve(0.01 if method == GRADIENT else 1e-5),
                "pruned": [last if fraction <= ends else floor for fraction in figure5.PRUNED],
                "median": median[method],
            }
            if not paper:
                same = {"accuracy": curve(0.9), "sign_changes": curve(0.01), "median": curve(0.66)}
                outcome |= {**same, "pruned": [0.9] * len(figure5.PRUNED)}
            results.append((case, outcome))
        return results

    report = figure5.report(results(True))
    assert holds(report) == [True] * 10
    assert report.rows[0]["70 % pruned"] == pytest.approx(0.99)
    assert report.rows[0]["preserved up to"] == pytest.approx(0.7)
    # all alike: as good as gradients, and nothing else of what is said
    assert holds(figure5.report(results(False))) == [True] + [False] * 9
