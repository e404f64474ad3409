"""A folder with the Verilog core, the memories of one network, and a Makefile that simulates and synthesises it.

The core computes on words of `lanes` channels. Inputs, spikes and membranes are in the order rows, columns, channels,
with the channels of a pixel padded to whole words; so a dense layer after a flatten is a convolution whose kernel is as
large as its input. `layout` makes the memories of a network; hardware/README.md describes every word.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.layers import (
    Array,
    ByLayer,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Shape,
    Spiking,
    unsupported_neurons,
)
from spiking_lfp.deploy.model import GoldenRun, IntegerNetwork
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers.arithmetic import DECAY_ONE, DEFAULT, INTEGER_RESETS

LANES = range(1, 65)
# to choose from: more help where layers have more outputs than `lanes`
ADDS = (4, 2, 1)
# fields of 32 bits in a word of the table
FIELDS = 4
MAX_WORDS = 2**24
MAX_SIDE = 2**16 - 1
MAX_KERNEL = 255
MAX_LAYERS = 255
MAX_STEPS = 2**16 - 1
# also the width of accumulators, biases and thresholds
MEMBRANE_BITS = DEFAULT.membrane_bits

SOURCES = (
    "slfp_core.v", "slfp_scan.v", "slfp_taps.v", "slfp_lif.v", "slfp_pool.v", "slfp_ram.v", "slfp_rom.v",
    "slfp_store.v",
)  # fmt: skip
TESTBENCHES = ("slfp_tb.v", "slfp_main.cpp")
# what only some exports have, and make or host.py would take from the one before
OPTIONAL = ("inputs.hex", "golden.hex", "board.mk", "board.vh", "network.json")


@dataclass(frozen=True)
class Core:
    """The parameters of the core, by their names in `parameters.vh` in lower case.

    Attributes:
        lanes: neurons computed in parallel.
        adds: weights that each lane adds in a cycle.
        weight_bits: width of a weight in memory.
        analogue: 1 with pixels as inputs, and a multiplier per weight of a cycle.
        dense: 1 if all layers are dense, so that the core needs neither kernels nor pooling, and lists inputs.
        addr: width of an address.
        dim: width of a height, a width and a number of channels.
        table_words: depth of the layer table in words; so also the other memories.
        loaded: 1 if the host writes the weights, into RAM.
    """

    lanes: int
    adds: int
    weight_bits: int
    analogue: int
    dense: int
    addr: int
    dim: int
    table_words: int
    weight_words: int
    channel_words: int
    neuron_words: int
    membrane_words: int
    acc_words: int
    spike_words: int
    pixel_words: int
    list_words: int
    loaded: int = 0

    def text(self) -> str:
        """Return `parameters.vh`."""
        return "".join(f"`define SLFP_{item.name.upper()} {getattr(self, item.name)}\n" for item in fields(self))


@dataclass
class Memories:
    """Contents of the memories of the core.

    Attributes:
        core: the smallest core that holds them.
        table: the layer table, fields of 32 bits.
        weights: int8 `[spans, adds * lanes]`.
        channels: int64 `[channels, 2]`: address of the first weights of an input channel, and index of the first span
            of output channels that it reaches.
        biases: int64 `[words, lanes]`, shifted by the fraction bits.
        thetas: int64 `[words, lanes]`, likewise.
    """

    core: Core
    table: list[int]
    weights: Array
    channels: Array
    biases: Array
    thetas: Array

    def files(self, core: Core | None = None) -> dict[str, bytes]:
        """Return the memories as hexadecimal files for `core`, which may be larger than needed, by name."""
        core = core or self.core
        return {
            "table.hex": hex_lines(_bits(np.array(self.table, np.int64).reshape(-1, FIELDS), 32)),
            "weights.hex": hex_lines(_bits(self.weights.view(np.uint8), core.weight_bits)),
            "channels.hex": hex_lines(_bits(self.channels, core.addr)),
            "biases.hex": hex_lines(_bits(self.biases, MEMBRANE_BITS)),
            "thetas.hex": hex_lines(_bits(self.thetas, MEMBRANE_BITS)),
        }


def unsupported(network: IntegerNetwork) -> str | None:
    """Return what in `network` exceeds the limits of the core, with the number, or None."""
    reason = _window.unsupported(working(network))
    if reason is not None:
        return reason
    if network.encoder == "sequence":
        return f"inputs 0..{network.levels} of every step: the core takes spikes, or the same pixels in every step"
    if network.encoder == "constant" and isinstance(working(network)[0], MaxPool):
        return f"layer {network.layers[0].name}: the core cannot pool constant inputs"
    if len(working(network)) > MAX_LAYERS:
        return f"{len(working(network))} layers, the core holds {MAX_LAYERS}"
    if network.steps > MAX_STEPS:
        return f"{network.steps} steps, the core counts to {MAX_STEPS}"
    for spiking in network.spiking:
        reason = unsupported_neurons(spiking, "the Verilog core")
        if reason is not None:
            return reason
    for layer, shape, kernel, stride, padding, _ in _geometry(network):
        side = max(*shape, *layer.out_shape, *(side + 2 * pad for side, pad in zip(shape[1:], padding, strict=True)))
        if side > MAX_SIDE:
            return f"layer {layer.name}: a height, width or number of channels is {side}, the core counts to {MAX_SIDE}"
        if max(*kernel, *stride, *padding) > MAX_KERNEL:
            largest = max(*kernel, *stride, *padding)
            return f"layer {layer.name}: kernel, stride or padding is {largest}, the core holds {MAX_KERNEL}"
    words = sum(layer.weights for layer in network.spiking)
    if words > MAX_WORDS:
        return f"{words} weights, the core addresses {MAX_WORDS}"
    return None


def layout(network: IntegerNetwork, lanes: int = 8, adds: int | None = None) -> Memories:
    """Return the memories of the core for a network.

    Args:
        network: for which `unsupported` returns None.
        lanes: neurons computed in parallel, 1..64.
        adds: weights that each lane adds in a cycle; None for the most of `ADDS` that help.

    Raises:
        ExportError: for what the core cannot hold.
    """
    if lanes not in LANES:
        raise ExportError(f"the core has {LANES.start}..{LANES.stop - 1} lanes, not {lanes}")
    reason = unsupported(network)
    if reason is not None:
        raise ExportError(reason)
    constant = network.encoder == "constant"
    if adds is None:
        adds = helpful_adds(network, lanes)[0]
    builder = _MemoryBuilder(lanes, adds)
    inputs = input_shape(network)
    dense = all(isinstance(layer, Dense) for layer in working(network))
    spike_words = 0 if constant or dense else words_of(inputs, lanes)
    # the sums of an image are kept for all steps, so they have accumulators of their own
    first = network.spiking[0]
    acc_base = words_of(volume(first.out_shape), lanes * adds) if constant else 0
    acc_words, membrane_words, in_base, sides = acc_base, 0, 0, [MAX_KERNEL]
    for index, (layer, shape, kernel, stride, padding, weight) in enumerate(_geometry(network)):
        channels, height, width = shape
        out_channels, out_height, out_width = volume(layer.out_shape)
        in_blocks, blocks = -(-channels // lanes), -(-out_channels // lanes)
        words = out_height * out_width * blocks
        spans = -(-out_channels // (lanes * adds))
        sides += [*shape, *(side + 2 * pad for side, pad in zip(shape[1:], padding, strict=True))]
        sides += [out_channels, out_height, out_width]
        analogue = constant and index == 0
        # fields that a pooling layer leaves at 0
        kept = mem_base = my_acc = neuron_base = chan_base = ry = qy = rx = qx = flags = 0
        if weight is None:
            reach, pitch = in_blocks, width * in_blocks
            flags = 1
        else:
            assert isinstance(layer, Spiking)
            groups = layer.groups if isinstance(layer, Conv) else 1
            neuron_base, chan_base = len(builder.biases), len(builder.channels)
            reach = builder.add(layer, weight, groups)
            pitch = kernel[1] * reach
            mem_base, membrane_words = membrane_words, membrane_words + words
            my_acc = 0 if analogue else acc_base
            acc_words = max(acc_words, my_acc + out_height * out_width * spans)
            kept = DECAY_ONE - layer.neuron.decay
            flags = analogue << 1 | INTEGER_RESETS.index(layer.neuron.reset) << 2 | layer.neuron.frac_bits << 4
            (qy, ry), (qx, rx) = (divmod(pad, step) for pad, step in zip(padding, stride, strict=True))
        builder.table += [
            kept << 7 | flags,
            height - 1 << 16 | width - 1,
            (channels if analogue else in_blocks) - 1,
            in_base,

            chan_base,
            kernel[0] << 24 | kernel[1] << 16 | stride[0] << 8 | stride[1],
            ry << 24 | qy << 16 | rx << 8 | qx,
            ry * pitch,

            rx * reach,
            qy * out_width * spans,
            qx * spans,
            pitch,

            reach,
            stride[0] * pitch,
            stride[1] * reach,
            out_width * spans,

            out_height << 16 | out_width,
            spans,
            my_acc,
            blocks - 1,

            spike_words,
            spike_words + words - 1,
            mem_base,
            neuron_base,
        ]  # fmt: skip
        in_base, spike_words = spike_words, spike_words + words
    outputs = [words_of(volume(layer.out_shape), lanes) for layer in network.spiking]
    header = [len(working(network)) - 1 | constant << 8, acc_words, 0, 0]
    return builder.memories(
        header, constant, dense, max(layer.bits for layer in network.spiking), max(sides),
        {
            "membrane_words": membrane_words,
            "acc_words": acc_words,
            "spike_words": spike_words,
            "pixel_words": int(np.prod(inputs)) if constant and not dense else 0,
            "list_words": max(input_words(network, lanes), *outputs) if dense else 0,
        },
    )  # fmt: skip


def helpful_adds(network: IntegerNetwork, lanes: int) -> list[int]:
    """Return those of `ADDS` with which a pixel of some layer takes fewer spans than with the next, most first."""
    outputs = [volume(layer.out_shape)[0] for layer in network.spiking]
    spans = [[-(-count // (lanes * adds)) for count in outputs] for adds in ADDS]
    return [adds for adds, mine, next_ in zip(ADDS, spans, spans[1:], strict=False) if mine != next_] + [1]


def cycles(network: IntegerNetwork, lanes: int, adds: int, active: float) -> float:
    """Return the fewest cycles of a step in which a share `active` of the inputs of each layer are events."""
    found = 0.0
    for layer, shape, kernel, stride, _, weight in _geometry(network):
        channels, height, width = volume(layer.out_shape)
        if weight is not None:
            reached = kernel[0] * kernel[1] / (stride[0] * stride[1])
            found += active * float(np.prod(shape)) * reached * -(-channels // (lanes * adds))
            found += height * width * -(-channels // lanes)
    return found


def input_words(network: IntegerNetwork, lanes: int) -> int:
    """Return how many words the host writes for an image, or for one step of input spikes."""
    shape = input_shape(network)
    return int(np.prod(shape)) if network.encoder == "constant" else words_of(shape, lanes)


def input_lines(network: IntegerNetwork, inputs: Array, lanes: int) -> bytes:
    """Return inputs, as `simulate` takes them, as `inputs.hex`: sample by sample, step by step."""
    channels, height, width = input_shape(network)
    if network.encoder == "constant":
        pixels = inputs.astype(np.uint8).reshape(-1, channels, height * width).transpose(0, 2, 1)
        return hex_lines(_bits(pixels.reshape(-1, 1), 8))
    steps, samples = inputs.shape[:2]
    each = inputs.reshape(steps, samples, channels, height, width).swapaxes(0, 1)
    return hex_lines(_spike_words(each.reshape(-1, channels, height, width), lanes).reshape(-1, lanes))


def spike_lines(network: IntegerNetwork, spikes: dict[str, Array], lanes: int) -> bytes:
    """Return the spikes of all layers, uint8 `[T, N, *out_shape]` by name, as the testbench writes them."""
    found = []
    for layer in network.spiking:
        value = spikes[layer.name]
        steps, samples = value.shape[:2]
        each = value.reshape(-1, *volume(layer.out_shape))
        found.append(_spike_words(each, lanes).reshape(steps, samples, -1, lanes).swapaxes(0, 1))
    return hex_lines(np.concatenate(found, 2).reshape(-1, lanes))


def read_spikes(network: IntegerNetwork, lines: bytes, steps: int, samples: int, lanes: int) -> dict[str, Array]:
    """Return the spikes that the testbench wrote, uint8 `[T, N, *out_shape]` by layer.

    Raises:
        ExportError: if there are more or fewer than expected, or a digit is not hexadecimal.
    """
    shapes = {layer.name: volume(layer.out_shape) for layer in network.spiking}
    words = [words_of(shape, lanes) for shape in shapes.values()]
    digits = -(-lanes // 4)
    expected = samples * steps * sum(words) * (digits + 1)
    if len(lines) != expected:
        raise ExportError(f"the Verilog core wrote {len(lines)} bytes of spikes, expected {expected}")
    table = np.full(256, 255, np.uint8)
    table[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
    nibbles = table[np.frombuffer(lines, np.uint8).reshape(-1, digits + 1)[:, -2::-1]]
    if (nibbles > 15).any():
        raise ExportError("the Verilog core wrote spikes that are neither 0 nor 1")
    bits = np.unpackbits(nibbles, axis=1, bitorder="little").reshape(-1, digits, 8)[:, :, :4].reshape(len(nibbles), -1)
    each = bits[:, :lanes].reshape(samples, steps, -1, lanes)
    spikes, low = {}, 0
    for layer, count in zip(network.spiking, words, strict=True):
        channels, height, width = shapes[layer.name]
        mine = each[:, :, low : low + count].reshape(samples, steps, height, width, -1)[..., :channels]
        spikes[layer.name] = np.ascontiguousarray(
            mine.transpose(1, 0, 4, 2, 3).reshape(steps, samples, *layer.out_shape)
        )
        low += count
    return spikes


def write_verilog(network: IntegerNetwork, folder: str | Path, lanes: int = 8, adds: int | None = None) -> list[Path]:
    """Write the core, the network's memories, its golden run and a Makefile; return the files.

    `make icarus` and `make verilator` simulate the golden run and fail if a spike differs; `make synth` counts LUTs,
    flip-flops and block RAMs with yosys. All files are written, or none.

    Args:
        network: to write.
        folder: made if missing.
        lanes: neurons computed in parallel, 1..64.
        adds: weights that each lane adds in a cycle; None for the most of `ADDS` that help.

    Raises:
        ExportError: if the network exceeds the limits of the core, or a file cannot be written.
    """
    network.check()
    return write_core(network, folder, layout(network, lanes, adds), {})


def write_core(
    network: IntegerNetwork, folder: str | Path, memories: Memories, board: Mapping[str, bytes]
) -> list[Path]:
    """Write what `write_verilog` does, for these memories, and the files of a board if there is one."""
    folder, lanes = Path(folder), memories.core.lanes
    files = {**memories.files(), "parameters.vh": memories.core.text().encode()}
    golden, steps, samples = network.golden, network.steps, 0
    if golden is not None:
        steps, samples = extent(network, golden)
        files["inputs.hex"] = input_lines(network, golden.inputs, lanes)
        files["golden.hex"] = spike_lines(network, golden.spikes, lanes)
    files["Makefile"] = _MAKEFILE.format(
        sources=" ".join(SOURCES), samples=samples, steps=steps, words=input_words(network, lanes), lanes=lanes
    ).encode()
    files |= {name: hardware_file("rtl", name) for name in (*SOURCES, *TESTBENCHES)} | dict(board)
    return EXPORTS.write_all(folder, files, OPTIONAL)


def hex_lines(bits: Array) -> bytes:
    """Return rows of bits, uint8 `[words, width]`, lowest first, as lines of hexadecimal digits, highest first."""
    digits = -(-bits.shape[1] // 4)
    packed = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
    text = np.frombuffer(packed.tobytes().hex().encode(), np.uint8).reshape(len(bits), -1)
    lines = np.full((len(bits), digits + 1), ord("\n"), np.uint8)
    lines[:, :-1] = text[:, text.shape[1] - digits :]
    return lines.tobytes()


@dataclass
class _MemoryBuilder:
    """Collects the memories, layer by layer."""

    lanes: int
    adds: int
    table: list[int] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    weight_words: int = 0
    channels: list[tuple[int, int]] = field(default_factory=list)
    biases: list[Array] = field(default_factory=list)
    thetas: list[Array] = field(default_factory=list)

    def add(self, layer: Spiking, weight: Array, groups: int) -> int:
        """Add weights `[O, C / groups, kH, kW]` and neurons; return how many spans a kernel position takes."""
        lanes, span, outputs = self.lanes, self.lanes * self.adds, len(weight)
        share, per = outputs // groups, weight.shape[1]
        lows = [group * share for group in range(groups)]
        reach = max((low + share - 1) // span - low // span + 1 for low in lows)
        words = np.zeros((groups * per, *weight.shape[2:], reach * span), np.int8)
        size = int(np.prod(weight.shape[2:])) * reach
        for group, low in enumerate(lows):
            first = min(low // span, -(-outputs // span) - reach)
            into = slice(low - first * span, low - first * span + share)
            for channel in range(per):
                self.channels.append((first, self.weight_words + (group * per + channel) * size))
            # [share, per, kH, kW] to [per, kH, kW, share]
            words[group * per : (group + 1) * per, ..., into] = weight[low : low + share].transpose(1, 2, 3, 0)
        self.weights.append(words.reshape(-1, span))
        self.weight_words += len(self.weights[-1])
        # an unused lane never spikes: its sum is 0, which is not greater than its threshold 0
        blocks = -(-outputs // lanes)
        padded = np.zeros((2, blocks * lanes), np.int64)
        thetas = layer.neuron.theta.astype(np.int64) << layer.neuron.frac_bits
        padded[0, :outputs] = layer.bias.astype(np.int64) << layer.neuron.frac_bits
        padded[1, :outputs] = thetas
        self.biases += list(padded[0].reshape(blocks, lanes))
        self.thetas += list(padded[1].reshape(blocks, lanes))
        return reach

    def memories(
        self, header: list[int], constant: bool, dense: bool, bits: int, side: int, words: dict[str, int]
    ) -> Memories:
        """Return the finished memories, with the smallest core that holds them."""
        weights = np.concatenate(self.weights)
        depths = {
            "table_words": (len(header) + len(self.table)) // FIELDS,
            "weight_words": len(weights),
            "channel_words": len(self.channels),
            "neuron_words": len(self.biases),
        } | words
        # memories have at least two words, and an address can be one past their end
        depths = {name: max(2, depth) for name, depth in depths.items()}
        addr = max(8, max(depths.values()).bit_length())
        core = Core(self.lanes, self.adds, bits, int(constant), int(dense), addr, max(8, side.bit_length()), **depths)
        # in the low bits of a word is the address of weights, then that of accumulators
        channels = np.array(self.channels, np.int64)[:, ::-1]
        # addresses that no tap uses may be beyond the memory: the core computes modulo 2^addr
        table = [value & (2**32 - 1) for value in header + self.table]
        return Memories(core, table, weights, channels, np.array(self.biases), np.array(self.thetas))


def _bits(values: Array, width: int) -> Array:
    """Return integers `[words, parts]` as bits, lowest first, uint8 `[words, parts * width]`."""
    places = np.arange(width, dtype=values.dtype)
    bits: Array = ((values[..., None] >> places) & 1).astype(np.uint8).reshape(len(values), -1)
    return bits


def _spike_words(spikes: Array, lanes: int) -> Array:
    """Return spikes `[n, C, H, W]` as words of channels, uint8 `[n, H * W * blocks, lanes]`."""
    count, channels, height, width = spikes.shape
    blocks = -(-channels // lanes)
    words = np.zeros((count, height, width, blocks * lanes), np.uint8)
    words[..., :channels] = spikes.transpose(0, 2, 3, 1)
    return words.reshape(count, -1, lanes)


def working(network: IntegerNetwork) -> Sequence[Layer]:
    """Return the layers that the core has to run."""
    return [layer for layer in network.layers if not isinstance(layer, Flatten)]


def volume(shape: Shape) -> tuple[int, int, int]:
    """Return a shape as (C, H, W)."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return int(np.prod(shape)), 1, 1


