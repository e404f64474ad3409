"""All settings of a training run, typed and checked, and the presets that ship with the package."""

import inspect
import tomllib
from collections.abc import Collection
from importlib.resources import files
from math import inf
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from spiking_lfp.data.encoding import IN_TIME
from spiking_lfp.data.recipes import LARGEST, OWN, EventRecipe, InputRecipe, one_of
from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.integers.arithmetic import ARITHMETICS
from spiking_lfp.kernels.precision import Precision
from spiking_lfp.lfp.rewards import ANALOGUE_REWARDS, REWARDS, SPIKE_REWARDS
from spiking_lfp.mono.readout import Scheme
from spiking_lfp.neurons import Reset
from spiking_lfp.neurons.integer import ScaleMethod
from spiking_lfp.nn.composites import COMPOSITES
from spiking_lfp.nn.networks import NETWORKS
from spiking_lfp.training.optimizers import OPTIMIZERS, SCHEDULES
from spiking_lfp.training.sources import free_arguments, is_source

Readout = Literal["spikes", "membrane", "mono"]
AUTO = "auto"
BALANCED = "balanced"
ClassWeights = str | tuple[float, ...]
Neurons = tuple[Annotated[int, Field(ge=1, le=LARGEST)], ...]


def _check_network(name: str) -> str:
    if name not in (*NETWORKS, OWN) and not is_source(name):
        names = ", ".join(map(repr, NETWORKS))
        raise ValueError(f"Input should be {names}, or a function as FILE.py:FUNCTION or MODULE:FUNCTION")
    return name


def _class_weights(value: Any) -> ClassWeights:
    """Return `none`, `balanced`, or a weight for each class."""
    if value in ("none", BALANCED):
        return str(value)
    try:
        weights = tuple(float(weight) for weight in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        weights = ()
    if not weights or not all(0 <= weight < inf for weight in weights) or not any(weights):
        raise ValueError("Input should be 'none', 'balanced', or a number of at least 0 for each class")
    return weights


class DataSettings(InputRecipe, EventRecipe):
    """Training data and their encoding."""

    data: str = Field(
        default="mnist-subset",
        description="data set by name; or a folder of images, recordings or signals, or an .npz file of arrays",
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="fraction of the training samples held out for validation; of windows=all, whole recordings "
        "and the end of at most one a class",
    )


class NetworkSettings(BaseModel):
    """The network and its readout."""

    network: Annotated[str, AfterValidator(_check_network)] = Field(
        default="mlp",
        description="network by name, stack is built from the setting layers; or a Python function that makes it, "
        "FILE.py:FUNCTION or MODULE:FUNCTION, with arguments as in net.py:build(width=64)",
    )
    hidden: Neurons = Field(default=(1000, 1000), description="neurons of each hidden dense layer")
    channels: Neurons = Field(default=(12, 64), description="channels of each convolution of the lenet")
    layers: str = Field(
        default="12C5-MP2-64C5-MP2-1024",
        description="layers of the stack: 12C5 convolution, s2p1 its stride and padding, MP2 AP2 pooling, DP0.3 "
        "dropout, 256 dense, 256R recurrent, 12C5BN and 256BN normalised; as 12C5-MP2-256",
    )
    gain: float = Field(
        default=1.0, gt=0, le=1e6, description="factor by which the initial weights are larger than torch's default"
    )
    normalize_feedback: bool = Field(
        default=False, description="divide feedback by its largest magnitude between layers"
    )
    readout: Readout = Field(
        default="spikes",
        description="output: a layer of spiking neurons; membrane, of neurons that add up and do not fire; or mono, "
        "mono-nets on spike rates of the last hidden layer (mDFA)",
    )
    population: int = Field(
        default=1, ge=1, le=LARGEST, description="output neurons a class, which vote by their spikes"
    )
    readout_hidden: Neurons = Field(default=(256,), description="units of each hidden layer of a mono-net")
    readout_scheme: Scheme = Field(
        default="one-vs-rest", description="a mono-net for each class, or for every pair of classes"
    )
    readout_windows: int = Field(
        default=1, ge=1, description="equal windows of the sequence, with separate spike counts"
    )
    readout_beta: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="part of a spike count or an output's membrane kept per step, 1 for plain sums",
    )


