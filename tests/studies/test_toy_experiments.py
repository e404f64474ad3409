"""The toy experiments of LFP app. A.1 and A.4: their data, their measures, and what theory says of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spiking_lfp.nn.layers import NormalizeFeedback
from spiking_lfp.plots.drawing import PAGE_WIDTH
from spiking_lfp.studies import registry
from spiking_lfp.studies.cases import Case
from spiking_lfp.studies.experiment import Experiment
from spiking_lfp.studies.lfp_paper.depth import (
    DEPTH,
    SHATTERING,
    correlation,
    deep_network,
    run_depth,
    run_shattering,
    signal,
)
from spiking_lfp.studies.lfp_paper.toy import (
    SIMPLE_REWARD,
    accuracies,
    fluctuation,
    normalized_mlp,
    run,
    toy_data,
    toy_inputs,
)

EXPERIMENTS = {"simple-reward": SIMPLE_REWARD, "shattering": SHATTERING, "depth": DEPTH}
SMALL_DEPTH = {"seed": 1, "neurons": 8, "hidden": [2], "batch_size": 4096, "epochs": 1}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_smoke_writes_numbers_figure_and_findings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "EXPERIMENTS", EXPERIMENTS)
    trained: list[Case] = []
    report, paths = registry.run_experiment(name, "smoke", tmp_path, lambda case, *_: trained.append(case))
    assert len(trained) == len(EXPERIMENTS[name].cases("smoke", 1)) == 1
    assert all(path.stat().st_size for path in paths)
    assert report.figure.get_figwidth() == PAGE_WIDTH
    assert report.rows
    assert report.findings


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_no_case_comes_twice(experiment: Experiment) -> None:
    for scale, seeds in experiment.seeds.items():
        cases = [str(case) for case in experiment.cases(scale, seeds)]
        assert len(cases) == len(set(cases))


def test_a_case_comes_to_the_same_every_time() -> None:
    case = {"seed": 3, "batch_size": 1, "steps": 12}
    assert run(case, None) == run(case, None) != run({**case, "seed": 4}, None)
    assert run_shattering({"seed": 3, "hidden": [2]}, None) == run_shattering({"seed": 3, "hidden": [2]}, None)
    assert run_depth(SMALL_DEPTH, None) == run_depth(SMALL_DEPTH, None)


def test_data_has_100_samples_held_out_and_a_class_for_each_sign() -> None:
    data = toy_data(seed=5)
    assert (len(data.train_y), len(data.test_y)) == (15_900, 100)
    both = torch.cat([data.train_x, data.test_x]).flatten()
    # 8000 steps to each side, none twice, so none both learned and tested
    assert torch.equal((both / 5e-4).round().long().sort().values, toy_places(8000))
    assert both.abs().max() == 4
    assert torch.equal(torch.cat([data.train_y, data.test_y]), (both > 0).long())
    assert 30 < int(data.test_y.sum()) < 70
    assert not torch.equal(data.test_x, toy_data(seed=6).test_x)


def toy_places(steps: int) -> torch.Tensor:
    return torch.cat([torch.arange(-steps, 0), torch.arange(1, steps + 1)])


def test_correlation_is_that_of_numpy() -> None:
    values = torch.randn(50).cumsum(0) + 3
    assert correlation(values) == pytest.approx(np.corrcoef(values[:-1], values[1:])[0, 1], abs=1e-6)
    assert abs(correlation(torch.randn(10_000))) < 0.05
    assert correlation(torch.full((9,), 2.0)) == 0


def test_network_of_shattering_is_he_initialised_with_biases() -> None:
    layers = [layer for layer in deep_network(3, seed=1) if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [200] * 4 + [2]
    for layer in layers[1:4]:
        assert layer.weight.std().item() == pytest.approx(0.1, rel=0.02)
        assert layer.bias.std().item() == pytest.approx(0.1, rel=0.2)


def test_a_gradient_is_divided_by_its_largest_value_before_and_after_each_layer() -> None:
    network = normalized_mlp([1, 4, 2])
    assert sum(isinstance(layer, NormalizeFeedback) for layer in network) == 3
    inputs = toy_inputs(0.5).requires_grad_()
    network(inputs).sum().mul(1000).backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().max() == 1
    last = network[-2]
    assert isinstance(last, nn.Linear)
    assert last.bias.grad is not None
    assert torch.equal(last.bias.grad, torch.full((2,), float(len(inputs))))


def test_a_reward_of_one_teaches_and_the_schedule_calms() -> None:
    # LFP fig. A.1, for a seed that learns in spite of a rate that falls
    constant, decayed = (accuracies(5, name, 1, 150) for name in ("constant", "decayed"))
    assert constant[:40] == decayed[:40]
    assert max(decayed) > 0.9
    assert sum(decayed[100:]) > sum(constant[100:])
    assert fluctuation(decayed) < fluctuation(constant) / 2


def test_feedback_by_zplus_zminus_never_grows_through_50_layers() -> None:
    # LFP app. A.3; without normalisation, from a reward of at most 1
    network = nn.Sequential(*(each for each in deep_network(50, seed=2) if not isinstance(each, NormalizeFeedback)))
    sizes: list[float] = []

    def watch(_: nn.Module, __: object, outputs: torch.Tensor) -> None:
        outputs.register_hook(lambda feedback: sizes.append(float(feedback.abs().sum(1).max())))

    for layer in network:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(watch)
    value = signal(network, "zplus-zminus").abs()
    assert len(sizes) == 51
    assert bool(value.isfinite().all())
    assert all(after <= before * 1.0001 for before, after in zip(sizes, [*sizes[1:], float(value.max())], strict=True))


def test_deep_gradients_shatter_and_zplus_zminus_does_not() -> None:
    # LFP fig. A.2, at a depth that fits a test
    network = deep_network(100, seed=1)
    correlations = {method: correlation(signal(network, method)) for method in ("gradient", "zplus-zminus")}
    assert correlations["gradient"] < 0.9 < 0.99 < correlations["zplus-zminus"]
