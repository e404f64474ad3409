"""The page in which an exported network runs: one self-contained HTML page with the C runtime in WebAssembly.

`pages/live.html` is the page, `pages/live.js` what needs no document: the network, and files as its inputs.
"""

from base64 import b64encode
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from spiking_lfp.deploy.costs import ADD, LOIHI_SYNOP, unit_energies
from spiking_lfp.deploy.formats.c import runtime_layers
from spiking_lfp.deploy.formats.wasm import network_image, wasm_runtime
from spiking_lfp.deploy.layers import Array, Recurrent, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.report import environment
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS

# bytes of a page: phones still load it
LARGEST_PAGE = 32_000_000
# values of a vector that may be a square picture
SMALLEST_PICTURE = 64
# rows of an N-MNIST file
NMNIST_ROWS = 240


def write_live(path: str | Path, network: IntegerNetwork, labels: Sequence[int] = ()) -> None:
    """Write the page in which a network runs, whole or not at all.

    Its golden run, if it has one, gives the samples of the page, which compares every layer with it when it is opened.

    Args:
        path: of the HTML file.
        network: what runs. Its note "name" becomes the title; by how its inputs were made the page makes inputs of
            drawings and files.
        labels: classes of the samples of the golden run; none if they are not known.

    Raises:
        ExportError: if the network has a readout, or the page would be too large, or cannot be written.
    """
    if network.readout is not None:
        raise ExportError("the page adds up output neurons by class, and a network with a readout on the host has none")
    image, samples = network_image(network), _samples(network, labels)
    layers = _layers(network)
    inputs = _inputs(network)
    data = {
        "model": {
            "classes": network.class_names,
            "constant": network.encoder == "constant",
            "spikes": network.encoder == "spikes",
            "inShape": network.in_shape,
            "layers": layers,
            "levels": network.levels,
            "steps": network.steps,
            **inputs,
        },
        "wasm": _text(wasm_runtime()),
        "image": _text(image),
        "samples": samples,
    }
    page = {
        "title": network.notes.get("name", "Integer network"),
        "network": network,
        "model": data["model"],
        "sources": [ADD.source, LOIHI_SYNOP.source],
        "data": data,
    }
    largest = 4 * len(image) // 3 + sum(map(len, [samples["inputs"], *samples["outputs"]]))
    if largest <= LARGEST_PAGE:
        content = environment().get_template("live.html").render(page).encode("utf-8", "replace")
        largest = len(content)
    if largest > LARGEST_PAGE:
        raise ExportError(
            f"the page would have {largest / 1e6:,.1f} MB, of them {4 * len(image) / 3e6:,.1f} MB of weights; "
            f"{LARGEST_PAGE / 1e6:.0f} MB are the most: take a network of fewer weights or bits, or fewer samples"
        )
    EXPORTS.write(Path(path), content)


def _text(content: bytes) -> str:
    return b64encode(content).decode()


def _layers(network: IntegerNetwork) -> list[dict[str, Any]]:
    """Return what the page shows of layers with neurons."""
    numbers = {layer.name: number for number, (layer, _) in enumerate(runtime_layers(network))}
    shown = []
    for layer, inputs in network.with_inputs():
        if isinstance(layer, Spiking):
            analogue = inputs[0].largest > 1
            core, loihi = unit_energies(layer, analogue)
            spike, _ = unit_energies(layer, analogue=False)
            shown.append(
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "number": numbers[layer.name],
                    "shape": layer.out_shape,
                    "neurons": layer.neurons,
                    "fires": layer.neuron.spiking,
                    "analogue": analogue,
                    "core": core,
                    "loihi": loihi,
                    # energy of what a spike brings to one of its own layer
                    "own": spike.operation if isinstance(layer, Recurrent) else 0,
                }
            )
    return shown


def _samples(network: IntegerNetwork, labels: Sequence[int]) -> dict[str, Any]:
    """Return the golden run, sample by sample: images and sequences as bytes, spikes as bits, the lowest one first."""
    golden = network.golden
    if golden is None:
        return {"count": 0, "steps": network.steps, "labels": [], "inputs": "", "outputs": [""] * len(network.spiking)}
    constant = network.encoder == "constant"
    inputs = golden.inputs if constant else golden.inputs.swapaxes(0, 1)
    outputs = []
    for layer in network.spiking:
        values = golden.spikes[layer.name].swapaxes(0, 1)
        outputs.append(_text(_bits(values) if layer.neuron.spiking else values.astype("<i4").tobytes()))
    return {
        "count": len(inputs),
        "steps": network.steps if constant else inputs.shape[1],
        "labels": [int(label) for label in labels],
        "inputs": _text(_bits(inputs) if network.encoder == "spikes" else inputs.tobytes()),
        "outputs": outputs,
    }


def _bits(values: Array) -> bytes:
    return np.packbits(values.reshape(-1), bitorder="little").tobytes()


def _inputs(network: IntegerNetwork) -> dict[str, Any]:
    """Return what the page makes inputs of.

    "picture" is the shape of pictures; None if the network takes none. "code" says how values 0 to 255 become spikes:
    either all that there are, or, if they are random, their chances. "arrays" and "recording" say whether .npy files of
    samples and N-MNIST files are taken, and "files" tells the reader.
    """
    from spiking_lfp.data.spec import EVENTS, VALUES
    from spiking_lfp.deploy.predict import NOTE, reader_of

    reader = reader_of(network) if NOTE in network.notes else None
    kind = None if reader is None else reader.data.kind
    constant = network.encoder == "constant"
    code = None
    if kind == VALUES and not constant:
        assert reader is not None
        code = _code(reader.encoder)
    values = code is not None or (constant and kind in (None, VALUES))
    picture = _picture_shape(network) if values and (code or network.levels == 255) else None
    recording = False
    if kind == EVENTS:
        assert reader is not None
        recipe = reader.recipe
        plain = ("window_ms", "min_events", "bin_by", "values", "crop", "centre", "downsample", "denoise_us")
        recording = (
            all(getattr(recipe, name) == type(recipe).model_fields[name].default for name in plain)
            and [recipe.polarities, *reader.data.sensor[1:]] == list(network.in_shape)
            and network.in_shape[1] <= NMNIST_ROWS
        )
    known = {"images": picture, "arrays (.npy)": values, "recordings of N-MNIST (.bin)": recording}
    files = ", ".join([*(name for name in known if known[name]), "samples that spiking-lfp convert has made for it"])
    return {
        "picture": picture,
        "code": code,
        "arrays": values,
        "recording": recording,
        "files": f"{files[0].upper()}{files[1:]}",
    }


def _picture_shape(network: IntegerNetwork) -> tuple[int, ...] | None:
    """Return channels, height and width if inputs are pictures; vectors are squares."""
    shape = network.in_shape
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1:
        return shape
    side = isqrt(shape[0])
    return (1, side, side) if len(shape) == 1 and side**2 == shape[0] >= SMALLEST_PICTURE else None


def _code(encoder: Any) -> dict[str, list[float]] | None:
    """Return the spikes of values 0 to 255, `[steps][256]`, or the chance of a spike in a step; None for others."""
    import torch

    every = torch.arange(256, dtype=torch.uint8)
    if encoder.neurons or encoder.mean:
        return None
    if encoder.name == "rate":
        return {"chances": (every / 255).tolist()}
    return {"spikes": encoder(every[None])[:, 0].int().flatten().tolist()} if encoder.name == "latency" else None
