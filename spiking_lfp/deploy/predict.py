"""Integer networks asked about new files, which are converted as those they were trained on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from spiking_lfp.data.inputs import Input, InputReader
from spiking_lfp.data.recipes import EventRecipe, InputRecipe
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.data.values import encoder_of
from spiking_lfp.deploy.layers import Array, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.nn.noise import noise_of
from spiking_lfp.training.results import Prediction

# samples at a time
BLOCK = 500
# the note of a network that says how its inputs were made
NOTE = "inputs"


def note_of(recipe: EventRecipe, inputs: InputRecipe, data: DataSpec) -> str:
    """Return how inputs of a network are made, as text."""
    parts = {"recipe": recipe.model_dump(mode="json"), "inputs": inputs.model_dump(mode="json"), "data": vars(data)}
    return json.dumps(parts)


def reader_of(network: IntegerNetwork) -> InputReader:
    """Return what reads new files for a network.

    Raises:
        ExportError: if the network does not say how its inputs were made.
    """
    if NOTE not in network.notes:
        raise ExportError("the network does not say how its inputs were made: export it again from its run")
    try:
        found = json.loads(network.notes[NOTE])
        recipe, inputs = EventRecipe(**found["recipe"]), InputRecipe(**found["inputs"])
        data = DataSpec(**found["data"])
    except (ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(f"what the network says of its inputs cannot be read: {reason}; export it again") from None
    encoder = replace(encoder_of(inputs, recipe), mean=tuple(data.mean), deviation=tuple(data.deviation))
    return InputReader(recipe, inputs, encoder, data)


def predict_files(network: IntegerNetwork, paths: str | Path | Sequence[str | Path]) -> tuple[list[str], Prediction]:
    """Classify files by the integer network, as `Run.predict_files` does by the trained one.

    Args:
        network: with the note of how its inputs were made.
        paths: of files, or of folders of such files; or one of these.

    Returns:
        the names of the samples, and what the network says of them: spikes per step, or the mean membrane, in real
        units, of a last layer that does not fire, or scores of its readout.

    Raises:
        DataError: naming a file that is missing, cannot be read, or gives samples of another shape.
        ExportError: if the network does not say how its inputs were made.
    """
    reader = reader_of(network)
    samples = [sample for path in reader.files(paths) for sample in reader.read(path)]
    scores = [np.zeros((0, len(network.class_names)))]
    *_, (last, (inputs, *_)) = network.with_inputs()
    assert isinstance(last, Spiking)
    unit = 1.0 if last.neuron.spiking else last.membrane_unit(inputs.levels)
    for block in _blocks(samples):
        inputs_of_block = integer_inputs(network, block, reader)
        steps = network.steps if network.encoder == "constant" else len(inputs_of_block)
        outcome = simulate(network, inputs_of_block)
        scores.append(outcome.counts * unit / steps if outcome.scores is None else outcome.scores)
    return [sample.name for sample in samples], Prediction(
        torch.from_numpy(np.concatenate(scores)), network.class_names
    )


def _blocks(samples: Sequence[Input]) -> Iterator[list[Input]]:
    """Yield samples in their order, several at a time: those of a block have equally many steps."""
    for _, alike in groupby(samples, lambda sample: sample.values.shape):
        while block := [*islice(alike, BLOCK)]:
            yield block


def convert_files(network: IntegerNetwork, paths: str | Path | Sequence[str | Path]) -> tuple[list[str], bytes]:
    """Convert files to what the C programs `run` and `classify` and chips take.

    Args:
        network: with the note of how its inputs were made.
        paths: of files, or of folders of such files; or one of these.

    Returns:
        the names of the samples, and their inputs one after the other, bytes 0..levels: `[inputs]` of a sample that is
        shown for some steps, else `[steps][inputs]`.

    Raises:
        DataError: naming a file that is missing, cannot be read, or gives samples of another shape.
        ExportError: if the network does not say how its inputs were made.
    """
    reader = reader_of(network)
    samples = [sample for path in reader.files(paths) for sample in reader.read(path)]
    parts = []
    for sample in samples:
        inputs = integer_inputs(network, [sample], reader)
        if network.encoder != "constant" and len(inputs) != network.steps:
            raise ExportError(f"{sample.name} has {len(inputs)} steps, the network takes {network.steps}")
        parts.append(inputs.tobytes())
    return [sample.name for sample in samples], b"".join(parts)


def integer_inputs(network: IntegerNetwork, samples: Sequence[Input], reader: InputReader) -> Array:
    """Return samples as integers `[N, *in_shape]`, or `[T, N, *in_shape]`, as the network takes them.

    Raises:
        ExportError: for real numbers below 0 or above 1.
    """
    if network.encoder == "constant":
        # one by one: pixels and real numbers may come together
        return np.asarray(torch.stack([_as_levels(sample.values, network.levels) for sample in samples]))
    values = np.asarray(torch.stack([_sequence(sample, reader) for sample in samples], 1))
    return network.integers(values) if network.encoder == "sequence" else values.astype(np.uint8)


def _sequence(sample: Input, reader: InputReader) -> torch.Tensor:
    """Return a sample `[T, ...]`; random spikes are those of `Run.predict_files`."""
    if sample.is_sequence:
        return sample.values
    with noise_of(torch.arange(1)):
        return reader.encoder(sample.values[None])[:, 0]


def _as_levels(values: torch.Tensor, levels: int) -> torch.Tensor:
    """Return pixels as they are, and numbers from 0 to 1 as integers up to `levels`."""
    if values.dtype == torch.uint8:
        return values
    if bool(((values < 0) | (values > 1)).any()):
        raise ExportError("values go beyond 0 to 1, which the integer network takes: scale them as in training")
    return (values * levels).round().to(torch.uint8)
