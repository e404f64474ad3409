"""A folder with C99 sources of a network, the runtime, a self test, and programs for a bare board."""

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.layers import (
    Add,
    Array,
    ByLayer,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Pad,
    Recurrent,
    Signal,
    Spiking,
    SumPool,
)
from spiking_lfp.deploy.model import GoldenRun, IntegerNetwork
from spiking_lfp.errors import ExportError, unknown_name
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers import NEURONS, IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.integers.fields import constraints

SOURCES = ("slfp.h", "slfp.c", "steps.h", "run.c", "classify.c", "selftest.c", "Makefile")
# what only some exports have, and make would take from the one before
OPTIONAL = ("golden.h", "board.mk")
# the start, output and timer of each board's processor, in hardware/boards
BOARDS = {"cortex-m4": "cortex_m.c", "cortex-m0": "cortex_m.c", "rv32": "rv32.c"}
LINE = 24
# that slfp.h can count
MOST_STEPS = 2**32 - 1
# a field of slfp_layer in slfp.h: numbers, an enumerator, an array or an arithmetic
Field = int | tuple[int, ...] | str | Array | Arithmetic
# the fields of slfp_layer behind the name, in the order of slfp.h, which C++ demands; one that is left out is 0
LAYER = (
    "kind", "in", "out", "kernel", "stride", "padding", "groups", "weight", "weight_bits", "row_words", "bias", "theta",
    "reset", "decay", "frac_bits", "neuron", "current_decay", "arithmetic", "sources", "summands", "further_bytes",
    "factor", "fill", "decays", "current_decays",
)  # fmt: skip


def write_c(network: IntegerNetwork, folder: str | Path, board: str | None = None) -> list[Path]:
    """Write the runtime, `network.h`, and `golden.h` if the network has a golden run.

    Args:
        network: any valid network whose neurons spike once in a step at most.
        folder: made if missing; files of the same names are replaced, all of them or none.
        board: in `BOARDS`: adds what programs on this bare board need, see hardware/README.md.

    Returns:
        The files written.

    Raises:
        ExportError: if the network is not valid, or files cannot be read or written.
        UsageError: for an unknown board.
    """
    return EXPORTS.write_all(Path(folder), c_files(network, board), OPTIONAL)


def c_files(network: IntegerNetwork, board: str | None = None) -> dict[str, bytes]:
    """Return the files that `write_c` writes, by name."""
    check_board(board)
    network.check()
    files = {name: hardware_file("runtime_c", name) for name in SOURCES}
    if board is not None:
        named = {"machine.c": BOARDS[board], "board.mk": f"{board}.mk"}
        shared = ("board.h", "board.c", "board.ld", "stream.c", "samples.S")
        files |= {name: hardware_file("boards", named.get(name, name)) for name in (*shared, *named)}
    _check_neurons(network, files["slfp.h"].decode())
    files["network.h"] = _network_header(network).encode()
    if network.golden is not None:
        files["golden.h"] = _golden_header(network, network.golden).encode()
    return files


def check_board(board: str | None) -> None:
    """Raise a UsageError if the name of a board is not known."""
    if board is not None and board not in BOARDS:
        raise unknown_name("board", board, BOARDS)


def _check_neurons(network: IntegerNetwork, header: str) -> None:
    """Raise an ExportError if a kind of neuron is not in `slfp.h`."""
    found = re.search(r"typedef enum \{([^}]*)\} slfp_neuron_kind;", header)
    assert found is not None
    names = re.findall(r"\w+", found[1])
    known = ", ".join(each.__name__ for each in NEURONS.values() if _neuron_name(each) in names)
    for layer in network.spiking:
        kind = type(layer.neuron)
        if _neuron_name(kind) not in names:
            raise ExportError(
                f"layer {layer.name}: {kind.__name__} is not supported by the C runtime, expected {known}"
            )


def _neuron_name(kind: type[IntegerNeuron]) -> str:
    """Return the name of a kind of neuron in slfp.h."""
    return f"SLFP_{kind.kind.upper()}"


def _network_header(network: IntegerNetwork) -> str:
    """Return `network.h`: arrays, the table of layers and the memory that they need."""
    return _lines(
        "/* Written by spiking_lfp: the network that slfp.c runs. Include it in one file of a program, C99 or C++20 */",
        *_guarded("network", _network_lines(network)),
    )


