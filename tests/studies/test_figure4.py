"""The grid of spiking networks: its trainings are those of the package, its findings follow from the numbers."""

import pytest
import torch

from spiking_lfp.studies.lfp_paper.figure4 import EXPERIMENT, METHODS, SETTING, Results, report, run


def test_a_case_has_its_curves_and_comes_to_the_same_again() -> None:
    case = EXPERIMENT.cases("smoke", 1)[0]
    outcome = run(case, None)
    assert len(outcome["accuracy"]) == case["epochs"]
    assert list(outcome["spike_rates"]) == list(outcome["weights"]) == list(outcome["biases"])
    assert [len(curve) for curve in outcome["weights"].values()] == [1 + case["epochs"]] * 2
    assert run(case, None) == outcome
    assert run({**case, "seed": 2}, None) != outcome


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str) -> None:
    [case] = [case for case in EXPERIMENT.cases("smoke", 1) if case["method"] == method]
    outcome = run(case, None)
    assert 0 <= outcome["accuracy"][0] <= 1
    assert all(curve[0] != curve[-1] for curve in outcome["weights"].values())


def fabricated(accuracies: dict[str, float]) -> Results:
    """A grid in which a method's accuracy is that given, less what a fast leak costs LFP."""
    results = []
    for method, value in accuracies.items():
        for beta in (0.3, 0.6, 0.9):
            for steps in (5, 25):
                cost = 0.0 if method in ("surrogate", "awake") else (0.9 - beta) / 10 + (25 - steps) / 1000
                case = {"network": "mlp", "method": method, "beta": beta, "steps": steps, "lr": 1e-3, "seed": 1}
                weights = {"1": [1.0, 1 + (beta > 0.5) / 10], "2": [1.0, 1.001]}
                biases = {"1": [1.0, 1.0], "2": [1.0, 1.5]}
                outcome = {"accuracy": [0.1, value - cost], "spike_rates": {"1": 0.2, "2": 0.1}}
                results.append((case, {**outcome, "weights": weights, "biases": biases}))
    return results


def test_findings_follow_from_the_numbers() -> None:
    like_the_paper = dict.fromkeys(METHODS, 0.97) | {"zplus-zminus": 0.9}
    summary = report(fabricated(like_the_paper))
    assert [finding.holds for finding in summary.findings] == [True] * 7
    assert len(summary.rows) == 6 * len(METHODS)
    assert set(SETTING) < set(summary.rows[0])
    unlike = report(fabricated(like_the_paper | {"epsilon": 0.9, "zplus-zminus": 0.97}))
    assert [finding.holds for finding in unlike.findings[:2]] == [False, False]


def test_a_grid_without_ends_does_not_tell() -> None:
    results = [(case, outcome) for case, outcome in fabricated(dict.fromkeys(METHODS, 0.9)) if case["beta"] == 0.6]
    assert [finding.holds for finding in report(results).findings][2] is None
    assert torch.is_grad_enabled()
