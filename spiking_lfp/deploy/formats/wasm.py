"""A network as bytes that the WebAssembly build of the C runtime reads, `hardware/web/web.c`."""

import re

import numpy as np

from spiking_lfp.deploy.formats.c import Field, arithmetic_fields, runtime_layers
from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic

# fields of slfp_layer and the number of their words, in the order in which web.c reads them; then come those of
# slfp_arithmetic, and arrays
NUMBERS = {
    "kind": 1, "in": 3, "out": 3, "kernel": 2, "stride": 2, "padding": 2, "groups": 1, "weight_bits": 1, "row_words": 1,
    "reset": 1, "decay": 1, "frac_bits": 1, "neuron": 1, "current_decay": 1, "summands": 1, "further_bytes": 1,
    "factor": 1,
}  # fmt: skip
ARRAYS = ("sources", "weight", "bias", "theta", "fill", "decays", "current_decays")


def wasm_runtime() -> bytes:
    """Return the runtime, a WebAssembly module that runs any network.

    Raises:
        ExportError: if it cannot be read.
    """
    return hardware_file("web", "slfp.wasm")


def network_image(network: IntegerNetwork) -> bytes:
    """Return a network for `load` of the runtime: words of 32 bits, little-endian.

    Args:
        network: any valid network.

    Raises:
        ExportError: if the network is not valid, or has neurons that the runtime does not know.
    """
    network.check()
    names = _enumerators(hardware_file("runtime_c", "slfp.h").decode())
    layers = runtime_layers(network)
    words = [np.array([len(layers), np.prod(network.in_shape), network.encoder == "constant"])]
    for layer, fields in layers:
        known = {*NUMBERS, *ARRAYS, "arithmetic"}
        strange = next((name for name in fields if name not in known), None)
        unknown = next((each for each in fields.values() if isinstance(each, str) and each not in names), strange)
        if unknown is not None:
            raise ExportError(f"layer {layer.name}: {unknown} is not supported by the runtime for WebAssembly")
        for name, count in NUMBERS.items():
            words.append(_numbers(fields.get(name, (0,) * count), names))
        arithmetic = fields.get("arithmetic", DEFAULT)
        assert isinstance(arithmetic, Arithmetic)
        words += [_numbers(value, names) for value in arithmetic_fields(arithmetic).values()]
        for name in ARRAYS:
            array = np.asarray(fields.get(name, ()))
            words += [np.array([array.size]), array.astype(np.int64).reshape(-1)]
    return (np.concatenate(words).astype(np.int64) & 0xFFFFFFFF).astype("<u4").tobytes()


def _numbers(value: Field, names: dict[str, int]) -> np.ndarray:
    return np.atleast_1d(np.array(names[value] if isinstance(value, str) else value))


def _enumerators(header: str) -> dict[str, int]:
    """Return the enumerators of a C header by name; none of them has a value of its own."""
    lists = re.findall(r"typedef enum \{([^}]*)\}", header)
    return {name: number for each in lists for number, name in enumerate(re.findall(r"\w+", each))}