def _guarded(name: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of `NAME.h` between guards: it may be included again, that of another network may not."""
    lines = list(lines)
    macro = name.upper()
    own = f"{macro}_{sha256(_lines(*lines).encode()).hexdigest()[:16].upper()}_H"
    yield f"#ifndef {own}"
    yield f"#ifdef {macro}_H"
    yield f'#error "{name}.h of another network was included before: include each in a file of its own"'
    yield "#else"
    yield f"#define {macro}_H"
    yield f"#define {own}"
    yield ""
    yield from lines
    yield ""
    yield "#endif"
    yield "#endif"


def _network_lines(network: IntegerNetwork) -> list[str]:
    """Return the lines of `network.h` between its guards."""
    layers, signals = runtime_layers(network), _signals(network)
    first = network.spiking[0]
    neurons = sum(layer.neurons for layer in network.spiking)
    states = sum(layer.neurons * len(layer.neuron.states) for layer in network.spiking)
    largest = max(layer.neurons for layer in network.spiking)
    constant = network.encoder == "constant"
    inputs = int(np.prod(network.in_shape))
    values = sum(int(np.prod(layer.out_shape)) * (1 + _further_bytes(signals[layer.name])) for layer, _ in layers)
    return [
        '#include "slfp.h"',
        "",
        f"#define NETWORK_LAYERS {len(layers)}",
        f"#define NETWORK_INPUTS {inputs}",
        f"#define NETWORK_CLASSES {len(network.class_names)}",
        "",
        "/* the memory that slfp_start needs: membranes, sums and spikes */",
        "typedef struct {",
        f"    int32_t words[{states + largest + (first.neurons if constant else 0)}];",
        f"    uint8_t bytes[{values}];",
        "} network_memory;",
        "",
        *(line for k, (_, fields) in enumerate(layers) for line in _arrays(k, fields)),
        "static const char *const network_class_names[] = {",
        *(f"    {_string(name)}," for name in network.class_names),
        "};",
        "",
        "/* fields that are left out are 0, of which C++ compilers would warn */",
        "#if defined(__cplusplus) && defined(__GNUC__)",
        "#pragma GCC diagnostic push",
        '#pragma GCC diagnostic ignored "-Wmissing-field-initializers"',
        "#endif",
        "static const slfp_layer network_layers[NETWORK_LAYERS] = {",
        *(line for k, (layer, fields) in enumerate(layers) for line in _entry(k, layer, fields)),
        "};",
        "#if defined(__cplusplus) && defined(__GNUC__)",
        "#pragma GCC diagnostic pop",
        "#endif",
        "",
        "static const slfp_network network = {",
        "    .layer = network_layers,",
        "    .layers = NETWORK_LAYERS,",
        f"    .first = {next(k for k, (layer, _) in enumerate(layers) if layer is first)},",
        "    .inputs = NETWORK_INPUTS,",
        f"    .neurons = {neurons},",
        f"    .largest = {largest},",
        f"    .steps = {network.steps},",
        f"    .levels = {network.levels},",
        f"    .constant = {int(constant)},",
        "    .class_names = network_class_names,",
        "};",
    ]


def runtime_layers(network: IntegerNetwork) -> list[tuple[Layer, dict[str, Field]]]:
    """Return the layers that slfp.c runs, and the fields of each as slfp_layer in slfp.h has them; others are 0.

    Raises:
        ExportError: for a layer that it does not run.
    """
    refusal = unsupported(network)
    if refusal is not None:
        raise ExportError(refusal)
    signals = _signals(network)
    layers, sources = _graph(network)
    return [(layer, _fields(layer, each, signals[layer.name])) for layer, each in zip(layers, sources, strict=True)]


def _signals(network: IntegerNetwork) -> dict[str, Signal]:
    """Return what each layer hands on, by name."""
    return {layer.name: signal for layer, signal in zip(network.layers, network.signals()[1:], strict=True)}


def unsupported(network: IntegerNetwork) -> str | None:
    """Return which layer the runtime does not support and why, or that there are too many steps, or None."""
    if network.steps > MOST_STEPS:
        return f"{network.steps} steps, the C runtime counts to {MOST_STEPS}"
    for layer in network.spiking:
        arithmetic = layer.neuron.arithmetic
        if arithmetic.accumulation != "sum" or arithmetic.spikes != 1:
            return (
                f"layer {layer.name}: the C runtime adds up what arrives in a step, and its neurons spike once in it, "
                f"not as in the arithmetic {arithmetic.name}"
            )
    return None


def _graph(network: IntegerNetwork) -> tuple[list[Layer], list[tuple[int, ...] | None]]:
    """Return the layers that run, and their sources as slfp.h has them; None for the layer before.

    Flattening does not change the order in memory, and needs no layer.
    """
    layers: list[Layer] = []
    numbers, found = [0], []
    for layer, sources in zip(network.layers, network.sources(), strict=True):
        mine = tuple(numbers[source] for source in sources)
        if isinstance(layer, Flatten):
            numbers.append(mine[0])
            continue
        found.append(None if mine == (len(layers),) else mine)
        layers.append(layer)
        numbers.append(len(layers))
    return layers, found


def _further_bytes(signal: Signal) -> int:
    """Return how many bytes an integer of a signal needs, beside the first."""
    return max(0, (signal.largest.bit_length() - 1) // 8)


def _arrays(k: int, fields: dict[str, Field]) -> Iterator[str]:
    """Yield the arrays of layer `k`, and its arithmetic."""
    for field, value in fields.items():
        if isinstance(value, Arithmetic):
            yield f"static const slfp_arithmetic {field}_{k} = {{"
            yield from (f"    .{name} = {each}," for name, each in arithmetic_fields(value).items())
            yield "};"
            yield ""
        elif isinstance(value, np.ndarray):
            yield from array_lines(f"{value.dtype}_t", f"{field}_{k}", value)


def arithmetic_fields(arithmetic: Arithmetic) -> dict[str, int | str]:
    """Return the fields of slfp_arithmetic in slfp.h."""
    return {
        "leak": f"SLFP_{arithmetic.leak.upper()}",
        "at_threshold": int(arithmetic.comparison == ">="),
        "smallest": arithmetic.smallest,
        "largest": arithmetic.largest,
        "wraps": int(arithmetic.overflow == "wrap"),
    }


def _packed(layer: Spiking) -> tuple[Array, int, int]:
    """Return the weights in words, see slfp.h, their bits, and the words of a row, 0 if rows are not padded."""
    weights = _by_input(layer).astype(np.int64)
    rows = weights.reshape(-1, weights.shape[-1])
    bits = next(bits for bits in (2, 4, 8) if np.abs(rows).max() < 2 ** (bits - 1))
    in_word = 32 // bits
    words = -(-rows.shape[1] // in_word)
    if words * in_word > 2 * rows.shape[1]:
        # padding would be most of it
        words, rows = 0, rows.reshape(1, -1)
    padded = np.zeros((len(rows), -(-rows.shape[1] // in_word) * in_word), np.int64)
    padded[:, : rows.shape[1]] = rows & 255 if bits == 8 else rows + 2 ** (bits - 1) - 1
    packed = (padded.reshape(-1, in_word) << np.arange(0, 32, bits)).sum(1)
    return np.append(packed, 0).astype(np.uint32), bits, words


# Return the weights by input, see slfp.h.
_by_input: ByLayer[Array] = ByLayer("the C runtime")


@_by_input.register(Dense)
def _(layer: Dense) -> Array:
    return layer.weight.T


@_by_input.register(Recurrent)
def _(layer: Recurrent) -> Array:
    return np.concatenate([layer.weight.T, layer.recurrent.T])


@_by_input.register(Conv)
def _(layer: Conv) -> Array:
    per_group, share = layer.weight.shape[1], layer.outputs // layer.groups
    return layer.weight.reshape(layer.groups, share, per_group, *layer.kernel).transpose(0, 2, 3, 4, 1)


def _fields(layer: Layer, sources: tuple[int, ...] | None, signal: Signal) -> dict[str, Field]:
    """Return the fields of a layer that hands on `signal`."""
    fields: dict[str, Field] = {"in": _shape(layer.in_shape), "out": _shape(layer.out_shape)}
    if isinstance(layer, Spiking):
        weight, bits, words = _packed(layer)
        fields |= {"weight": weight, "weight_bits": bits, "row_words": words, "bias": layer.bias, **_neuron(layer)}
    fields |= _geometry(layer, signal)
    if sources is not None:
        fields["sources"] = np.array(sources, np.uint32)
    if isinstance(layer, Add):
        fields["summands"] = len(layer.sources)
    if _further_bytes(signal):
        fields["further_bytes"] = _further_bytes(signal)
    return fields


def _neuron(layer: Spiking) -> dict[str, Field]:
    """Return the fields of the neurons of a layer, and their arithmetic if it is not the default of slfp.c."""
    neuron = layer.neuron
    fields: dict[str, Field] = {}
    if neuron.spiking:
        fields |= {"theta": neuron.theta, "reset": f"SLFP_{neuron.reset.upper()}"}
    fields |= {"decay": neuron.decay, "frac_bits": neuron.frac_bits}
    if type(neuron) is not IntegerLIF:
        own = [name for name in constraints(type(neuron)) if name not in constraints(IntegerLIF)]
        fields |= {"neuron": _neuron_name(type(neuron)), **{name: getattr(neuron, name) for name in own}}
    for name in neuron.differing_decays:
        del fields[name]
        fields[f"{name}s"] = getattr(neuron, name).astype(np.uint32)
    return fields if neuron.arithmetic == DEFAULT else {**fields, "arithmetic": neuron.arithmetic}


def _entry(k: int, layer: Layer, fields: dict[str, Field]) -> Iterator[str]:
    """Yield the lines of layer `k` in the table of layers."""
    yield "    {"
    yield f"        .name = {_string(layer.name)},"
    assert fields.keys() <= {*LAYER}
    for field in (field for field in LAYER if field in fields):
        value = fields[field]
        if isinstance(value, tuple):
            text = "{" + ", ".join(map(str, value)) + "}"
        elif isinstance(value, np.ndarray | Arithmetic):
            text = f"{'&' if isinstance(value, Arithmetic) else ''}{field}_{k}"
        else:
            text = str(value)
        yield f"        .{field} = {text},"
    yield "    },"


# Return the fields of a kind of layer.
_geometry: ByLayer[dict[str, Field]] = ByLayer("the C runtime")


@_geometry.register(Dense)
def _(layer: Dense, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_DENSE"}


@_geometry.register(Recurrent)
def _(layer: Recurrent, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_RECURRENT", "factor": layer.factor}


@_geometry.register(Conv)
def _(layer: Conv, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_CONV", "groups": layer.groups, **_window(layer)}


@_geometry.register(MaxPool)
def _(layer: MaxPool, signal: Signal) -> dict[str, Field]:
    kind = "SLFP_MAX_POOL" if signal.largest == 1 else "SLFP_LARGEST"
    return {"kind": kind, "kernel": (layer.kernel, layer.kernel), "stride": (layer.stride, layer.stride)}


@_geometry.register(SumPool)
def _(layer: SumPool, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_SUM_POOL", **_window(layer)}


@_geometry.register(Pad)
def _(layer: Pad, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_PAD", "kernel": (1, 1), "stride": (1, 1), "padding": layer.padding, "fill": layer.fill}


@_geometry.register(Add)
def _(layer: Add, signal: Signal) -> dict[str, Field]:
    return {"kind": "SLFP_ADD"}


def _window(layer: Conv | SumPool) -> dict[str, Field]:
    return {"kernel": layer.kernel, "stride": layer.stride, "padding": layer.padding}


def _golden_header(network: IntegerNetwork, golden: GoldenRun) -> str:
    """Return `golden.h`: inputs as bytes, spikes as bits, both sample by sample."""
    inputs = golden.inputs if network.encoder == "constant" else golden.inputs.swapaxes(0, 1)
    samples = len(inputs)
    steps = network.steps if network.encoder == "constant" else len(golden.inputs)
    layers = [layer for layer in network.layers if not isinstance(layer, Flatten)]
    arrays: list[str] = []
    table, membranes = ["NULL"] * len(layers), ["NULL"] * len(layers)
    for k, layer in enumerate(layers):
        if not isinstance(layer, Spiking):
            continue
        spikes = golden.spikes.get(layer.name)
        if spikes is None or spikes.shape != (steps, samples, *layer.out_shape):
            raise ExportError(f"layer {layer.name}: the golden run has no spikes of it, or they have another shape")
        flat = spikes.swapaxes(0, 1).reshape(-1)
        if layer.neuron.spiking:
            table[k] = f"golden_spikes_{k}"
            arrays += array_lines("uint8_t", table[k], np.packbits(flat, bitorder="little"))
        else:
            membranes[k] = f"golden_membranes_{k}"
            arrays += array_lines("int32_t", membranes[k], flat)
    lines = [
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f"#define GOLDEN_SAMPLES {samples}",
        f"#define GOLDEN_STEPS {steps}",
        "",
        "/* images [samples][inputs], or sequences and spikes [samples][steps][inputs] */",
        *array_lines("uint8_t", "golden_inputs", inputs),
        "/* bits [samples][steps][neurons], the lowest bit of a byte first; in the order (channel, row, column). Of a",
        "   layer that does not fire membranes in that order */",
        *arrays,
        f"static const uint8_t *const golden_spikes[{len(layers)}] = {{",
        *(f"    {entry}," for entry in table),
        "};",
        f"static const int32_t *const golden_membranes[{len(layers)}] = {{",
        *(f"    {entry}," for entry in membranes),
        "};",
    ]
    return _lines(
        "/* Written by spiking_lfp: a golden run, inputs and the spikes that every layer must have for them. */",
        *_guarded("golden", lines),
    )


def array_lines(kind: str, name: str, values: Array) -> Iterator[str]:
    """Yield the lines of an array in C."""
    flat = values.reshape(-1).tolist()
    yield f"static const {kind} {name}[{len(flat)}] = {{"
    for low in range(0, len(flat), LINE):
        yield "    " + ",".join(map(str, flat[low : low + LINE])) + ","
    yield "};"
    yield ""


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1)[:3]


def _string(text: str) -> str:
    """Return a C string literal; characters outside the basic set of C are escaped in octal."""
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.,:;+-*/=<>()[]{}!#%&|~^'")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def _lines(*lines: str) -> str:
    return "".join(line + "\n" for line in lines)