def input_shape(network: IntegerNetwork) -> tuple[int, int, int]:
    """Return the shape of inputs in the core: if they are flattened first, they have one row and one column."""
    return volume(working(network)[0].in_shape)


def words_of(shape: tuple[int, int, int], lanes: int) -> int:
    """Return how many words the channels of (C, H, W) take."""
    return -(-shape[0] // lanes) * shape[1] * shape[2]


_Pair = tuple[int, int]
_Volume = tuple[int, int, int]
# kernel, stride, padding, weights `[O, C, kH, kW]`
_Window = tuple[_Pair, _Pair, _Pair, Array | None]


def _geometry(network: IntegerNetwork) -> Iterator[tuple[Layer, _Volume, _Pair, _Pair, _Pair, Array | None]]:
    """Yield each layer as a convolution: itself, input (C, H, W), and its window."""
    shape = input_shape(network)
    for layer in working(network):
        yield layer, shape, *_window(layer, shape)
        shape = volume(layer.out_shape)


# Return a layer as a convolution of inputs (C, H, W), as the core computes it.
_window: ByLayer[_Window] = ByLayer("the Verilog core")


@_window.register(MaxPool)
def _(layer: MaxPool, shape: _Volume) -> _Window:
    return (layer.kernel, layer.kernel), (layer.stride, layer.stride), (0, 0), None


@_window.register(Conv)
def _(layer: Conv, shape: _Volume) -> _Window:
    return layer.kernel, layer.stride, layer.padding, layer.weight


@_window.register(Dense)
def _(layer: Dense, shape: _Volume) -> _Window:
    # with a stride as large as the kernel each input has one position in it, and the core tries no other
    sides = shape[1], shape[2]
    return sides, sides, (0, 0), layer.weight.reshape(layer.outputs, *shape)


def extent(network: IntegerNetwork, golden: GoldenRun) -> tuple[int, int]:
    """Return steps and samples of a golden run."""
    steps, samples = golden.spikes[network.spiking[0].name].shape[:2]
    return steps, samples


_MAKEFILE = """\
# make icarus | verilator | synth; each simulation compares its spikes with golden.hex
SOURCES = {sources}
MEMORIES = parameters.vh table.hex weights.hex channels.hex biases.hex thetas.hex
SAMPLES ?= {samples}
STEPS ?= {steps}
WORDS = {words}
SYNTH ?= synth_ice40 -dsp
ARGUMENTS = +samples=$(SAMPLES) +steps=$(STEPS) +words=$(WORDS)
CHECK = $(if $(wildcard golden.hex),cmp spikes.hex golden.hex && echo "all spikes are equal to those of the golden run")

.PHONY: icarus verilator synth clean

# spikes of a simulation before are not compared in the place of those of one that ends early
icarus: slfp_tb.vvp
\t@rm -f spikes.hex
\tvvp -n slfp_tb.vvp $(ARGUMENTS)
\t@$(CHECK)

slfp_tb.vvp: slfp_tb.v $(SOURCES) $(MEMORIES)
\tiverilog -g2005 -Wall -I. -o $@ slfp_tb.v $(SOURCES)

verilator: obj_dir/Vslfp_core
\t@rm -f spikes.hex
\t./obj_dir/Vslfp_core $(ARGUMENTS)
\t@$(CHECK)

obj_dir/Vslfp_core: slfp_main.cpp $(SOURCES) parameters.vh
\tverilator --cc --exe --build -Wall -O3 --x-assign fast --x-initial fast -I. -GLOADED=0 -CFLAGS -DSLFP_LANES={lanes} \\
\t-MAKEFLAGS OPT_FAST=-O2 --top-module slfp_core slfp_main.cpp $(SOURCES)

synth: $(SOURCES) $(MEMORIES)
\tyosys -q -p "read_verilog -defer -I. $(SOURCES); $(SYNTH) -top slfp_core; \\
\ttee -o resources.json stat -json; tee -o resources.txt stat"
\tcat resources.txt

# written for a board
-include board.mk
ifdef BOARD
include fpga.mk
endif

clean:
\trm -rf obj_dir obj_board slfp_tb.vvp spikes.hex cycles.txt resources.json resources.txt settings top.json top.asc \\
\ttop.config top.bin top.bit place.json *.log *.vvp netlist.v routed.v routed.asc
"""
