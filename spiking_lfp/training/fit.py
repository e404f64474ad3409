"""Train any network on any data from Python."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from spiking_lfp.arguments import as_names, describe
from spiking_lfp.data import Progress
from spiking_lfp.data.encoding import IN_TIME
from spiking_lfp.data.recipes import OWN
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import REWARDS
from spiking_lfp.training import distributed
from spiking_lfp.training.config import NetworkSettings, NeuronSettings, check_used, checked_config
from spiking_lfp.training.feeds import Data, MemoryData
from spiking_lfp.training.loop import Callback
from spiking_lfp.training.own import OwnData
from spiking_lfp.training.results import Run, load_run
from spiking_lfp.training.runs import Job, adapted, build, run_job, samples_for, with_whole_paths
from spiking_lfp.training.watch import progress_bar

# settings of networks that are made by their names
_OF_NAMED_NETWORKS = {
    name
    for name in (*NetworkSettings.model_fields, *NeuronSettings.model_fields)
    if name != "network" and not name.startswith("readout")
}


# settings that say what values become
_OF_ENCODERS = ("encoding", "steps", "encoding_neurons", "delta_threshold")


def fit(
    network: nn.Module | str,
    train: Any = None,
    test: Any = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    class_names: Sequence[str] = (),
    encoder: Callable[[Tensor], Tensor] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    device: str = "auto",
    data_root: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Train a network by LFP, and keep settings, metrics, checkpoints and the network in a folder.

    A run that is killed goes on with the same call and `resume=True`; on a CPU it ends bit for bit where it would have.

    Args:
        network: a module from sequences `[T, B, ...]` to outputs `[T, B, C]`, spikes or membranes, with layers of this
            package, which is trained in place, but for a last layer that `readout` replaces in `run.network`; or a
            network by name, or a function that makes one, as `"net.py:build(width=64)"`.
        train: samples for training: a pair (values, labels) of arrays, tensors or lists; a `torch.utils.data.Dataset`
            or `DataLoader` of such pairs; or a data set by name or path. Values are `[N, ...]`, uint8 for pixels, which
            `encoding` turns into sequences; with `encoding="sequence"` they are sequences `[N, T, ...]`, or a list of
            sequences of different lengths, whose padding neither counts nor earns a reward. Labels are class indices,
            or other targets of rewards: a class for each place, or a value for each output (several labels, numbers).
        test: the same for evaluation after each epoch; None for a data set by name, or with `validation=0.1`, which
            holds samples out.
        out: folder of the run; `runs/custom` (or `-2`, `-3`, ...) if None.
        resume: go on with the run in `out` if there is one.
        class_names: of the outputs.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`, in place of the settings `encoding` and `steps`.
        callbacks: objects with the methods of `Callback`.
        progress: show what happens, in a terminal or a notebook; `spiking_lfp.plots.draw_run` draws it.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        data_root: folder of the data sets by name.
        **settings: any setting by name, such as `steps=25, epochs=5, lr=1e-3`: see `spiking-lfp presets custom`.

    Returns:
        The run, with its network, history, `evaluate` and `predict`.

    Raises:
        UsageError: for settings that do not fit the network or the data.
        DataError: for data of another form.
        NonFiniteError: if NaN or infinity appears, with the layer's name.
        RunError: if the folder cannot be used, or holds a run with other settings.

    Example:
        >>> import torch, spiking_lfp as lfp
        >>> values, labels = torch.rand(60, 8), torch.arange(60) % 2
        >>> network = torch.nn.Sequential(lfp.LIF(torch.nn.Linear(8, 2), threshold=0.1))
        >>> run = lfp.fit(network, (values, labels), (values, labels), epochs=1, steps=5, progress=False)
        >>> run.predict(values[:3]).scores.shape
        torch.Size([3, 2])
    """
    if not isinstance(callbacks, Sequence):
        raise UsageError(f"callbacks must be a list of objects derived from Callback, found {describe(callbacks)}")
    if callable(settings.get("reward")):
        raise UsageError(
            f"setting reward is a function, expected a name, {', '.join(REWARDS)}: one of your own teaches in a loop "
            "of your own, by propagate(outputs, reward)"
        )
    job = _job(network, OwnData(train, test, as_names(class_names, "class_names"), encoder), data_root, settings)
    with progress_bar(progress) as bars:
        folder = run_job(job, None if out is None else Path(out), resume, device, (*bars, *callbacks))
    trained = load_run(folder, device, network if isinstance(network, nn.Module) else None)
    trained.encoder = encoder
    return trained


def _job(network: nn.Module | str, given: OwnData, data_root: str | Path | None, settings: dict[str, Any]) -> Job:
    if isinstance(network, nn.Module):
        foreign = sorted(_OF_NAMED_NETWORKS & settings.keys())
        if foreign:
            raise UsageError(
                f"setting {foreign[0]} is for networks by name: set it in the layers of the network itself"
            )
    elif not isinstance(network, str):
        raise UsageError(f"network is {type(network).__name__}, expected a torch.nn.Module, or a network by name")
    by_name = isinstance(given.train, str | Path)
    if by_name and given.test is not None:
        raise UsageError("a data set by name has its own test samples: leave test out")
    named = {
        "network": network if isinstance(network, str) else OWN,
        "data": str(given.train) if by_name else OWN,
        **({} if isinstance(network, str) else {"rule": OWN}),
        **({} if given.encoder is None else {"encoding": OWN}),
    }
    for name in ("network", "data", *(_OF_ENCODERS if given.encoder else [])):
        if name in settings:
            raise UsageError(f"setting {name} is given by an argument of fit: leave it out")
    if settings.get("encoding") in IN_TIME and not by_name:
        settings = {"steps": 0, **settings}
    config = with_whole_paths(checked_config({**named, **settings}))
    check_used(config, settings)
    if isinstance(given.train, DataLoader) and settings.get("batch_size") not in (None, given.train.batch_size):
        raise UsageError(
            f"setting batch_size = {config.batch_size} changes nothing: train is a data loader, which makes batches of "
            f"{given.train.batch_size or 'its own'}; leave it out"
        )

    def make(device: torch.device, preparing: Progress) -> tuple[Data, nn.Module]:
        torch.manual_seed(config.seed)
        if by_name:
            samples = distributed.one_first(lambda: samples_for(config, data_root, preparing))
            data: Data = MemoryData(samples)
            made = build(config, data.spec) if isinstance(network, str) else adapted(network, config, data.spec.levels)
            return data, made.to(device)
        if isinstance(network, str):
            made = build(config, given.spec(config)).to(device)
            return given.ready(config, made), made
        data = given.ready(config, network.to(device))
        return data, adapted(network, config, data.spec.levels)

    return Job(config, make)
