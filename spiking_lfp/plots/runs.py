"""The pictures of a run: its learning curve, and the spikes of all layers on a sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.data import Samples, Split
from spiking_lfp.data.own import array_split
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.splits import lengths_of
from spiking_lfp.nn.layers import evaluation_mode
from spiking_lfp.nn.spiking import SpikingLayer, firing_layers
from spiking_lfp.plots.curves import learning_curve
from spiking_lfp.plots.stills import spike_raster
from spiking_lfp.training import Run, read_metrics


def draw_run(run: Run, samples: Any = None, data_root: str | Path | None = None) -> list[Path]:
    """Draw the learning curve of a run, and the spikes of all layers on a test sample, into its folder.

    Args:
        run: with at least one finished epoch.
        samples: `Samples`, or a pair (values, labels) as for `fit`, whose first one is shown; None for those of the
            run's data, if these have a name or a path, else there is no raster.
        data_root: folder of the data sets by name.

    Returns:
        the files: `learning_curve.png` and `spike_raster.png`.

    Raises:
        DataError: if the samples cannot be read.
        RunError: if the folder cannot be written.

    Example:
        >>> samples = torch.rand(60, 8), torch.arange(60) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 16)), LIF(nn.Linear(16, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, class_names=["left", "right"], epochs=1, steps=5, progress=False)
        >>> [file.name for file in draw_run(run, samples)]
        ['learning_curve.png', 'spike_raster.png']
    """
    own = run.config.data == OWN
    network = type(run.network).__name__ if run.config.network == OWN else _name(run.config.network)
    about = f"{run.folder.name}: {network}, {'data given in Python' if own else _name(run.config.data)}"
    files = [run.folder / "learning_curve.png"]
    learning_curve(read_metrics(run.folder), files[0], about)
    if samples is None and own:
        return files
    files.append(run.folder / "spike_raster.png")
    split, names, which = _test_samples(run, samples, data_root)
    first = torch.tensor([0])
    x, labels = split.batch(first)
    lengths = lengths_of(split, first)
    x = x if lengths is None else x[: int(lengths)]  # without the padding to the longest one
    spikes, outputs = _spikes(run.network, x.to(run.device))
    label = labels[0].cpu()
    answer = "" if class_of(label) is None else title_of(names, class_of(label), outputs.sum(0))
    last = next(reversed(spikes.values()), None)
    voting = last is not None and torch.equal(last, outputs)
    # a readout that gives one answer for all steps has nothing over time to show
    lines = None if voting or len(outputs) != len(x) else outputs
    shown = names if voting or lines is not None else ()
    spike_raster(x[:, 0], spikes, answer, files[1], shown, f"{about}, {which}", lines)
    return files


def class_of(target: Tensor) -> int | None:
    """Return the target of a sample if it is its class, None for others."""
    return int(target) if target.dim() == 0 and not target.is_floating_point() else None


def title_of(names: Sequence[str], label: int | None, counts: Tensor, separator: str = ", ") -> str:
    """Return the class of a sample, if it has one, and that with the largest of `counts` `[C]` if it is another."""
    words = [] if label is None else [names[label]]
    if not bool(counts.any()):
        words.append("no prediction")
    elif int(counts.argmax()) != label:
        words.append(f"predicted {names[int(counts.argmax())]}")
    return separator.join(words)


def _name(source: str) -> str:
    """Return a name, or the last part of a path."""
    return Path(source).name if "/" in source else source


def _test_samples(run: Run, samples: Any, data_root: str | Path | None) -> tuple[Split, Sequence[str], str]:
    if samples is None:
        samples = run.samples(data_root=data_root)
    if isinstance(samples, Samples):
        return samples.test, samples.class_names, "test sample 0"
    return array_split(samples, run.encode, "samples"), run.class_names, "sample 0"


def _spikes(network: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the spikes `[T, neurons]` of all layers by title, in the order in which they run, and the outputs."""
    spikes: dict[str, Tensor] = {}

    def watch(path: str, layer: SpikingLayer) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
            spikes[_title(len(spikes) + 1, path, layer)] = outputs[:, 0].flatten(1).cpu()

        return layer.register_forward_hook(hook)

    handles = [watch(path, layer) for path, layer in firing_layers(network).items()]
    try:
        with torch.no_grad(), evaluation_mode(network):
            outputs = network(x)[:, 0].flatten(1).cpu()
    finally:
        for handle in handles:
            handle.remove()
    return spikes, outputs


def _title(number: int, path: str, layer: SpikingLayer) -> str:
    """Return what a layer is: its kind and its synapse, or the name that its owner gave it."""
    name = path.rpartition(".")[2]
    kind = type(layer).__name__
    if name.isdigit() or not name:
        return f"{number}. {kind}, {type(layer.synapse).__name__}"
    return f"{number}. {kind} {name}"
