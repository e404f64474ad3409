"""Settings: presets, texts, bounds, and the way to a file and back."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.small_runs import small_samples
from spiking_lfp.data import EVENT_SOURCES, Samples, SequenceSplit
from spiking_lfp.data.encoding import ENCODERS
from spiking_lfp.data.recipes import EventRecipe, InputRecipe, Settings
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import ANALOGUE_REWARDS, REWARDS, SPIKE_REWARDS
from spiking_lfp.nn.composites import COMPOSITES
from spiking_lfp.nn.networks import NETWORKS
from spiking_lfp.training import TrainConfig, preset_config, preset_names, samples_for
from spiking_lfp.training.config import GROUPS, check_used, checked_config, from_toml, to_toml
from spiking_lfp.training.optimizers import OPTIMIZERS, SCHEDULES
from spiking_lfp.training.runs import network_for

PAPERS_NETWORKS = {
    # 784-1000-1000-10
    "mnist-mlp": [(1000, 784), (1000,), (1000, 1000), (1000,), (10, 1000), (10,)],
    # 12C5-MP2-64C5-MP2-1024-10: 28 -> 24 -> 12 -> 8 -> 4, 64 * 4 * 4 = 1024
    "mnist-lenet": [(12, 1, 5, 5), (12,), (64, 12, 5, 5), (64,), (1024, 1024), (1024,), (10, 1024), (10,)],
}

sizes = st.lists(st.integers(1, 10**6), max_size=4).map(tuple)
counts = st.integers(1, 2**62)
positive = st.floats(0, 1e36, exclude_min=True)
configs = st.builds(
    TrainConfig,
    preset=st.from_regex(r"[a-z0-9_][a-z0-9_-]*", fullmatch=True),
    network=st.sampled_from(["mlp", "lenet"]),
    hidden=sizes,
    channels=sizes,
    data=st.text(st.characters(codec="utf-8")),
    steps=st.integers(1, 10**15),
    beta=st.floats(0, 1, exclude_min=True),
    threshold=positive,
    reset=st.sampled_from(["subtract", "zero", "none"]),
    epochs=counts,
    batch_size=st.integers(1, 10**15),
    optimizer=st.sampled_from(["adam", "adamw", "sgd"]),
    lr=positive,
    momentum=st.floats(0, 1, exclude_max=True),
    adam_beta2=st.floats(0, 1, exclude_max=True),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    clip=st.floats(0, allow_infinity=False),
    normalize_feedback=st.just(False),
    chunk=st.integers(0, 2**62),
    validation=st.floats(0, 1, exclude_min=True, exclude_max=True),
    patience=st.integers(0, 2**62),
    seed=st.integers(0, 2**62),
    log_every=counts,
    checkpoint_every=counts,
)


@pytest.mark.parametrize("name", PAPERS_NETWORKS)
def test_presets_are_the_papers_networks(name: str) -> None:
    config = preset_config(name)
    network = network_for(config, samples_for(config))
    assert [tuple(parameter.shape) for parameter in network.parameters()] == PAPERS_NETWORKS[name]
    assert (config.preset, config.steps) == (name, 25)


@pytest.mark.parametrize(
    ("setting", "registry"),
    [
        ("network", NETWORKS), ("encoding", ENCODERS), ("rule", COMPOSITES),
        ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES),
    ],
)  # fmt: skip
def test_choices_are_what_the_registries_hold(setting: str, registry: dict[str, object]) -> None:
    for name in registry:
        assert getattr(checked_config({setting: name}), setting) == name
    with pytest.raises(UsageError, match=rf"^setting {setting} = 'none of them': Input should be .*'{name}'"):
        checked_config({setting: "none of them"})


@pytest.mark.parametrize(("readout", "rewards"), [("spikes", SPIKE_REWARDS), ("membrane", ANALOGUE_REWARDS)])
def test_rewards_are_those_of_the_outputs(readout: str, rewards: dict[str, object]) -> None:
    for name in ("auto", *REWARDS):
        if name == "auto" or name in rewards:
            assert checked_config({"readout": readout, "reward": name}).reward == name
            continue
        with pytest.raises(
            UsageError, match=f"^reward {name} does not go with readout {readout}: it takes .*, or auto"
        ):
            checked_config({"readout": readout, "reward": name})
    with pytest.raises(UsageError, match=r"^setting reward = 'praise': Input should be 'auto', .*'squared-error'"):
        checked_config({"reward": "praise"})


@pytest.mark.parametrize("readout", ["membrane", "mono"])
def test_populations_are_of_spikes(readout: str) -> None:
    with pytest.raises(UsageError, match=r"^population goes with networks by name and readout spikes"):
        checked_config({"readout": readout, "population": 2})


@pytest.mark.parametrize(
    ("given", "kept"),
    [("none", "none"), ("balanced", "balanced"), ("1, 0,2.5", (1, 0, 2.5)), ([1, 2], (1, 2)), ((0.5,), (0.5,))],
)
def test_class_weights_are_words_or_numbers(given: Any, kept: Any) -> None:
    config = checked_config({"class_weights": given})
    assert config.class_weights == kept
    assert from_toml(to_toml(config)) == config


@pytest.mark.parametrize("given", ["even", "", "1,x", "1,-1", "0,0", "1,inf", "nan", [], [None], 3, True])
def test_other_class_weights_are_refused(given: Any) -> None:
    with pytest.raises(
        UsageError,
        match=r"^setting class_weights = .*: Input should be 'none', 'balanced', or a number of at least 0 for each",
    ):
        checked_config({"class_weights": given})


def test_every_setting_is_in_one_group() -> None:
    names = [name for group in GROUPS.values() for name in group.model_fields]
    assert sorted(names) == sorted(set(names)) == sorted(TrainConfig.model_fields)


def test_settings_in_tables_and_without_are_the_same() -> None:
    flat = 'network = "lenet"\nlr = 0.5\ndata = "kmnist"\nhidden = [7]\n'
    grouped = '[data]\ndata = "kmnist"\n[network]\nnetwork = "lenet"\nhidden = [7]\n[learning]\nlr = 0.5\n'
    assert (
        from_toml(flat)
        == from_toml(grouped)
        == checked_config({"network": "lenet", "lr": 0.5, "data": "kmnist", "hidden": (7,)})
    )


def test_a_table_holds_the_settings_of_its_group_only() -> None:
    with pytest.raises(UsageError, match=r"^unknown setting of group neuron 'lr': .*known are beta, reset, threshold"):
        from_toml("[neuron]\nlr = 0.5\n")
    with pytest.raises(UsageError, match=r"^unknown group of settings 'neurons': did you mean 'neuron'\?"):
        from_toml("[neurons]\nbeta = 0.5\n")


def test_the_preset_of_few_steps_has_weights_that_wake_its_neurons() -> None:
    config = preset_config("mnist-5-steps")
    assert (config.steps, config.beta, config.gain, config.reward) == (5, 0.3, 3.0, "spike-rate")
    torch.manual_seed(1)
    awake = network_for(config, samples_for(config))
    torch.manual_seed(1)
    plain = network_for(config.model_copy(update={"gain": 1.0}), samples_for(config))
    for one, other in zip(awake.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, 3 * other if one.dim() > 1 else other)


@pytest.mark.parametrize("name", [name for name in preset_names() if preset_config(name).data in EVENT_SOURCES])
def test_presets_of_event_data_build_a_network_for_them(name: str) -> None:
    config = preset_config(name)
    source = EVENT_SOURCES[config.data]
    polarities, height, width = source.sensor
    shape = (min(polarities, config.polarities), -(-height // config.downsample), -(-width // config.downsample))
    split = SequenceSplit(torch.zeros(0), torch.zeros(0), torch.zeros(0), 0, shape, True)
    classes = tuple(map(str, range(source.classes)))
    network = network_for(config, Samples(config.data, shape, classes, split, split, ""))
    with torch.no_grad():
        assert network(torch.zeros(2, 3, *shape)).shape == (2, 3, source.classes)


@pytest.mark.parametrize(("classes", "size"), [(3, 8), (5, 9)])
def test_the_network_fits_the_data(classes: int, size: int) -> None:
    network = network_for(preset_config("mnist-mlp", {"hidden": "7"}), small_samples(size, classes))
    assert [tuple(each.shape) for each in network.parameters()] == [(7, size * size), (7,), (classes, 7), (classes,)]


def test_settings_reach_the_network() -> None:
    changes = {"beta": 0.5, "threshold": 2, "reset": "zero", "hidden": (4, 4), "normalize_feedback": True}
    network = network_for(preset_config("mnist-mlp", changes), small_samples())
    layers = [module for module in network if hasattr(module, "synapse")]
    assert {(float(layer.beta), float(layer.threshold), layer.reset) for layer in layers} == {(0.5, 2.0, "zero")}
    assert [type(module).__name__ for module in network].count("NormalizeFeedback") == 2


@given(configs)
def test_settings_come_back_from_a_file(config: TrainConfig) -> None:
    assert from_toml(to_toml(config)) == config


@given(configs)
def test_settings_may_be_given_as_text(config: TrainConfig) -> None:
    texts = {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in dict(config).items()
    }
    assert checked_config(texts) == config


def test_changes_leave_the_other_settings() -> None:
    whole, changed = preset_config("mnist-lenet"), preset_config("mnist-lenet", {"hidden": "100, 50", "lr": 1})
    assert changed == whole.model_copy(update={"hidden": (100, 50), "lr": 1.0})


@pytest.mark.parametrize(
    ("preset", "changes", "near"),
    [
        ("mnist-mpl", {}, "mnist-mlp"),
        ("mnist-mlp", {"stepz": 3}, "steps"),
        ("mnist-mlp", {"batchsize": 3}, "batch_size"),
    ],
)
def test_unknown_names_get_the_nearest(preset: str, changes: dict[str, Any], near: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        preset_config(preset, changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", "resnet"),
        ("hidden", "100,x"),
        ("hidden", "0"),
        ("channels", "1.5"),
        ("channels", "4,0"),
        ("data", 3),
        ("steps", -1),
        ("steps", "many"),
        ("beta", 0),
        ("beta", 1.01),
        ("beta", float("nan")),
        ("threshold", 0),
        ("threshold", "inf"),
        ("reset", "soft"),
        ("epochs", 0),
        ("batch_size", 0),
        ("optimizer", "lion"),
        ("lr", 0),
        ("lr", "-1e-3"),
        ("momentum", 1),
        ("momentum", -0.1),
        ("adam_beta2", 1),
        ("adam_beta2", -0.1),
        ("schedule", "step"),
        ("clip", -0.01),
        ("normalize_feedback", "perhaps"),
        ("chunk", -1),
        ("validation", 1),
        ("validation", -0.1),
        ("patience", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("log_every", 0),
        ("checkpoint_every", 0),
    ],
)
def test_values_out_of_range_are_named_in_one_sentence(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^setting {key}[.0-9]* = .*: .+$") as caught:
        preset_config("mnist-mlp", {key: value})
    assert "\n" not in str(caught.value)


def test_the_presets_name_is_not_to_be_changed() -> None:
    with pytest.raises(UsageError, match=r"^preset is not a setting to change"):
        preset_config("mnist-mlp", {"preset": "other"})
    for name in ("../elsewhere", "a/b", ".."):
        with pytest.raises(UsageError, match=r"^setting preset = "):
            checked_config({"preset": name})


def test_patience_needs_validation() -> None:
    with pytest.raises(UsageError, match=r"^patience needs validation greater than 0"):
        preset_config("mnist-mlp", {"patience": 2})
    assert preset_config("mnist-mlp", {"patience": 2, "validation": "0.1"}).patience == 2


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("mnist-mlp", {"channels": "3,4"}, "channels changes nothing of network mlp, which does not take it: leave it"),
        ("mnist-mlp", {"layers": "30"}, "layers changes nothing of network mlp"),
        ("mnist-conv", {"hidden": "30"}, "hidden changes nothing of network stack"),
        ("mnist-mlp", {"momentum": 0.5}, "momentum changes nothing with optimizer adam, it is for sgd: leave it out"),
        ("mnist-mlp", {"optimizer": "sgd", "adam_beta2": 0.9}, "optimizer sgd, it is for adam or adamw"),
        ("mnist-mlp", {"readout_windows": 2}, "readout_windows changes nothing with readout spikes, it is for mono"),
        ("mnist-mlp", {"readout_beta": 0.9}, "readout_beta changes nothing with readout spikes"),
        ("mnist-mlp", {"readout": "mono", "reward": "spike-rate"}, "reward changes nothing with readout mono"),
        ("mnist-mlp", {"quantize_scale": "mean"}, "quantize_scale changes nothing with quantize 0"),
        ("mnist-mlp", {"delta_threshold": 0.2}, "delta_threshold changes nothing with encoding constant"),
    ],
)
def test_changes_without_effect_are_refused(preset: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset_config(preset, changes)


def test_changes_may_leave_the_rest_of_a_preset_without_effect() -> None:
    assert preset_config("mnist-conv", {"network": "mlp", "hidden": "30"}).layers == "12C5-MP2-32C5-MP2"
    assert preset_config("mnist-conv", {"optimizer": "sgd", "momentum": 0.5}).adam_beta2 == 0.95
    whole = checked_config({})
    check_used(whole, TrainConfig.model_fields)


def test_settings_cannot_be_changed_afterwards() -> None:
    config = preset_config("mnist-mlp")
    with pytest.raises(UsageError, match=r"^settings do not change, lr neither: make others, as by .model_copy\("):
        config.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("kind", [EventRecipe, InputRecipe, TrainConfig])
def test_settings_given_in_python_are_refused_in_one_sentence(kind: type[Settings]) -> None:
    name = "hop_ms" if kind is InputRecipe else "window_ms"
    wrong = rf"^setting {name} = -1: Input should be greater than( or equal to)? 0$"
    with pytest.raises(UsageError, match=wrong):
        kind(**{name: -1})
    with pytest.raises(UsageError, match=rf"^unknown setting '{name}s': did you mean '{name}'\? known are "):
        kind(**{f"{name}s": 1})
    # pydantic's copy would take anything
    with pytest.raises(UsageError, match=wrong):
        kind().model_copy(update={name: -1})
    with pytest.raises(UsageError, match=rf"^unknown setting '{name}s'"):
        kind().model_copy(update={f"{name}s": 1})
    with pytest.raises(UsageError, match=r"^windows = all needs window_ms|^normalize does not go with"):
        kind(**({"normalize": True, "encoding": "rate"} if kind is InputRecipe else {"windows": "all"}))