class NeuronSettings(BaseModel):
    """Parameters of all spiking neurons."""

    beta: float = Field(default=0.9, gt=0, le=1, description="part of the membrane potential kept per step")
    threshold: float = Field(default=1.0, gt=0, description="firing threshold")
    reset: Reset = Field(default="subtract", description="how the membrane is reset after a spike")


class LearningSettings(BaseModel):
    """Learning rule, reward and optimiser."""

    rule: Annotated[str, one_of((*COMPOSITES, OWN))] = Field(
        default="epsilon",
        description="composite of LFP rules; mixed composites use epsilon on dense layers; own leaves layers theirs",
    )
    reward: Annotated[str, one_of((AUTO, *REWARDS))] = Field(
        default=AUTO,
        description="reward of the outputs: of spikes spike-count, the paper's (LFP eq. A.16), or spike-rate, which "
        "suits any T; of membranes softmax, logit or squared-error; auto takes the first of them",
    )
    class_weights: Annotated[ClassWeights, BeforeValidator(_class_weights)] = Field(
        default="none",
        description="factors of the reward by class: none, balanced (rare classes count more), or as 1,1,2.5",
    )
    epochs: int = Field(default=3, ge=1, description="passes over the training samples")
    batch_size: int = Field(default=128, ge=1, le=LARGEST, description="samples per update")
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = Field(default="adam", description="torch optimiser")
    lr: float = Field(default=1e-3, gt=0, le=1e36, description="initial learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum and dampening of sgd (LFP eq. 5)")
    adam_beta2: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="part of its mean square that adam keeps per update; 0.95 helps LFP in long trainings",
    )
    schedule: Annotated[str, one_of(SCHEDULES)] = Field(
        default="linear", description="learning-rate schedule: constant, or down to 0"
    )
    clip: float = Field(default=0.01, ge=0, description="adaptive clipping ratio, 0 for none")
    patience: int = Field(
        default=0, ge=0, description="epochs without a better validation accuracy before stopping, 0 for never"
    )


class HardwareSettings(BaseModel):
    """Arithmetic and memory of the forward pass."""

    quantize: int = Field(
        default=0,
        ge=0,
        le=8,
        description="bits of the weights, 2..8, to train with the integer forward pass of hardware; 0 for real numbers",
    )
    quantize_scale: ScaleMethod | Literal["auto"] = Field(
        default="auto",
        description="scale of integer weights: from the largest, or from the mean; auto takes mean up to 4 bits",
    )
    quantize_arithmetic: Annotated[str, one_of(ARITHMETICS)] = Field(
        default="default", description="chip with whose arithmetic quantize trains: that of this project, or xylo"
    )
    precision: Precision = Field(
        default="highest",
        description="precision of float32 products: highest; high (TF32 on GPUs); medium (bfloat16 on CPUs, too)",
    )
    chunk: int = Field(
        default=0, ge=0, description="steps computed at a time, to save memory on long sequences, 0 for all at once"
    )


class RunSettings(BaseModel):
    """Name, seed, logging and checkpoints of the run."""

    preset: str = Field(
        default="custom", pattern=r"^\w[\w-]*$", description="name of the preset the settings started from"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of initial weights and sample order")
    log_every: int = Field(default=20, ge=1, description="batches between lines of the metrics file")
    checkpoint_every: int = Field(
        default=200, ge=1, description="batches between checkpoints, besides one after each epoch"
    )


GROUPS: dict[str, type[BaseModel]] = {
    "data": DataSettings,
    "network": NetworkSettings,
    "neuron": NeuronSettings,
    "learning": LearningSettings,
    "hardware": HardwareSettings,
    "run": RunSettings,
}


# settings that are arguments of the functions that make networks
NETWORK_ARGUMENTS = ("hidden", "channels", "layers", "gain", "normalize_feedback", *NeuronSettings.model_fields)
# settings that are used only with some values of another one
USED_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "delta_threshold": ("encoding", ("delta",)),
    "readout_hidden": ("readout", ("mono",)),
    "readout_scheme": ("readout", ("mono",)),
    "readout_windows": ("readout", ("mono",)),
    "readout_beta": ("readout", ("membrane", "mono")),
    "reward": ("readout", ("spikes", "membrane")),
    "momentum": ("optimizer", ("sgd",)),
    "adam_beta2": ("optimizer", ("adam", "adamw")),
    "quantize_scale": ("quantize", tuple(range(2, 9))),
}


