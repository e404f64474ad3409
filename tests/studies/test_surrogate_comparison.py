"""The baseline spikes as our network does and learns as snnTorch does; counts of costs; a small benchmark whole."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import small_recordings as make
from spiking_lfp import LIF, UsageError
from spiking_lfp.errors import RunError
from spiking_lfp.nn.networks import stack
from spiking_lfp.studies.cases import read_cases
from spiking_lfp.studies.surrogate_comparison import benchmark
from spiking_lfp.studies.surrogate_comparison.benchmark import (
    NEUROTRAIN,
    Case,
    Outcome,
    cases_for,
    present_presets,
    run_case,
    run_cases,
)
from spiking_lfp.studies.surrogate_comparison.costs import Costs, by_neurobench, counted
from spiking_lfp.studies.surrogate_comparison.report import markdown, rows, write_report
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateNetwork
from spiking_lfp.training import preset_config, read_metrics

snntorch = pytest.importorskip("snntorch")


def network(layers: str = "4C3-MP2-DP0.3-12R-9", seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return stack((2, 10, 10), 5, layers, threshold=0.4)


def inputs(seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return (torch.rand(7, 3, 2, 10, 10) < 0.3).float()


@pytest.mark.parametrize("layers", ["4C3-MP2-12R-9", "AP2-4C3-8", "20"])
def test_the_baseline_spikes_as_our_network(layers: str) -> None:
    ours = network(layers).eval()
    surrogate_network = SurrogateNetwork(ours).eval()
    with torch.no_grad():
        expected = ours(inputs())
        assert torch.equal(surrogate_network(inputs()), expected)
    assert expected.any()


def test_its_gradients_are_those_of_snntorch_written_out() -> None:
    ours = network("12R-9")
    x, labels = inputs().flatten(2), torch.tensor([0, 3, 2])
    hidden, middle, last = (layer for layer in ours if isinstance(layer, LIF))
    F.cross_entropy(SurrogateNetwork(ours)(x.view(7, 3, 2, 10, 10)).sum(0), labels).backward()
    gradients = [parameter.grad.clone() for parameter in ours.parameters()]
    ours.zero_grad()

    spike = snntorch.surrogate.fast_sigmoid(slope=25)
    membranes = [torch.zeros(3, 12), torch.zeros(3, 9), torch.zeros(3, 5)]
    fired = [torch.zeros_like(membrane) for membrane in membranes]
    counts = torch.zeros(3, 5)
    for t in range(7):
        seen = x[t]
        for index, layer in enumerate((hidden, middle, last)):
            current = layer.synapse(seen) + (layer.recurrent(fired[0]) if index == 0 else 0)
            reset = spike(membranes[index] - 0.4).detach() * 0.4
            membranes[index] = 0.9 * membranes[index] + current - reset
            fired[index] = seen = spike(membranes[index] - 0.4)
        counts = counts + seen
    F.cross_entropy(counts, labels).backward()
    for gradient, parameter in zip(gradients, ours.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", ["4C3BN-MP2-9", "12R-9"])
def test_a_constant_input_is_multiplied_once(layers: str) -> None:
    images = torch.rand(3, 2, 10, 10)
    outcomes = []
    for x in (images.expand(7, *images.shape), images.repeat(7, 1, 1, 1, 1)):
        ours = network(layers)
        counts = SurrogateNetwork(ours)(x).sum(0)
        F.cross_entropy(counts, torch.tensor([0, 3, 2])).backward()
        outcomes.append((counts, [parameter.grad for parameter in ours.parameters()]))
    (once, gradients), (stepwise, expected) = outcomes
    assert once.any()
    assert torch.equal(once, stepwise)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-6)


def test_it_learns_the_parameters_of_our_network() -> None:
    ours = network()
    baseline = SurrogateNetwork(ours)
    F.cross_entropy(baseline(inputs()).sum(0), torch.tensor([0, 3, 2])).backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    assert ours[4].recurrent.weight.grad.any()


def test_what_has_no_counterpart_is_named() -> None:
    with pytest.raises(UsageError, match="no counterpart of Sigmoid"):
        SurrogateNetwork(nn.Sequential(nn.Sigmoid()))(inputs())


def test_costs_are_counted_synapse_by_synapse() -> None:
    net, x = network("3C3s2p1-6R").eval(), inputs()
    costs, seen = Costs(), {}
    for layer in net:
        if isinstance(layer, LIF):
            layer.register_forward_hook(lambda layer, x, out: seen.__setitem__(layer, (x[0], out)))
    with torch.no_grad(), counted(net, costs):
        net(x)
    conv, hidden, last = seen
    spikes = sum(float(out.sum()) for _, out in seen.values())
    operations = 0
    for t, b, _, row, column in seen[conv][0].nonzero().tolist():
        del t, b
        reached = sum(
            0 <= 2 * i - 1 + dy - 0 == row and 2 * j - 1 + dx == column
            for i in range(5) for j in range(5) for dy in range(3) for dx in range(3)
        )  # fmt: skip
        operations += 3 * reached
    operations += int(seen[hidden][0].sum()) * 6 + int(seen[hidden][1][:-1].sum()) * 6 + int(seen[last][0].sum()) * 5
    assert (costs.spikes, costs.synops) == (spikes, operations)
    assert costs.updates == sum(out.numel() for _, out in seen.values())
    assert not any(isinstance(layer, LIF) and len(layer._forward_hooks) > 1 for layer in net)


def test_neurobench_counts_the_same() -> None:
    pytest.importorskip("neurobench")
    net, x = network("4C3-MP2-DP0.3-12").eval(), inputs()
    costs = Costs()
    with torch.no_grad(), counted(net, costs):
        net(x)
    measurements = by_neurobench(net, x)
    assert measurements is not None
    assert measurements["effective accumulates"] == pytest.approx(costs.synops / 3, rel=1e-6)
    assert measurements["activation sparsity"] == pytest.approx(1 - costs.spikes / costs.updates, rel=1e-6)
    assert by_neurobench(network("12R"), x) is None


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    make.write_nmnist(tmp_path / "data")
    return tmp_path / "data"


def test_presets_of_data_that_are_there(data: Path, tmp_path: Path) -> None:
    assert present_presets(data) == ["nmnist-conv", "nmnist-mlp"]
    assert present_presets(tmp_path / "none") == []


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.filterwarnings("ignore:.*did not spike")
def test_a_benchmark_runs_writes_and_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = cases_for(["nmnist-mlp"], ["lfp", "surrogate"], seeds=2, epochs=1)
    assert [(case.method, case.seed) for case in cases] == [("lfp", 1), ("lfp", 2), ("surrogate", 1), ("surrogate", 2)]
    called: list[Case] = []
    out = tmp_path / "bench"
    results = run_cases(cases[:1] + cases[2:3], out, data, lambda case, *_: called.append(case))
    assert called == [cases[0], cases[2]]
    for case, outcome in results:
        assert 0 <= outcome.accuracy <= 1
        assert (outcome.train_samples, outcome.test_samples) == (20, 20)
        assert outcome.synops > 0
        assert (out / f"nmnist-mlp-{case.method}-1-epochs=1" / "metrics.jsonl").is_file()

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(benchmark, "run_case", never)
    assert run_cases(cases[:1] + cases[2:3], out, data, never) == results
    paths = write_report(results, out)
    assert [path.name for path in paths] == ["events.md", "events.csv", "events.png"]
    assert paths[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("in_this_process")
def test_settings_in_place_of_a_preset_s(tmp_path: Path) -> None:
    [ours, surrogate] = cases_for(["braille"], ["lfp", "surrogate"], 1, changes={"augment": "", "copies": "1"})
    assert ours.settings == "augment= copies=1"
    assert surrogate.settings == "threshold=1 beta=0.9 augment= copies=1"
    [case] = cases_for(["yin-yang"], ["lfp"], 1, 1, {"hidden": "9"})
    assert (case, case.settings) != (cases_for(["yin-yang"], ["lfp"], 1, 1)[0], "")
    [(_, _)] = run_cases([case], tmp_path, None, lambda *_: None)
    assert "hidden = [\n    9,\n]" in (tmp_path / "yin-yang-lfp-1-epochs=1-hidden=9" / "config.toml").read_text()


@pytest.mark.usefixtures("in_this_process")
def test_runs_of_other_epochs_keep_their_folders(tmp_path: Path) -> None:
    for epochs in (1, 2):
        run_cases(cases_for(["yin-yang"], ["lfp"], 1, epochs, {"hidden": "9"}), tmp_path, None, lambda *_: None)
    found = [read_metrics(config.parent)[-1]["epoch"] for config in sorted(tmp_path.glob("*/config.toml"))]
    assert found == [1, 2]


@pytest.mark.usefixtures("in_this_process")
def test_settings_that_are_no_name_of_a_folder_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    paths = [folder / "my data.npz", folder / "my_data.npz"]
    for path in paths:
        np.savez(path, x=np.random.default_rng(0).random((60, 4)), y=np.arange(60) % 3)
    cases = [cases_for(["yin-yang"], ["lfp"], 1, 1, {"data": str(path)})[0] for path in paths]
    assert len(run_cases(cases, tmp_path / "out", None, lambda *_: None)) == 2
    assert len([*(tmp_path / "out").glob("yin-yang-lfp-1-*/config.toml")]) == 2


@pytest.mark.parametrize("method", ["lfp", "surrogate"])
def test_networks_whose_outputs_are_membranes_are_measured(method: str, tmp_path: Path) -> None:
    found = run_case(Case("yin-yang", method, 1, 1, ""), tmp_path, None)
    assert found.accuracy > 0.6
    assert found.synops > 0


def outcome(accuracy: float, neurobench: dict[str, float] | None) -> Outcome:
    return Outcome(accuracy, 100.0, 2000.0, 0.9, 12.0, 300.0, 60, 40, neurobench)


def test_tables_have_means_and_deviations(tmp_path: Path) -> None:
    counts = {"activation sparsity": 0.8, "effective accumulates": 1900.0, "effective multiply-accumulates": 0.0}
    results = [(Case("a", "lfp", seed, 3, ""), outcome(0.9 + seed / 100, counts)) for seed in (1, 2, 3)]
    results += [(Case("a", "surrogate", 1, 3, "lr=0.001"), outcome(0.5, None))]
    first, second = rows(results)
    assert (first.accuracy, first.deviation, first.seeds) == (pytest.approx(92), pytest.approx(1), 3)
    assert (second.accuracy, second.deviation, second.neurobench_acs) == (50, 0, None)
    text = markdown([first, second])
    assert "| a | 60 + 40 | lfp, 3 epochs | 92.00 % ± 1.00, 3 seeds | 100 | 2,000 | 1,900 | 12 s | 300 MB |" in text
    assert "| surrogate, 3 epochs, lr=0.001 | 50.00 % ± 0.00, 1 seed | 100 | 2,000 | - |" in text
    write_report(results, tmp_path)
    with (tmp_path / "events.csv").open() as file:
        [one, two] = csv.DictReader(file)
    assert (one["method"], float(one["accuracy"]), two["settings"]) == ("lfp", pytest.approx(92), "lr=0.001")
    assert np.isclose(float(one["deviation"]), 1)


def test_a_row_is_of_the_same_samples() -> None:
    """A data set may have been a part when the first seeds were trained."""
    results = [(Case("a", "lfp", seed, 3, ""), outcome(0.9, None)) for seed in (1, 2)]
    results.append((Case("a", "lfp", 3, 3, ""), replace(outcome(0.9, None), train_samples=6000)))
    with pytest.raises(RunError, match=r"^a had 60 \+ 40 samples and 6,000 \+ 40 samples in cases of lfp with differ"):
        rows(results)


def test_tables_of_rules_have_what_others_published(tmp_path: Path) -> None:
    assert present_presets(tmp_path, NEUROTRAIN) == []
    assert present_presets(tmp_path, ["yin-yang", "mnist-small"]) == ["yin-yang"]
    results = [(Case(preset, "lfp", 1, 3, ""), outcome(0.9, None)) for preset in ("mnist-small", "yin-yang")]
    path = write_report(results, tmp_path, "rules")[0]
    assert path.name == "rules.md"
    head, _, known, unknown = path.read_text().splitlines()
    assert head.endswith("| memory | best in NeuroTrain |")
    assert known.endswith("| 97.5 % TP, 97.8 % BPTT |")
    assert unknown.endswith("MB |  |")
    assert {preset_config(name).data for name in NEUROTRAIN} == {"mnist", "fashion-mnist", "cifar10"}


def test_what_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown method 'bptt'"):
        cases_for(["nmnist-mlp"], ["bptt"], 1)
    with pytest.raises(UsageError, match="unknown preset 'nmnist'"):
        cases_for(["nmnist"], ["lfp"], 1)
    with pytest.raises(UsageError, match="preset nmnist-mlp is given twice, which would count its seeds twice"):
        cases_for(["nmnist-mlp", "nmnist-conv", "nmnist-mlp"], ["lfp"], 1)
    with pytest.raises(UsageError, match="method lfp is given twice"):
        cases_for(["nmnist-mlp"], ["lfp", "lfp"], 1)
    with pytest.raises(UsageError, match="seeds must be at least 1"):
        cases_for(["nmnist-mlp"], ["lfp"], 0)
    with pytest.raises(UsageError, match="hidden"):
        cases_for(["nmnist-mlp"], ["lfp"], 1, changes={"hidden": "many"})
    with pytest.raises(UsageError, match="epochs is an option of its own: --epochs"):
        cases_for(["nmnist-mlp"], ["lfp"], 1, changes={"epochs": "3"})
    for name, value in {"rule": "zero", "reward": "spike-rate", "clip": "0", "normalize_feedback": "true"}.items():
        with pytest.raises(UsageError, match=f"^{name} changes nothing of surrogate gradients, it is of LFP: leave it"):
            cases_for(["nmnist-mlp"], ["surrogate"], 1, changes={name: value})
        assert len(cases_for(["nmnist-mlp"], ["lfp", "surrogate"], 1, changes={name: value})) == 2
    with pytest.raises(
        UsageError, match="quantize = 4: surrogate gradients train in real numbers, and would be measur"
    ):
        cases_for(["nmnist-mlp"], ["lfp", "surrogate"], 1, changes={"quantize": "4"})
    assert cases_for(["nmnist-mlp"], ["lfp"], 1, changes={"quantize": "4"})
    (tmp_path / "cases.jsonl").write_text("{broken\n")
    with pytest.raises(RunError, match=r"cannot read .*cases.jsonl"):
        read_cases(tmp_path)
