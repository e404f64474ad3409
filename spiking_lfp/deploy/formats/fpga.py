"""The core on FPGA boards: what fits on which, and the files of a project that makes a bitstream."""

import json
import zlib
from dataclasses import dataclass

from spiking_lfp.deploy.formats import verilog
from spiking_lfp.deploy.formats.verilog import MEMBRANE_BITS, Memories
from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError, unknown_name

SOURCES = ("slfp_board.v", "slfp_board_tb.v", "host.py", "fpga.mk")
# words that the signature of the board takes
MAX_LANES = 32
# of a count of spikes, at least
COUNT_BITS = 8


@dataclass(frozen=True)
class Board:
    """A board and the FPGA on it.

    Attributes:
        part: the FPGA.
        top: the file of its top level in hardware/fpga.
        constraints: suffix of its file of pins.
        blocks: of RAM.
        shapes: depth and width that a block may have.
        logic: cells with a look-up table of four inputs.
        lanes: to choose from, most first.
    """

    part: str
    top: str
    constraints: str
    blocks: int
    shapes: tuple[tuple[int, int], ...]
    logic: int
    lanes: tuple[int, ...]


# Lattice, iCE40 LP/HX (FPGA-DS-02029) and iCE40 UltraPlus (FPGA-DS-02008) Family Data Sheets
_ICE40 = (256, 16), (512, 8), (1024, 4), (2048, 2)
# Lattice, ECP5 and ECP5-5G Family Data Sheet, FPGA-DS-02012
_ECP5 = (512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)

BOARDS = {
    "icebreaker": Board("iCE40UP5K", "ice40.v", "pcf", 30, _ICE40, 5280, (4, 2, 1)),
    "hx8k-breakout": Board("iCE40HX8K", "ice40.v", "pcf", 32, _ICE40, 7680, (4, 2, 1)),
    "ulx3s-85f": Board("LFE5U-85F", "ecp5.v", "lpf", 208, _ECP5, 83640, (16, 8, 4, 2, 1)),
}