class TrainConfig(RunSettings, HardwareSettings, LearningSettings, NeuronSettings, NetworkSettings, DataSettings):
    """The settings of a run, in the `GROUPS`; stored with it as `config.toml`.

    A run is determined by its settings: the same settings on the same machine give the same numbers.

    Raises:
        UsageError: for names that are no settings, and values that do not fit.

    Example:
        >>> config = preset_config("mnist-mlp", {"epochs": 1, "hidden": (100,)})
        >>> config.network, config.hidden, config.steps
        ('mlp', (100,), 25)
    """

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> "TrainConfig":
        if self.patience and not self.validation:
            raise ValueError("patience needs validation greater than 0: stopping by the test accuracy would bias it")
        return self

    @model_validator(mode="after")
    def _integers_are_exact(self) -> "TrainConfig":
        if self.quantize == 1:
            raise ValueError("quantize = 1: weights need at least 2 bits, for -1, 0 and 1; 0 is for real numbers")
        if self.quantize and (self.precision != "highest" or self.reset == "none"):
            raise ValueError("quantize needs precision highest, and reset subtract or zero")
        if self.quantize and self.normalize:
            raise ValueError("quantize takes pixels as they are: leave out normalize, or quantise when it is exported")
        if self.quantize_arithmetic != "default" and not self.quantize:
            raise ValueError("quantize_arithmetic needs quantize, the bits of the weights: 8 for xylo")
        return self

    @property
    def recipe(self) -> EventRecipe:
        """The settings that turn recordings into sequences."""
        return EventRecipe(**{name: getattr(self, name) for name in EventRecipe.model_fields})

    @property
    def inputs(self) -> InputRecipe:
        """The settings that turn images and signals into sequences."""
        return InputRecipe(**{name: getattr(self, name) for name in InputRecipe.model_fields})

    @model_validator(mode="after")
    def _chunks_see_some_steps_only(self) -> "TrainConfig":
        if self.chunk and self.normalize_feedback:
            raise ValueError("chunk does not go with normalize_feedback, which needs the feedback of all steps")
        if self.chunk and self.readout == "mono":
            raise ValueError("chunk does not go with readout mono, which needs the spikes of all steps")
        return self

    @model_validator(mode="after")
    def _rewards_are_of_the_outputs(self) -> "TrainConfig":
        own = self.network not in NETWORKS
        known = SPIKE_REWARDS if self.readout == "spikes" else ANALOGUE_REWARDS
        # what the outputs of a network of the user's are, only it knows
        told = self.readout == "membrane" or (self.readout == "spikes" and not own)
        if told and self.reward not in (AUTO, *known):
            names = ", ".join(known)
            raise ValueError(f"reward {self.reward} does not go with readout {self.readout}: it takes {names}, or auto")
        if self.population > 1 and (self.readout != "spikes" or own):
            raise ValueError(
                "population goes with networks by name and readout spikes, whose neurons vote: leave it out, or end "
                "your network in a PopulationReadout"
            )
        return self

    @model_validator(mode="after")
    def _windows_have_steps(self) -> "TrainConfig":
        if not self.steps and self.encoding not in (*IN_TIME, OWN):
            raise ValueError("steps = 0 is for signals, with encoding sequence or delta: give at least 1")
        if self.readout_windows > (self.steps or self.readout_windows):
            raise ValueError(
                f"readout_windows = {self.readout_windows} needs at least as many steps, found steps = {self.steps}"
            )
        return self


def preset_names() -> list[str]:
    """Return the names of the presets in the package.

    Example:
        >>> "mnist-mlp" in preset_names()
        True
    """
    return sorted(entry.name.removesuffix(".toml") for entry in _presets().iterdir() if entry.name.endswith(".toml"))


def preset_title(name: str) -> str:
    """Return the title of the preset called `name`, its first line.

    Raises:
        UsageError: for an unknown preset.

    Example:
        >>> preset_title("nmnist-mlp")
        'N-MNIST: 2312-500-10\'
    """
    return preset_text(name).partition("\n")[0].removeprefix("# ")


