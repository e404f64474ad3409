"""Runs NIR graphs in another package, with its defaults: python nir_reader.py PACKAGE FOLDER.

For every NAME.nir in the folder, the outputs `[T, B, *n]` of NAME.npy, inputs `[T, B, ...]`, float32, are written to
NAME.out.npy, or the error that the package raised to NAME.error. Delays of the package, a step for each layer, are
taken out.
"""

import io
import logging
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np


def main(package: str, folder: str) -> None:
    """Run all graphs of a folder."""
    import nir

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for path in sorted(Path(folder).glob("*.nir")):
        try:
            with redirect_stdout(io.StringIO()):
                outputs = RUN[package](nir.read(path), np.load(path.with_suffix(".npy")))
        # any error of the other package is what is to be told
        except Exception as error:
            path.with_suffix(".error").write_text(f"{type(error).__name__}: {error}", "utf-8")
        else:
            np.save(path.with_suffix(".out.npy"), np.asarray(outputs, np.float32))


def norse(graph: Any, inputs: Any) -> Any:
    """Run in norse, step by step."""
    import norse.torch
    import torch

    network, state, outputs = norse.torch.from_nir(graph), None, []
    with torch.no_grad():
        for step in torch.from_numpy(inputs):
            out, state = network(step, state)
            outputs.append(out)
        return torch.stack(outputs).numpy()


def snntorch(graph: Any, inputs: Any) -> Any:
    """Run in snnTorch, step by step; its neurons keep their states, those with recurrent weights return them."""
    import torch
    from snntorch import utils
    from snntorch.import_nir import import_from_nir

    network, state, outputs = import_from_nir(graph), None, []
    utils.reset(network)
    with torch.no_grad():
        for step in torch.from_numpy(inputs):
            out, state = network(step, state)
            outputs.append(out)
        return torch.stack(outputs).numpy()


def spikingjelly(graph: Any, inputs: Any) -> Any:
    """Run in SpikingJelly, step by step."""
    import torch
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network, state, outputs = import_from_nir(graph), None, []
    with torch.no_grad():
        for step in torch.from_numpy(inputs):
            out, state = network(step, state)
            outputs.append(out)
        return torch.stack(outputs).numpy()


def spyx(graph: Any, inputs: Any) -> Any:
    """Run in spyx, whose channels are last, and whose neurons spike a step late."""
    import nir
    from spyx.nir import from_nir

    late = sum(isinstance(node, nir.LIF | nir.IF | nir.CubaLIF) for node in graph.nodes.values())
    inputs = np.concatenate([inputs, np.zeros_like(inputs[:1]).repeat(late, 0)])
    _, outputs = from_nir(graph, np.moveaxis(inputs, 2, -1))
    return np.moveaxis(np.asarray(outputs)[late:], -1, 2)


def sinabs(graph: Any, inputs: Any) -> Any:
    """Run in sinabs, which takes all samples one after the other."""
    import torch
    from sinabs.from_nir import from_nir

    steps, batch = inputs.shape[:2]
    network = from_nir(graph, batch_size=batch)
    with torch.no_grad():
        outputs = network(torch.from_numpy(inputs).swapaxes(0, 1).flatten(0, 1))
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    return outputs.unflatten(0, (batch, steps)).swapaxes(0, 1).numpy()


RUN = {"norse": norse, "snntorch": snntorch, "spikingjelly": spikingjelly, "spyx": spyx, "sinabs": sinabs}

if __name__ == "__main__":
    main(*sys.argv[1:])
