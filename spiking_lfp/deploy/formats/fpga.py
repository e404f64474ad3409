"""The core on FPGA boards: what fits on which, and the files of a project that makes a bitstream."""

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from spiking_lfp.deploy.formats import verilog
from spiking_lfp.deploy.formats.verilog import MEMBRANE_BITS, Memories
from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError, unknown_name

SOURCES = ("slfp_board.v", "slfp_board_tb.v", "host.py", "fpga.mk")
# words that the signature of the board takes
MAX_LANES = 32
# bits of a ROM that cost yosys as much as one of a RAM
ROM_BITS = 16
# cells of logic, about: of everything but the lanes, and of what only kernels, rows, columns and pooling need; of a
# lane, of its products, of each weight that it adds in a cycle after the first, of the product of a weight and a pixel,
# of a bit of addresses, of a bit of a memory that takes no blocks
CORE_LOGIC, KERNEL_LOGIC, LANE_LOGIC, PRODUCT_LOGIC, ADD_LOGIC = 1400, 800, 950, 400, 150
PIXEL_LOGIC, ADDRESS_LOGIC = 150, 40
MEMORY_LOGIC = 1.25
# share of a layer's inputs that spike in a step, to choose lanes and the weights that they add in a cycle
ACTIVE = 0.1
# how much of the logic place and route can fill
FILLED = 0.85
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
        block_cost: of a block in yosys, in bits of RAM made of logic.
        logic: cells with a look-up table of four inputs.
        multipliers: of 16 bits or more; None if products are made of logic.
        lanes: to choose from, most first.
        store: number, depth and width of memories that take weights only, and from the host; None without.
    """

    part: str
    top: str
    constraints: str
    blocks: int
    shapes: tuple[tuple[int, int], ...]
    block_cost: int
    logic: int
    multipliers: int | None
    lanes: tuple[int, ...]
    store: tuple[int, int, int] | None = None


# Lattice, iCE40 LP/HX (FPGA-DS-02029) and iCE40 UltraPlus (FPGA-DS-02008) Family Data Sheets
_ICE40 = (256, 16), (512, 8), (1024, 4), (2048, 2)
# Lattice, ECP5 and ECP5-5G Family Data Sheet, FPGA-DS-02012
_ECP5 = (512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)

BOARDS = {
    "icebreaker": Board("iCE40UP5K", "ice40.v", "pcf", 30, _ICE40, 64, 5280, 8, (4, 2, 1), (4, 16384, 16)),
    "hx8k-breakout": Board("iCE40HX8K", "ice40.v", "pcf", 32, _ICE40, 64, 7680, None, (4, 2, 1)),
    "ulx3s-85f": Board("LFE5U-85F", "ecp5.v", "lpf", 208, _ECP5, 128, 83640, 156, (16, 8, 4, 2, 1)),
}


@dataclass(frozen=True)
class Ram:
    """A memory of the core.

    Attributes:
        name: for messages.
        width: of a word, in bits.
        depth: in words.
        count: how many there are.
        rom: whether it is only read.
    """

    name: str
    width: int
    depth: int
    count: int = 1
    rom: bool = False

    @property
    def bits(self) -> int:
        """What it holds."""
        return self.width * self.depth * self.count

    def blocks(self, board: Board) -> int:
        """Return how many blocks of RAM it takes on a board, none if yosys takes logic, which costs less."""
        each = min(-(-self.width // width) * -(-self.depth // depth) for depth, width in board.shapes)
        logic = self.width * self.depth / (ROM_BITS if self.rom else 1)
        return 0 if logic < board.block_cost * each else self.count * each


def rams(network: IntegerNetwork, memories: Memories) -> list[Ram]:
    """Return the memories of the core on a board."""
    core = memories.core
    lanes, adds = core.lanes, core.adds
    if core.dense:
        inputs = Ram("inputs", core.addr + (max(8, lanes) if core.analogue else lanes), core.list_words)
    else:
        inputs = Ram("inputs", 8 * core.analogue, core.pixel_words)
    return [
        Ram("weights", lanes * adds * core.weight_bits, core.weight_words, rom=True),
        Ram("biases and thresholds", lanes * MEMBRANE_BITS, core.neuron_words, 2, rom=True),
        Ram("membranes", MEMBRANE_BITS, core.membrane_words, lanes),
        Ram("accumulators", MEMBRANE_BITS, core.acc_words, lanes * adds),
        Ram("spikes", lanes, core.spike_words),
        inputs,
        Ram("tables", 32 * verilog.FIELDS, core.table_words, rom=True),
        Ram("tables", 2 * core.addr, core.channel_words, rom=True),
        Ram("counts", lanes * _count_bits(network), _out_words(network, lanes)),
    ]


def check_board(board: str) -> None:
    """Raise a UsageError if the name of a board is not known."""
    if board not in BOARDS:
        raise unknown_name("board", board, BOARDS)


def write_board(network: IntegerNetwork, folder: str | Path, board: str, lanes: int | None = None) -> list[Path]:
    """Write the core as `write_verilog` does, with top level, pins and programs of a board; return the files.

    `make` makes a bitstream, see hardware/README.md.

    Args:
        network: to write.
        folder: made if missing.
        board: in `BOARDS`.
        lanes: neurons computed in parallel; None for what takes the fewest cycles of what fits.

    Raises:
        ExportError: if the network exceeds the limits of the core or does not fit on the board, or a file cannot be
            written.
        UsageError: for an unknown board.
    """
    network.check()
    memories = fitting(network, board, lanes)
    return verilog.write_core(network, folder, memories, board_files(network, memories, board))


def fitting(network: IntegerNetwork, board: str, lanes: int | None = None) -> Memories:
    """Return the memories of a network for a board, of the core with the fewest cycles of those that fit.

    Args:
        network: to run there.
        board: in `BOARDS`.
        lanes: neurons computed in parallel; None to choose them.

    Raises:
        ExportError: if it does not fit, with the numbers, or the core cannot run it.
        UsageError: for an unknown board.
    """
    check_board(board)
    if lanes is not None and lanes > MAX_LANES:
        raise ExportError(f"a board has 1..{MAX_LANES} lanes, not {lanes}")
    part = BOARDS[board]
    verilog.layout(network, 1 if lanes is None else lanes, 1)  # raises what no board changes
    choices = [
        (each, adds)
        for each in (part.lanes if lanes is None else (lanes,))
        for adds in verilog.helpful_adds(network, each)
    ]
    choices.sort(key=lambda choice: verilog.cycles(network, choice[0], choice[1], ACTIVE))
    # the smallest is tried last, whatever its logic is estimated to be
    last = min(choices)
    refused = ""
    for loaded in (0, 1) if part.store else (0,):
        for choice in [each for each in choices if each != last] + [last]:
            memories = verilog.layout(network, *choice)
            memories.core = replace(memories.core, loaded=loaded)
            found = misfit(network, memories, board)
            if found is None and (choice == last or logic(network, memories, board) <= part.logic * FILLED):
                return memories
            refused = found or refused
    raise ExportError(refused)


def misfit(network: IntegerNetwork, memories: Memories, board: str) -> str | None:
    """Return why the core does not fit on a board, or None."""
    part, lanes = BOARDS[board], memories.core.lanes
    products = lanes * (2 + memories.core.adds * memories.core.analogue)
    if part.multipliers is not None and products > part.multipliers:
        return (
            f"the network with {lanes} lanes takes {products} multipliers, {part.part} on {board} has "
            f"{part.multipliers}: take fewer lanes"
        )
    needed: dict[str, list[int]] = {}
    apart = stored = 0
    for ram in rams(network, memories):
        if ram.name == "weights" and memories.core.loaded and part.store:
            apart, depth, width = part.store
            stored = -(-ram.width // width) * -(-ram.depth // depth)
            continue
        bits, blocks = needed.get(ram.name, [0, 0])
        needed[ram.name] = [bits + ram.bits, blocks + ram.blocks(part)]
    total = sum(blocks for _, blocks in needed.values())
    if total <= part.blocks and stored <= apart:
        return None
    each = ", ".join(f"{name} {bits} bits in {blocks}" for name, (bits, blocks) in needed.items() if blocks)
    weights = f" and {stored} memories for weights" if apart else ""
    return (
        f"the network with {lanes} lane{'s' * (lanes > 1)} takes {total} blocks of RAM ({each}){weights}, "
        f"{part.part} on {board} has {part.blocks}{f' and {apart}' if apart else ''}: take "
        f"{_advice(network, memories, board)}"
    )


def logic(network: IntegerNetwork, memories: Memories, board: str) -> int:
    """Return about how many cells of logic the core takes, by what small networks took."""
    core, lane = memories.core, LANE_LOGIC + (memories.core.adds - 1) * ADD_LOGIC
    if BOARDS[board].multipliers is not None:
        lane -= PRODUCT_LOGIC
    elif core.analogue:
        lane += core.adds * PIXEL_LOGIC
    small = sum(ram.bits for ram in rams(network, memories) if not ram.rom and not ram.blocks(BOARDS[board]))
    base = CORE_LOGIC + (0 if core.dense else KERNEL_LOGIC) + int(MEMORY_LOGIC * small)
    return base + core.lanes * lane + (core.addr - 8) * ADDRESS_LOGIC


def _advice(network: IntegerNetwork, memories: Memories, board: str) -> str:
    """Return what might fit: larger boards only if the network fits there."""
    lanes = memories.core.lanes
    ways = ["a smaller network"]
    ways += ["fewer bits"] if memories.core.weight_bits > 2 else []
    ways += ["fewer lanes"] if lanes > 1 else []
    for name, part in BOARDS.items():
        if part.logic > BOARDS[board].logic and misfit(network, verilog.layout(network, lanes, 1), name) is None:
            ways.append(f"the board {name}")
    return " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))


def board_files(network: IntegerNetwork, memories: Memories, board: str) -> dict[str, bytes]:
    """Return the files that a project for a board has beside those of the core, by name."""
    part = BOARDS[board]
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
        "weight_bytes": -(-core.lanes * core.adds * core.weight_bits // 8) if core.loaded else 0,
        "classes": list(network.class_names),
    }
    if network.golden is not None:
        told["golden_steps"], told["golden_samples"] = verilog.extent(network, network.golden)
    named = {"board.mk": f"{board}.mk", "top.v": part.top, f"top.{part.constraints}": f"{board}.{part.constraints}"}
    files = {name: hardware_file("fpga", named.get(name, name)) for name in (*SOURCES, *named)}
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