def preset_config(name: str, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Return the preset called `name`, with some settings changed.

    Args:
        name: one of `preset_names()`.
        changes: settings by name; text is converted to the setting's type, and lists may be written "100,50".

    Raises:
        UsageError: for an unknown preset or setting, values that do not fit, and changes that would change nothing.

    Example:
        >>> preset_config("mnist-mlp", {"hidden": "100,50", "lr": 2e-3}).hidden
        (100, 50)
    """
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    if changes and "preset" in changes:
        raise UsageError("preset is not a setting to change: give the name of the preset itself")
    config = checked_config({"preset": name, **ungrouped(preset_text(name)), **(changes or {})})
    check_used(config, changes or ())
    return config


def checked_config(settings: dict[str, Any]) -> TrainConfig:
    """Return the config with these settings, of which lists may be written "100,50"."""
    for key, value in settings.items():
        if key in ("hidden", "channels", "augment", "readout_hidden") and isinstance(value, str):
            settings = {**settings, key: [part.strip() for part in value.split(",") if part.strip()]}
    return TrainConfig(**settings)


def check_used(config: TrainConfig, named: Collection[str]) -> None:
    """Refuse settings that somebody gave by name and that change nothing of a training.

    Args:
        config: the settings of the training.
        named: those of them that were given; the others may be of a preset that was changed.

    Raises:
        UsageError: with the name of the first that is not used, and not at its default, which a function of the user's
            may not share.
    """
    own = is_source(config.network)
    changed = {
        name: depends_on(name)
        for name in named
        if getattr(config, name) != _default(name) or (own and depends_on(name) == "network")
    }
    taken = _taken_by(config.network, config.seed) if "network" in changed.values() else ()
    for name, setting in changed.items():
        if setting == "network" and name not in taken:
            raise UsageError(
                f"{name} changes nothing of network {config.network}, which does not take it: leave it out"
            )
        if name in USED_WITH and getattr(config, setting) not in USED_WITH[name][1]:
            fitting = " or ".join(map(str, USED_WITH[name][1]))
            raise UsageError(
                f"{name} changes nothing with {setting} {getattr(config, setting)}, it is for {fitting}: leave it out"
            )


def _default(name: str) -> Any:
    return TrainConfig.model_fields[name].default


def depends_on(name: str) -> str:
    """Return the setting by which another one is used or not; empty if there is none."""
    return "network" if name in NETWORK_ARGUMENTS else USED_WITH.get(name, ("", ()))[0]


def _taken_by(network: str, seed: int) -> Collection[str]:
    """Return the names of the arguments that the function of a network takes from the settings."""
    if is_source(network):
        return free_arguments(network, seed)
    return inspect.signature(NETWORKS[network]).parameters if network in NETWORKS else ()


def to_toml(config: TrainConfig) -> str:
    """Return the settings as TOML text, a table for each group, that `from_toml` reads back to the same config."""
    values = config.model_dump(mode="json")
    return tomli_w.dumps({group: {name: values[name] for name in kind.model_fields} for group, kind in GROUPS.items()})


def from_toml(text: str) -> TrainConfig:
    """Parse settings from TOML text, with a table for each group, or without tables as in old files.

    Raises:
        UsageError: for text that is not TOML, and settings that are unknown, invalid, or in the table of another group.
    """
    return checked_config(ungrouped(text))


def ungrouped(text: str) -> dict[str, Any]:
    """Parse settings from TOML text into a dict by name, without the groups."""
    settings: dict[str, Any] = {}
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the settings are not TOML ({error})") from None
    for key, value in content.items():
        if not isinstance(value, dict):
            settings[key] = value
            continue
        if key not in GROUPS:
            raise unknown_name("group of settings", key, GROUPS)
        for name in value:
            if name not in GROUPS[key].model_fields:
                raise unknown_name(f"setting of group {key}", name, GROUPS[key].model_fields)
        settings |= value
    return settings


def preset_text(name: str) -> str:
    """Return the TOML text of the preset called `name`."""
    text: str = (_presets() / f"{name}.toml").read_text()
    return text


def _presets() -> Any:
    return files("spiking_lfp.training") / "presets"
