"""The report of an exported network: one self-contained HTML page."""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from numpy.typing import ArrayLike

from spiking_lfp.deploy.costs import ENERGIES, costs, footprint
from spiking_lfp.deploy.layers import Array, Layer, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import Outcome, check_inputs, simulate
from spiking_lfp.deploy.verify import Agreement
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS

# of a layer, neurons that are drawn at most
SHOWN_NEURONS = 96
# up to how many classes a confusion matrix is shown
SHOWN_CLASSES = 40
NOTHING = "\N{EN DASH}"
# keys of a layer in the note "quantisation"
LAYER_KEYS: dict[str, type[int] | type[float]] = {
    "bits": int,
    "weight_error": float,
    "clipped": float,
    "rate_float": float,
    "rate_integer": float,
    "disagreement": float,
    "saturated": int,
}


def write_report(
    path: str | Path,
    network: IntegerNetwork,
    inputs: ArrayLike,
    labels: ArrayLike,
    agreements: Sequence[Agreement] = (),
    samples: Sequence[int] = (0, 1, 2, 3),
) -> None:
    """Run the network on N labelled samples and write the report, whole or not at all.

    Args:
        path: of the HTML file.
        network: what to report on. Of its notes, "name" becomes the title, those with "accuracy" in their names are
            shown beside the accuracy measured here, and "quantisation" is the JSON text of a `QuantisationReport`.
        inputs: as `simulate` takes them, integers `[N, *in_shape]` or spikes `[T, N, *in_shape]`.
        labels: integers `[N]`, classes.
        agreements: result of `verify`.
        samples: indices of the samples whose spikes are drawn; indices beyond the last sample are ignored.

    Raises:
        ExportError: if inputs, labels or notes do not fit, or the file cannot be written.
    """
    path = Path(path)
    if network.readout is not None or not network.spiking[-1].neuron.spiking:
        readout = "a membrane readout" if network.readout is None else "a readout on the host"
        raise ExportError(f"the report shows output neurons by class, and a network with {readout} has none")
    inputs, labels = check_inputs(network, inputs), np.asarray(labels)
    axis = 0 if network.encoder == "constant" else 1
    count, classes = inputs.shape[axis], len(network.class_names)
    if labels.shape != (count,) or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= classes:
        raise ExportError(f"labels are {labels.dtype} {list(labels.shape)}, expected {count} integers below {classes}")
    chosen = [sample for sample in dict.fromkeys(samples) if 0 <= sample < count]
    outcome = simulate(network, inputs)
    cost = costs(network, outcome)
    shown = _samples(network, inputs.take(chosen, axis), labels[chosen], chosen) if chosen else []
    steps = network.steps if axis == 0 else len(inputs)
    page = {
        "title": network.notes.get("name", "Integer network"),
        "network": network,
        "count": count,
        "correct": int(np.count_nonzero(outcome.predictions == labels)),
        "silent": int(np.count_nonzero(~outcome.counts.any(1))),
        "notes": _notes(network),
        "layers": [_layer(layer, outcome) for layer in network.layers],
        "costs": cost,
        "most": {
            "operations": max(layer.synops + layer.macs for layer in cost.layers) or 1.0,
            "energy": max(max(layer.energy_45nm, layer.energy_loihi or 0.0) for layer in cost.layers),
        },
        "figures": ENERGIES,
        "confusion": _confusion(network, outcome.predictions, labels),
        "quantisation": _quantisation(network),
        "agreements": agreements,
        "samples": shown,
        "shown_neurons": SHOWN_NEURONS,
        "data": {"steps": steps, "samples": [sample["classes"] for sample in shown]},
    }
    text = environment().get_template("report.html").render(page)
    EXPORTS.write(path, text.encode("utf-8", "replace"))


