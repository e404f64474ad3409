"""The configuration of a Xylo: a JSON file whose fields are the arguments of rockpool's `config_from_specification`.

    with open("xylo.json") as file:
        settings = json.load(file)
    about = settings.pop("about")
    arguments = {name: np.array(value) if isinstance(value, list) else value for name, value in settings.items()}
    config, valid, message = rockpool.devices.xylo.syns61201.config_from_specification(**arguments)

For I input channels, H hidden neurons, those of all layers but the last one after the other, and O outputs:

    weights_in          [I][H]   integers of 8 bits
    weights_rec         [H][H]   from one hidden layer to the next, without delay beyond the chip's one step; left out
                                 for networks with one hidden layer
    weights_out         [H][O]
    weight_shift_in     by how many bits the chip shifts weights to the left; weight_shift_rec, weight_shift_out
    dash_mem            [H]      bits of the shift by which a membrane decays, dash_mem_out [O]
    dash_syn            [H]      of the synaptic current, dash_syn_out [O]
    threshold           [H]      in units of the membrane, threshold_out [O]
    about               what is no argument: "format"; "steps" of an inference; "class_names" of the outputs;
                        "layers", each with "name", "neurons" and "delay": how many steps later it spikes on the chip
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from spiking_lfp.deploy.backends.external import per_neuron, synapses
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.layers import Array, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers.cuba import IntegerCubaLIF

FORMAT = "spiking_lfp Xylo configuration"
TARGET = "xylo"


def write_xylo(network: IntegerNetwork, path: str | Path) -> None:
    """Write the configuration of a Xylo.

    Args:
        network: that fits the chip, see `check`.
        path: of the file, which is replaced if it exists; by convention `xylo.json`.

    Raises:
        ExportError: with the first reason why it does not fit, or if the file cannot be written.
    """
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in configuration(network).items())
    EXPORTS.write(Path(path), f"{{\n{lines}\n}}\n".encode())


def configuration(network: IntegerNetwork) -> dict[str, Any]:
    """Return the fields of the file.

    Raises:
        ExportError: with the first reason why the network does not fit the chip.
    """
    reasons = check(network, TARGET)
    if reasons:
        raise ExportError(reasons[0])
    *hidden, last = network.spiking
    first, *among = hidden
    places = np.cumsum([0, *(layer.neurons for layer in hidden)]).tolist()
    found: dict[str, Any] = {"weights_in": _matrix(first, int(np.prod(first.in_shape)), places[-1], 0, 0)}
    if among:
        each = zip(among, places, places[1:], strict=False)
        found["weights_rec"] = sum(
            _matrix(layer, places[-1], places[-1], before, after) for layer, before, after in each
        )
    found["weights_out"] = _matrix(last, places[-1], last.neurons, places[-2], 0)
    shifts = {"in": first, **({"rec": among[0]} if among else {}), "out": last}
    found |= {f"weight_shift_{name}": layer.neuron.frac_bits for name, layer in shifts.items()}
    for suffix, layers in (("", hidden), ("_out", [last])):
        found |= {
            f"dash_mem{suffix}": _constants(layers, "decay"),
            f"dash_syn{suffix}": _constants(layers, "current_decay"),
            f"threshold{suffix}": np.concatenate(
                [per_neuron(layer, layer.neuron.theta << layer.neuron.frac_bits) for layer in layers]
            ),
        }
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}
    spiking = enumerate(network.spiking)
    about = {
        "format": FORMAT,
        "steps": network.steps,
        "class_names": list(network.class_names),
        "layers": [{"name": layer.name, "neurons": layer.neurons, "delay": delay} for delay, layer in spiking],
    }
    return plain | {"about": about}


def _matrix(layer: Spiking, inputs: int, outputs: int, before: int, after: int) -> Array:
    """Return the weights by input and output, with its first ones at `before` and `after`."""
    matrix = np.zeros((inputs, outputs), np.int64)
    pre, post, weight = synapses(layer)
    matrix[before + pre, after + post] = weight
    return matrix


def _constants(layers: list[Spiking], name: str) -> Array:
    """Return a constant of layers for each of their neurons."""
    assert all(isinstance(layer.neuron, IntegerCubaLIF) for layer in layers)
    of_outputs = ((layer, np.full(layer.outputs, getattr(layer.neuron, name))) for layer in layers)
    return np.concatenate([per_neuron(layer, values) for layer, values in of_outputs])
