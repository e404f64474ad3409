"""Whole runs: the same numbers again, choosing, stopping, schedules, warnings, and what is refused."""

import math
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.small_recordings import events
from helpers.small_runs import outcome, small_config, small_dataset, small_samples
from spiking_lfp.data import samples
from spiking_lfp.errors import NonFiniteError, RunError, UsageError
from spiking_lfp.lfp.rewards import (
    cross_entropy_reward,
    softmax_reward,
    spike_count_reward,
    spike_rate_reward,
    squared_error_reward,
)
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.composites import composite
from spiking_lfp.nn.layers import PopulationReadout, SynapticLayer
from spiking_lfp.nn.spiking import LI
from spiking_lfp.training import (
    Callback,
    Meter,
    TrainConfig,
    evaluate,
    load_run,
    loop,
    pick_device,
    preset_config,
    read_config,
    read_metrics,
    resume,
    samples_for,
    train,
)
from spiking_lfp.training.checkpoint import CHECKPOINT, VERSION, Checkpoint
from spiking_lfp.training.feeds import MemoryData
from spiking_lfp.training.loop import Trainer
from spiking_lfp.training.runs import network_for

Run = Callable[..., Path]


class Stop(BaseException):
    """What a callback stops a run with."""


class Watch(Callback):
    """Notes what it is told, and stops the run at a batch if asked to."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.stop_at = stop_at
        self.told: list[Any] = []

    def start(self, run: Trainer) -> None:
        self.told.append(run.folder.name)

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        self.told.append((epoch, batch, batches, meter.samples))
        if (epoch, batch) == self.stop_at:
            raise Stop

    def line(self, metrics: dict[str, Any]) -> None:
        self.told.append(metrics["kind"])

    def epoch(self, metrics: dict[str, Any]) -> None:
        self.told.append(metrics["train"]["samples"])

    def end(self, run: Trainer) -> None:
        self.told.append(run.progress.epoch)


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(folder) if line["kind"] == kind]


@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_the_same_seed_gives_the_same_run(network: str, run: Run) -> None:
    first = run("first", network=network)
    torch.rand(3)
    second = run("second", network=network)
    assert outcome(first) == outcome(second)
    other = outcome(run("other", network=network, seed=1))
    assert outcome(first)["network"] != other["network"]
    assert outcome(first)["metrics"] != other["metrics"]


def test_the_seed_orders_the_images_anew_in_each_epoch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    step = loop.training_step

    def spy(network: Any, x: Tensor, *rest: Any) -> None:
        seen.extend((x[0, :, 0, 0, 0] * 255).round().int().tolist())
        step(network, x, *rest)

    monkeypatch.setattr(loop, "training_step", spy)
    run("a")
    run("b", seed=1)
    epochs = [tuple(seen[start : start + 10]) for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_the_network_sees_pixels_as_values_from_0_to_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    step = loop.training_step
    monkeypatch.setattr(loop, "training_step", lambda net, x, *rest: (seen.append(x[0]), step(net, x, *rest)))
    run(epochs=1)
    images = torch.cat(seen)
    order = (images[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(images, small_dataset().train_images[order].float() / 255)


def test_a_run_folder_holds_settings_metrics_and_the_network(run: Run) -> None:
    folder = run(log_every=2)
    assert sorted(each.name for each in folder.glob("[!.]*")) == ["checkpoint.pt", "config.toml", "metrics.jsonl"]
    assert read_config(folder) == small_config(log_every=2)
    told = [(line["kind"], line["epoch"], line.get("batch")) for line in read_metrics(folder)]
    assert told == [("batch", 1, 2), ("epoch", 1, None), ("batch", 2, 2), ("epoch", 2, None)]
    assert [line["samples"] for line in lines(folder, "batch")] == [8, 8]
    loaded = load_run(folder)
    network, config = loaded.network, loaded.config
    meter = evaluate(network, samples_for(config).test)
    assert lines(folder, "epoch")[-1]["test"] == meter.summary()
    assert not network.training


def test_metrics_are_those_of_the_training_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = []
    step = loop.training_step

    def spy(network: Any, images: Tensor, labels: Tensor, *rest: Any) -> None:
        own = Meter()
        *settings, whole, chunk, reward, _ = rest
        with loop.watch_spikes(network, own):
            step(network, images, labels, *settings, own, chunk, reward)
        whole.samples, whole.correct, whole.reward = (
            whole.samples + own.samples, whole.correct + own.correct, whole.reward + own.reward
        )  # fmt: skip
        meters.append(own)

    monkeypatch.setattr(loop, "training_step", spy)
    [line] = lines(run(epochs=1), "epoch")
    assert line["train"]["samples"] == 10
    assert line["train"]["accuracy"] == sum(meter.correct for meter in meters) / 10
    rates = {name: sum(meter.rates[name] for meter in meters) / 10 for name in ("1", "2")}
    assert line["train"]["spike_rates"] == pytest.approx(rates)


def test_callbacks_are_told(run: Run) -> None:
    watch = Watch()
    run("here", callbacks=(watch,), epochs=1, log_every=2)
    assert watch.told == ["here", (1, 1, 3, 4), (1, 2, 3, 8), "batch", (1, 3, 3, 10), "epoch", 10, 1]


def test_resuming_a_finished_run_changes_nothing(run: Run) -> None:
    folder = run(validation=0.3, patience=1)
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert resume(folder) == folder
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


@pytest.mark.parametrize("stop_at", [(1, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("changes", [{}, {"network": "lenet", "optimizer": "sgd", "schedule": "cosine", "clip": 0}])
def test_a_resumed_run_ends_like_one_in_one_go(stop_at: tuple[int, int], changes: dict[str, Any], run: Run) -> None:
    whole, stopped = run("whole", **changes, checkpoint_every=2), None
    with pytest.raises(Stop):
        run("stopped", (Watch(stop_at),), **changes, checkpoint_every=2)
    stopped = whole.with_name("stopped")
    resume(stopped)
    assert outcome(stopped) == outcome(whole)


def scripted(monkeypatch: pytest.MonkeyPatch, *accuracies: int) -> None:
    """Let evaluations come to these percentages."""
    script = iter(accuracies)
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: Meter(samples=100, correct=next(script)))


@pytest.mark.parametrize(
    ("patience", "accuracies", "epochs"),
    [
        (2, [50, 60, 60, 55, 99], 4),
        (1, [50, 50, 99], 2),
        (2, [50, 40, 51, 50, 50, 99], 5),
        (2, [10, 20, 30, 40, 50, 60], 6),
        (0, [60, 50, 40, 30, 20, 10], 6),
        (3, [0, 0, 0, 0, 99], 4),
    ],
)
def test_training_stops_where_validation_gets_no_better(
    patience: int, accuracies: list[int], epochs: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, *accuracies)
    folder = run(epochs=6, validation=0.3, patience=patience)
    shown = [line["validation"]["accuracy"] for line in lines(folder, "epoch")]
    assert shown == [accuracy / 100 for accuracy in accuracies[:epochs]]
    assert Checkpoint.load(folder).progress.best_accuracy == max(shown)


def test_patience_goes_on_counting_after_an_interruption(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 50, 60, 60)
    with pytest.raises(Stop):
        run("run", (Watch(stop_at=(4, 1)),), epochs=9, validation=0.3, patience=2)
    scripted(monkeypatch, 59, 99)
    resume(tmp_path / "run")
    assert len(lines(tmp_path / "run", "epoch")) == 4
    resume(tmp_path / "run")
    assert len(lines(tmp_path / "run", "epoch")) == 4


def test_validation_images_are_never_trained_on_and_depend_on_the_seed_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: set[int] = set()
    held_out: list[int] = []
    step = loop.training_step

    def spy(network: Any, x: Tensor, *rest: Any) -> None:
        trained.update((x[0, :, 0, 0, 0] * 255).round().int().tolist())
        step(network, x, *rest)

    def look(network: Any, feed: Any, *_: Any) -> Meter:
        indices = feed.split.images[:, 0, 0, 0].tolist()
        assert feed.split.labels.tolist() == [index % 3 for index in indices]
        held_out.extend(indices)
        return Meter(samples=1)

    monkeypatch.setattr(loop, "training_step", spy)
    monkeypatch.setattr(loop, "evaluate", look)
    splits = []
    for name, changes in {
        "a": {}, "b": {"steps": 4, "batch_size": 2, "hidden": (9,)}, "c": {"seed": 1}, "d": {"seed": 2}
    }.items():  # fmt: skip
        trained.clear()
        held_out.clear()
        run(name, epochs=1, validation=0.3, **changes)
        assert len(held_out) == 3
        assert trained == set(range(10)) - set(held_out)
        splits.append(frozenset(held_out))
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1


def test_lines_say_which_images_were_held_out(run: Run) -> None:
    [with_validation] = lines(run("a", epochs=1, validation=0.3), "epoch")
    [without] = lines(run("b", epochs=1), "epoch")
    assert (with_validation["test"], with_validation["validation"]["samples"]) == (None, 3)
    assert (without["validation"], without["test"]["samples"]) == (None, 7)


@pytest.mark.parametrize("validation", [0.01, 0.99])
def test_a_split_without_images_is_refused_and_leaves_nothing(validation: float, run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^validation = {validation} of 10 samples leaves one split empty"):
        run(validation=validation)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("schedule", "course"),
    [
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
        ("constant", lambda done: 1.0),
    ],
)
@pytest.mark.parametrize("epochs", [1, 4])
def test_the_learning_rate_follows_its_schedule(
    schedule: str, course: Callable[[float], float], epochs: int, run: Run
) -> None:
    folder = run(schedule=schedule, lr=0.02, epochs=epochs)
    updates = 3 * epochs
    rates = [line["lr"] for line in lines(folder, "batch")]
    assert rates == pytest.approx([0.02 * course(update / updates) for update in range(updates)])
    end = Checkpoint.load(folder).optimizer["param_groups"][0]["lr"]
    assert end == pytest.approx(0.02 * course(1), abs=1e-12)


def write_five_of_two(folder: Path, kind: str) -> None:
    """Write five recordings for each of two classes, of 400 ms, 100 samples a second."""
    for number in range(10):
        path = folder / "ab"[number // 5] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "signals":
            np.save(path, np.random.default_rng(number).uniform(0, 1, (40, 2)))
        else:
            made = events(number, 200, lasts=400_000)
            made["t"][0], made["t"][-1] = 0, 400_000
            np.save(path, made)


@pytest.mark.filterwarnings("ignore:no recording like")
@pytest.mark.parametrize("from_cache", [False, True])
@pytest.mark.parametrize("kind", ["signals", "events"])
def test_windows_of_one_recording_are_not_on_both_sides(
    kind: str, from_cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    write_five_of_two(tmp_path / "own", kind)
    changes: dict[str, Any] = {"encoding": "sequence", "signal_rate": 100} if kind == "signals" else {}
    config = TrainConfig(data=str(tmp_path / "own"), steps=4, window_ms=100, windows="all", validation=0.3, **changes)
    samples = [samples_for(config) for _ in range(1 + from_cache)][-1]
    sides = []
    for seed in (0, 1):
        training, held_out = MemoryData(samples).feeds(config.model_copy(update={"seed": seed}), torch.device("cpu"))
        # 30 % of the 16 windows of a class: a whole recording, and the end of another one
        assert held_out.split.labels.bincount().tolist() == [5, 5]
        assert training.split.labels.bincount().tolist() == [11, 11]
        windows = samples.train.batch(torch.arange(32))[0]
        of_held = held_out.split.batch(torch.arange(10))[0]
        numbers = [next(k for k in range(32) if torch.equal(windows[:, k], of_held[:, row])) for row in range(10)]
        per_recording = Counter(number // 4 for number in numbers)
        assert sorted(per_recording.values()) == [1, 1, 4, 4]
        assert all(number % 4 == 3 for number in numbers if per_recording[number // 4] == 1)
        sides.append(numbers)
    assert sides[0] != sides[1]


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("adam", {"weight_decay": 0, "betas": (0.9, 0.99)}),
        ("adamw", {"weight_decay": 0.01, "betas": (0.9, 0.99)}),
        ("sgd", {"momentum": 0.8, "dampening": 0.8, "nesterov": False}),
    ],
)
def test_every_optimizer_trains(optimizer: str, settings: dict[str, Any], run: Run) -> None:
    folder = run(optimizer=optimizer, momentum=0.8, adam_beta2=0.99, lr=0.1)
    group = Checkpoint.load(folder).optimizer["param_groups"][0]
    assert {key: group[key] for key in settings} == settings
    torch.manual_seed(0)
    for before, after in zip(
        network_for(small_config(), small_samples()).parameters(), load_run(folder).network.parameters(), strict=True
    ):
        assert not torch.equal(before, after)


def test_updates_are_clipped_if_wanted(run: Run) -> None:
    starts = [parameter.detach() for parameter in network_for_seed(0).parameters()]
    moved = {}
    for clip in (0.0, 1e-6):
        folder = run(f"clip {clip}", clip=clip, optimizer="sgd", lr=1.0, momentum=0, schedule="constant", epochs=1)
        moved[clip] = max(
            float((a - b).detach().abs().max())
            for a, b in zip(starts, load_run(folder).network.parameters(), strict=True)
        )
    assert moved[1e-6] < 1e-4 < moved[0.0]


def network_for_seed(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return network_for(small_config(), small_samples())


def test_each_silent_layer_is_warned_of_once(run: Run) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(threshold=1e6, epochs=3)
    texts = sorted(str(each.message) for each in caught)
    assert [text.partition(" did not spike during epoch 1,")[0] for text in texts] == ["layer 1", "layer 2"]
    assert all("lower the threshold" in text for text in texts)


def test_layers_that_spike_are_not_warned_of(run: Run) -> None:
    run()


def poison(monkeypatch: pytest.MonkeyPatch, at: int, value: float) -> None:
    """Let the update of batch `at` make a weight of layer 1 NaN or infinite."""
    step, done = loop.training_step, []

    def training_step(network: Any, *rest: Any) -> None:
        step(network, *rest)
        done.append(1)
        if len(done) == at:
            with torch.no_grad():
                network[1].synapse.weight[0, 0] = value

    monkeypatch.setattr(loop, "training_step", training_step)


def test_the_reward_is_that_of_the_settings(run: Run) -> None:
    """Training and evaluation count the reward by which the network learns."""
    folders = {name: run(name, epochs=1, reward=name) for name in ("spike-count", "spike-rate")}
    by_count, by_rate = (lines(folder, "epoch")[0] for folder in folders.values())
    for part in ("train", "test"):
        assert by_count[part]["reward"] != by_rate[part]["reward"]
    loaded = load_run(folders["spike-rate"])
    network, config = loaded.network, loaded.config
    meter = evaluate(network, samples_for(config).test, reward=spike_rate_reward)
    assert by_rate["test"] == meter.summary()


@pytest.mark.parametrize("rule", ["zplus-zminus", "alpha2-beta1", "epsilon-zplus-zminus"])
def test_the_rules_are_those_of_the_settings(run: Run, rule: str) -> None:
    loaded = load_run(run(epochs=1, rule=rule))
    network, config = loaded.network, loaded.config
    expected = composite(rule).rules(network)
    found = {name: module.rule for name, module in network.named_modules() if isinstance(module, SynapticLayer)}
    assert found == expected
    assert config.rule == rule


@pytest.mark.parametrize("scheme", ["one-vs-rest", "pairwise"])
def test_a_mono_readout_trains_goes_on_and_is_loaded(scheme: str, run: Run) -> None:
    changes = {
        "readout": "mono", "readout_hidden": (4,), "readout_scheme": scheme, "readout_windows": 2, "readout_beta": 0.9,
        "lr": 0.05, "hidden": (8,),
    }  # fmt: skip
    whole = run("whole", **changes)
    with pytest.raises(Stop):
        run("stopped", (Watch((2, 1)),), **changes)
    resume(whole.with_name("stopped"))
    assert outcome(whole.with_name("stopped")) == outcome(whole)
    loaded = load_run(whole)
    network, config = loaded.network, loaded.config
    readout, fresh = network[-1], network_for(config, samples_for(config))[-1]
    assert isinstance(readout, MonoReadout)
    assert (len(readout.nets), readout.windows, readout.beta) == (3, 2, 0.9)
    for name, parameter in readout.named_parameters():
        assert not torch.equal(parameter, fresh.get_parameter(name))
        if name.endswith("weight"):
            assert float(parameter.detach().min()) >= 0
    # what goes back does not learn, and is that of the seed
    for name, buffer in readout.named_buffers():
        assert torch.equal(buffer, fresh.get_buffer(name))
    meter = evaluate(network, samples_for(config).test, reward=cross_entropy_reward)
    assert lines(whole, "epoch")[-1]["test"] == meter.summary()


@pytest.mark.parametrize(
    ("changes", "reward", "kind"),
    [
        ({"readout": "membrane", "readout_beta": 0.75}, softmax_reward, LI),
        ({"readout": "membrane", "reward": "squared-error"}, squared_error_reward, LI),
        ({"population": 4}, spike_count_reward, PopulationReadout),
        ({"population": 2, "reward": "spike-rate", "class_weights": (1, 2, 0.5)}, None, PopulationReadout),
    ],
)
def test_other_readouts_train_go_on_and_are_loaded(run: Run, changes: dict[str, Any], reward: Any, kind: type) -> None:
    whole = run("whole", **changes)
    with pytest.raises(Stop):
        run("stopped", (Watch((2, 1)),), **changes)
    resume(whole.with_name("stopped"))
    assert outcome(whole.with_name("stopped")) == outcome(whole)
    loaded = load_run(whole)
    network, config = loaded.network, loaded.config
    assert isinstance(network[-1], kind)
    assert network(torch.zeros(3, 1, 1, 8, 8)).shape == (3, 1, 3)
    # what does not fire has no rate
    assert lines(whole, "epoch")[-1]["test"]["spike_rates"].keys() == {"1", "2"} - ({"2"} if kind is LI else set())
    reward = reward or partial(spike_rate_reward, class_weights=[1, 2, 0.5])
    assert lines(whole, "epoch")[-1]["test"] == evaluate(network, samples_for(config).test, reward=reward).summary()


def test_class_weights_scale_the_reward_of_their_classes(run: Run) -> None:
    """The 10 training images are four, three and three of their class."""
    config = small_config(class_weights="balanced")
    balanced = Trainer(config, MemoryData(small_samples()), network_for(config, small_samples()), torch.device("cpu"))
    expected = [10 / 3 / count for count in (4, 3, 3)]
    assert balanced.class_weights is not None
    assert balanced.class_weights.tolist() == pytest.approx(expected)
    outputs, labels = torch.zeros(3, 3, 3), torch.arange(3)
    found, plain = balanced.reward(outputs, labels), spike_count_reward(outputs, labels)
    assert found[0].diagonal().tolist() == pytest.approx(
        [weight * each for weight, each in zip(expected, plain[0].diagonal().tolist(), strict=True)]
    )
    with pytest.raises(UsageError, match="class_weights has 2 numbers, expected one for each of 3 classes"):
        run(class_weights=(1, 2))


def test_chunks_do_not_go_with_a_mono_readout() -> None:
    with pytest.raises(UsageError, match="chunk does not go with readout mono"):
        preset_config("mnist-mlp", {"chunk": 5, "readout": "mono"})
    with pytest.raises(UsageError, match="readout_windows = 9 needs at least as many steps, found steps = 8"):
        preset_config("mnist-mlp", {"readout_windows": 9, "steps": 8})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("at", "checkpoint_every"),
    [(1, 2), (3, 2), (6, 2), (3, 1), (5, 2), (1, 1)],
)
def test_weights_that_stop_being_numbers_stop_the_run_and_spare_the_checkpoint(
    value: float, at: int, checkpoint_every: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, at, value)
    with pytest.raises(NonFiniteError, match=r"^layer 1: "):
        run(checkpoint_every=checkpoint_every)
    checkpoint = Checkpoint.load(tmp_path / "run")
    assert all(value.isfinite().all() for value in checkpoint.network.values())
    assert 3 * checkpoint.progress.epoch + checkpoint.progress.batch < at


def test_checkpoints_are_written_within_epochs(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run("run", (Watch(stop_at=(2, 3)),), checkpoint_every=2)
    progress = Checkpoint.load(tmp_path / "run").progress
    assert (progress.epoch, progress.batch, progress.meter.samples) == (1, 2, 8)


@pytest.mark.filterwarnings("ignore:the run in .* is not finished:UserWarning")
def test_a_run_is_kept_by_the_checkpoint_of_its_start(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run("run", (Watch(stop_at=(1, 1)),))
    network = load_run(tmp_path / "run").network
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), network_for_seed(0).parameters(), strict=True))


@pytest.mark.parametrize("what", [load_run, resume, read_config])
def test_a_folder_without_a_run_is_named(what: Callable[[Path], object], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=f"^{folder} is not a run: expected {folder / 'config.toml'}"):
            what(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", [load_run, resume])
def test_a_folder_without_a_checkpoint_is_named(what: Callable[[Path], object], run: Run) -> None:
    folder = run(epochs=1)
    (folder / CHECKPOINT).unlink()
    with pytest.raises(RunError, match=f"^no checkpoint in {folder}: "):
        what(folder)


@pytest.mark.parametrize(
    "content", [b"steps = [", b"stepz = 3", b"steps = 0", b"\xff\xfe"], ids=["no toml", "unknown", "range", "no text"]
)
def test_damaged_settings_are_named(content: bytes, run: Run) -> None:
    folder = run(epochs=1)
    (folder / "config.toml").write_bytes(content)
    with pytest.raises(RunError, match=f"^cannot read {folder / 'config.toml'}: "):
        load_run(folder)


@pytest.mark.parametrize("what", [load_run, resume])
def test_a_checkpoint_of_another_network_is_refused(what: Callable[[Path], object], run: Run) -> None:
    one, other = run("one", epochs=1), run("other", epochs=1, hidden=(5, 4))
    shutil.copy(one / CHECKPOINT, other / CHECKPOINT)
    with pytest.raises(RunError, match=f"^the checkpoint in {other} was trained with hidden = .*, but config.toml or"):
        what(other)
    checkpoint = Checkpoint.load(other)
    replace(checkpoint, config={**checkpoint.config, "hidden": [5, 4]}).save(other)
    with pytest.raises(RunError, match=f"^the checkpoint in {other} does not fit its settings: ") as caught:
        what(other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", [load_run, resume])
def test_settings_changed_by_hand_are_refused(what: Callable[[Path], object], run: Run) -> None:
    folder = run(epochs=1)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("beta = 0.9", "beta = 0.8"))
    with pytest.raises(RunError, match=r"was trained with beta = 0\.9, but config\.toml or the call says 0\.8:"):
        what(folder)


@pytest.mark.parametrize("what", [load_run, resume])
def test_a_checkpoint_that_lacks_parts_is_refused(what: Callable[[Path], object], run: Run) -> None:
    folder = run(epochs=1)
    torch.save({"format": VERSION, "network": {}}, folder / CHECKPOINT)
    with pytest.raises(RunError, match=f"^{folder / CHECKPOINT} was not written by train: it lacks config, data, "):
        what(folder)


def test_other_data_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(epochs=1)
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    for size, classes in ((9, 3), (8, 4)):
        monkeypatch.setattr(samples, "load_dataset", lambda *_, s=size, c=classes: small_dataset(s, c))
        with pytest.raises(RunError, match=f"^{folder} was trained on samples .1, 8, 8. of 3 classes, the data are "):
            resume(folder)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["", "frog", "cpu:x", "meta"])
def test_devices_that_cannot_be_used_are_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device '{name}' is not usable here"):
        pick_device(name)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device("auto").type == expected
    assert pick_device("cpu").type == "cpu"


def test_the_largest_seed_trains(run: Run) -> None:
    run(seed=2**63 - 1, epochs=1)


def test_a_small_network_learns_the_packaged_digits_in_one_epoch(tmp_path: Path) -> None:
    changes = {"hidden": "100", "steps": 5, "epochs": 1, "batch_size": 50, "lr": 5e-3}
    folder = train(preset_config("mnist-mlp", changes), tmp_path / "run")
    assert lines(folder, "epoch")[0]["test"]["accuracy"] > 0.8


@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
def test_chunks_train_alike(chunk: int, run: Run) -> None:
    whole, parts = run("whole"), run("parts", chunk=chunk)
    for one, other in zip(lines(whole, "epoch"), lines(parts, "epoch"), strict=True):
        for part in ("train", "test"):
            assert one[part]["spike_rates"] == pytest.approx(other[part]["spike_rates"])
            assert one[part]["accuracy"] == other[part]["accuracy"]
    states = [Checkpoint.load(folder).network for folder in (whole, parts)]
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-6) for key in states[0])


def test_chunks_do_not_go_with_normalization() -> None:
    with pytest.raises(UsageError, match="chunk does not go with normalize_feedback"):
        preset_config("mnist-mlp", {"chunk": 5, "normalize_feedback": True})