@dataclass(frozen=True)
class Ram:
    """A memory of the core.

    Attributes:
        name: for messages.
        width: of a word, in bits.
        depth: in words.
        count: how many there are.
    """

    name: str
    width: int
    depth: int
    count: int = 1

    @property
    def bits(self) -> int:
        """What it holds."""
        return self.width * self.depth * self.count

    def blocks(self, board: Board) -> int:
        """Return how many blocks of RAM it takes on a board."""
        each = min(-(-self.width // width) * -(-self.depth // depth) for depth, width in board.shapes)
        return self.count * each


def rams(network: IntegerNetwork, memories: Memories) -> list[Ram]:
    """Return the memories of the core on a board."""
    core = memories.core
    lanes = core.lanes
    pixels = [Ram("pixels", 8, core.pixel_words)] if core.analogue else []
    return [
        Ram("weights", lanes * core.weight_bits, core.weight_words),
        Ram("biases and thresholds", lanes * MEMBRANE_BITS, core.neuron_words, 2),
        Ram("membranes", MEMBRANE_BITS, core.membrane_words, lanes),
        Ram("accumulators", MEMBRANE_BITS, core.acc_words, lanes),
        Ram("spikes", lanes, core.spike_words),
        *pixels,
        Ram("tables", 32, core.table_words),
        Ram("tables", 2 * core.addr, core.channel_words),
        Ram("counts", lanes * _count_bits(network), _out_words(network, lanes)),
    ]


def check_board(board: str) -> None:
    """Raise a UsageError if the name of a board is not known."""
    if board not in BOARDS:
        raise unknown_name("board", board, BOARDS)


def fitting(network: IntegerNetwork, board: str, lanes: int | None = None) -> Memories:
    """Return the memories of a network for a board, with as many lanes as fit.

    Args:
        network: to run there.
        board: in `BOARDS`.
        lanes: neurons computed in parallel; None for the most that fit.

    Raises:
        ExportError: if it does not fit, with the numbers, or the core cannot run it.
        UsageError: for an unknown board.
    """
    check_board(board)
    if lanes is not None and lanes > MAX_LANES:
        raise ExportError(f"a board has 1..{MAX_LANES} lanes, not {lanes}")
    refused = ""
    for each in BOARDS[board].lanes if lanes is None else (lanes,):
        memories = verilog.layout(network, each)
        found = misfit(network, memories, board)
        if found is None:
            return memories
        refused = found
    raise ExportError(refused)


def misfit(network: IntegerNetwork, memories: Memories, board: str) -> str | None:
    """Return why the core does not fit on a board, or None."""
    part, lanes = BOARDS[board], memories.core.lanes
    needed: dict[str, list[int]] = {}
    for ram in rams(network, memories):
        bits, blocks = needed.get(ram.name, [0, 0])
        needed[ram.name] = [bits + ram.bits, blocks + ram.blocks(part)]
    total = sum(blocks for _, blocks in needed.values())
    if total > part.blocks:
        each = ", ".join(f"{name} {bits} bits in {blocks}" for name, (bits, blocks) in needed.items())
        return (
            f"the network with {lanes} lanes takes {total} blocks of RAM ({each}), {part.part} on {board} has "
            f"{part.blocks}: take {_advice(network, lanes, board)}"
        )
    return None


def _advice(network: IntegerNetwork, lanes: int, board: str) -> str:
    larger = [name for name, each in BOARDS.items() if each.logic > BOARDS[board].logic]
    bits = max(layer.bits for layer in network.spiking)
    ways = ["a smaller network"]
    ways += ["fewer bits"] if bits > 2 else []
    ways += ["fewer lanes"] if lanes > 1 else []
    ways += [f"the board {larger[-1]}"] if larger else []
    return " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))


def board_files(network: IntegerNetwork, memories: Memories, board: str) -> dict[str, bytes]:
    """Return the files that a project for a board has beside those of the core, by name."""
    folder, part = hardware_folder("fpga"), BOARDS[board]
    core, identity = memories.core, identity_of(memories)
    inputs = verilog.input_shape(network)
    words = [verilog.words_of(verilog.volume(layer.out_shape), core.lanes) for layer in network.spiking]
    defines = {
        "ID": f"32'h{identity:08x}",
        "IN_WORDS": verilog.input_words(network, core.lanes),
        "STEP_WORDS": sum(words),
        "OUT_WORDS": words[-1],
        "CLASSES": len(network.class_names),
        "COUNT_BITS": _count_bits(network),
    }
    told = {
        "id": identity,
        "constant": network.encoder == "constant",
        "levels": network.levels,
        "steps": network.steps,
        "shape": list(inputs),
        "lanes": core.lanes,
        "classes": list(network.class_names),
    }
    if network.golden is not None:
        told["golden_steps"], told["golden_samples"] = verilog.extent(network, network.golden)
    files = {name: (folder / name).read_bytes() for name in SOURCES}
    files["board.mk"] = (folder / f"{board}.mk").read_bytes()
    files["top.v"] = (folder / part.top).read_bytes()
    files[f"top.{part.constraints}"] = (folder / f"{board}.{part.constraints}").read_bytes()
    files["board.vh"] = "".join(f"`define SLFP_{name} {value}\n" for name, value in defines.items()).encode()
    files["network.json"] = (json.dumps(told, indent=1) + "\n").encode()
    return files


def identity_of(memories: Memories) -> int:
    """Return a number of 32 bits that tells networks apart."""
    found = zlib.crc32(memories.core.text().encode())
    for content in memories.files().values():
        found = zlib.crc32(content, found)
    return found


def _count_bits(network: IntegerNetwork) -> int:
    return max(COUNT_BITS, network.steps.bit_length())


def _out_words(network: IntegerNetwork, lanes: int) -> int:
    return max(2, -(-len(network.class_names) // lanes))