def environment() -> Environment:
    """Return the environment of the templates in `pages`: every value is escaped, none may be missing."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files("spiking_lfp.deploy").joinpath("pages", name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "css": _css,
        "percent": _percent,
        "shape": _shape,
        "si": _si,
        "span": _span,
    }
    return environment


def _notes(network: IntegerNetwork) -> dict[str, list[tuple[str, str]]]:
    """Return the notes in two groups; accuracies in 0..1 become percentages."""
    groups: dict[str, list[tuple[str, str]]] = {"accuracy": [], "other": []}
    for name, text in network.notes.items():
        if "accuracy" in name.lower():
            with suppress(ValueError):
                text = _percent(float(text)) if 0 <= float(text) <= 1 else text
            groups["accuracy"].append((name.replace("_", " "), text))
        elif name not in ("name", "quantisation"):
            groups["other"].append((name.replace("_", " "), text))
    return groups


def _layer(layer: Layer, outcome: Outcome) -> dict[str, Any]:
    """Return a row of the table of layers."""
    row: dict[str, Any] = {
        "layer": layer, "neurons": None, "sources": [source or "the inputs" for source in layer.sources],
    }  # fmt: skip
    if isinstance(layer, Spiking):
        counters = outcome.counters[layer.name]
        row |= {
            "neurons": layer.neurons,
            "synapses": layer.synapses,
            "footprint": footprint(layer),
            "counters": counters,
            "rate": counters.spikes / counters.updates,
        }
    return row


def _confusion(network: IntegerNetwork, predictions: Array, labels: Array) -> dict[str, Any]:
    """Return the confusion matrix, labels in rows, predictions in columns, and the five most frequent mistakes."""
    classes = len(network.class_names)
    pairs = labels.astype(np.int64) * classes + predictions
    matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    totals = matrix.sum(1)
    wrong = matrix - np.diag(np.diag(matrix))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:5]
    names = network.class_names
    mistakes = [(names[k // classes], names[k % classes], int(wrong.flat[k])) for k in worst if wrong.flat[k]]
    rows = [
        {
            "name": names[label],
            "total": int(totals[label]),
            "cells": row.tolist(),
            "depths": [_depth(share) for share in row / max(1, totals[label])],
            "recall": row[label] / totals[label] if totals[label] else None,
        }
        for label, row in enumerate(matrix)
    ]
    return {"rows": rows if classes <= SHOWN_CLASSES else [], "mistakes": mistakes}


def _depth(share: float) -> float:
    """Return how much colour a cell gets; none in between, where neither dark nor light text is easy to read."""
    if share > 0.5:
        return 0.8 + 0.2 * share
    return 0.15 + 0.6 * share if share else 0.0


def _quantisation(network: IntegerNetwork) -> dict[str, Any]:
    """Return the note on quantisation for the template; without one its lists are empty.

    Raises:
        ExportError: if the note is damaged.
    """
    try:
        found = json.loads(network.notes.get("quantisation", "{}"))
        accuracy = [(str(step["step"]), float(step["accuracy"])) for step in found.get("accuracy", [])]
        layers = [
            {
                "name": str(row["name"]),
                **{what: kind(row[what]) if what in row else None for what, kind in LAYER_KEYS.items()},
            }
            for row in found.get("layers", [])
        ]
        samples = int(found.get("samples", 0))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ExportError(f'the network\'s note "quantisation" is damaged: {error!r}') from None
    low, high = min((value for _, value in accuracy), default=0.0), max((value for _, value in accuracy), default=1.0)
    steps = []
    for k, (step, value) in enumerate(accuracy):
        place = (value - low) / (high - low) if high > low else 0.5
        steps.append(
            {"step": step, "accuracy": value, "change": value - accuracy[k - 1][1] if k else None, "place": place}
        )
    top = max((row[rate] or 0.0 for row in layers for rate in ("rate_float", "rate_integer")), default=0.0) or 1.0
    return {"layers": layers, "top_rate": top, "accuracy": steps, "samples": samples, "low": low, "high": high}


def _samples(network: IntegerNetwork, inputs: Array, labels: Array, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return what is drawn of the chosen samples."""
    outcome = simulate(network, inputs, record=True)
    *hidden, last = network.spiking
    output = outcome.spikes[last.name]
    shown = []
    for k, (label, prediction, number) in enumerate(zip(labels, outcome.predictions, numbers, strict=True)):
        rasters = [_raster(layer.name, outcome.spikes[layer.name][:, k]) for layer in hidden]
        of_sample = inputs[k] if network.encoder == "constant" else inputs[:, k]
        if network.encoder == "spikes":
            rasters.insert(0, _raster("input", of_sample))
        elif network.encoder == "sequence":
            # a row for each input, a column for each step
            of_sample = of_sample.reshape(1, len(of_sample), -1).swapaxes(1, 2)
        shown.append(
            {
                "number": number,
                "label": int(label),
                "prediction": int(prediction),
                "silent": not output[:, k].any(),
                "picture": None if network.encoder == "spikes" else _picture(of_sample, network.levels),
                "rasters": rasters,
                "classes": [np.flatnonzero(spikes).tolist() for spikes in output[:, k].T],
                "steps": len(output),
            }
        )
    return shown


def _raster(name: str, spikes: Array) -> dict[str, Any]:
    """Return the raster of `[T, ...]` spikes, a row for each neuron that spikes; of many, evenly spaced ones."""
    flat = spikes.reshape(len(spikes), -1)
    active = np.flatnonzero(flat.any(0))
    rows = active[np.linspace(0, len(active) - 1, min(SHOWN_NEURONS, len(active))).astype(int)]
    return {
        "name": name,
        "neurons": flat.shape[1],
        "active": len(active),
        "shown": len(rows),
        "spikes": int(flat.sum()),
        "marks": _marks(zip(*np.nonzero(flat[:, rows]), strict=True)),
    }


def _marks(spikes: Iterable[tuple[int, int]]) -> str:
    """Return the SVG path of (step, row) spikes, one unit per step and per row, with room between steps."""
    return "".join(f"M{step} {row}.5h.8" for step, row in spikes)


def _picture(sample: Array, levels: int) -> str:
    """Return a sample as a PNG data URI: images as they are, anything else as a square of grey values."""
    if sample.ndim == 3 and len(sample) in (1, 3):
        pixels = sample.transpose(1, 2, 0)
    else:
        side = int(np.ceil(np.sqrt(sample.size)))
        pixels = np.pad(sample.reshape(-1), (0, side**2 - sample.size)).reshape(side, side, 1)
    grey = np.round(pixels * (255 / levels)).astype(np.uint8)
    height, width, channels = grey.shape
    # every line starts with the number of its filter, 0
    lines = np.pad(grey.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    header = pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content)) for kind, content in chunks
    )
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _number(value: int | float | None) -> str:
    """Return a number with separators if it is an integer or large, else with three digits."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"


def _percent(value: int | float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def _css(share: float) -> str:
    """Return a length for CSS."""
    return f"{100 * share:.1f}%"


def _shape(value: Sequence[int]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, value))


def _span(values: Array | int) -> list[str]:
    """Return the value if all are equal, else the smallest and the largest."""
    return [_number(value) for value in dict.fromkeys((np.min(values).item(), np.max(values).item()))]


def _si(value: int | float, unit: str) -> str:
    """Return a value of at least 0 with three digits and an SI prefix between pico and giga."""
    if value == 0:
        return f"0 {unit}"
    # rounded first: 999.6 becomes 1 k
    value = float(f"{value:.3g}")
    exponent = int(np.clip(np.floor(np.log10(value) / 3), -4, 3))
    prefix = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}[exponent]
    return f"{value / 1000.0**exponent:.3g} {prefix}{unit}"
