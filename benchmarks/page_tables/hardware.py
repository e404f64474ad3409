"""Networks in integers, and on what runs them."""

import json
import re
from collections.abc import Callable
from statistics import fmean
from typing import Any

from records import KEPT, read

from page_tables.common import markdown, mean, one, percent


def fpga() -> str:
    """Networks on FPGA boards: clock after place and route, what they take, and samples a second at that clock."""
    lines = []
    for line in read(KEPT / "fpga.jsonl"):
        row = [line["network"], str(line["bits"]), line["board"]]
        row += [f"{line['lanes']} x {line['adds']}" if "lanes" in line else str(line["lanes asked"] or "")]
        if line["fits"]:
            row += [f"{line['MHz']:.1f}"]
            row += [f"{line[name]:,}" for name in ("cells", "block RAM", "multipliers", "cycles")]
            row += [f"{line['MHz'] * 1e6 / line['cycles']:,.0f}", f"{line['bytes']:,}"]
        else:
            # what it takes, and what there is; without what each memory takes, and advice
            why = re.sub(r" \(.*?\)(?=,| and)", "", line["reason"]).split(": take")[0]
            why = why.replace("the network with", "with").replace(" takes", " it takes", 1)
            row += [f"does not fit: {why}", *[""] * 6]
        lines.append(row)
    return markdown(
        ["network", "bits", "board", "lanes x weights", "MHz", "cells", "block RAM", "multipliers", "cycles",
         "samples/s", "bitstream, bytes"], lines
    )  # fmt: skip


def integers() -> str:
    """Networks that were trained in real numbers, and the same in integers."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in read(KEPT / "integers.jsonl"):
        groups.setdefault((line["preset"], line["settings"]), []).append(line)
    bits = sorted({key for runs in groups.values() for run in runs for key in run["integers"]}, key=int, reverse=True)
    lines = [
        [
            f"`{preset}`{f', {settings}' if settings else ''}",
            str(len(runs)),
            mean([100 * run["real"] for run in runs], 2),
            *(mean([100 * run["integers"][each] for run in runs], 2) for each in bits),
        ]
        for (preset, settings), runs in groups.items()
    ]
    return markdown(["preset", "runs", "real numbers, %", *(f"{each} bits, %" for each in bits)], lines)


def in_the_loop() -> str:
    """Networks whose integers were in the training loop, beside others."""
    found = read(KEPT / "in-the-loop.jsonl")
    weights = list(dict.fromkeys(line["weights"] for line in found))
    lines = [
        [network, *(f"{percent(one(found, network=network, weights=each)['accuracy'], 2)} %" for each in weights)]
        for network in dict.fromkeys(line["network"] for line in found)
    ]
    return markdown(["network", *weights], lines)


def xylo() -> str:
    """Braille letters within the limits of Xylo."""
    found = json.loads((KEPT / "xylo.json").read_text())
    lines = []
    for name, title in (("real numbers", "real numbers"), ("xylo in the loop", "Xylo's arithmetic in the loop")):
        seeds = found[name]["seeds"].values()
        accuracies = [seed["test"] for seed in seeds]
        compared = [layer for seed in seeds for layer in seed.get("xylosim", ())]
        counts = [f"{sum(layer[what] for layer in compared):,}" for what in ("compared", "different")]
        values = " ".join(percent(each) for each in accuracies)
        lines.append([title, f"{values} %", f"{percent(fmean(accuracies))} %", *(counts if compared else ("", ""))])
    return markdown(["", "test accuracy", "mean", "spikes compared with XyloSim", "different"], lines)


def live() -> str:
    """Pages in which a network runs."""
    lines = []
    for line in {line["network"]: line for line in read(KEPT / "live.jsonl")}.values():
        name = f"`{line['network']}`, {line['sizes']}" if line["network"] else f"{line['sizes']}, random weights"
        size = f"{line['kB'] / 1000:.1f} MB" if line["kB"] >= 1000 else f"{line['kB']} kB"
        lines.append([name, str(line["T"]), size, f"{line['samples a second']:,}"])
    return markdown(["network", "T", "page", "samples a second"], lines)


def boards() -> str:
    """Networks on bare boards in qemu."""
    latest = {(line["network"], line["bits"], line["board"]): line for line in read(KEPT / "boards.jsonl")}
    lines = []
    for network, bits in dict.fromkeys(key[:2] for key in latest):
        first = latest[network, bits, "cortex-m4"]
        each = (latest[network, bits, board] for board in ("cortex-m4", "cortex-m0", "rv32"))
        name = network if network[0].isdigit() else f"`{network}`"
        sizes = (f"{first[what]:,}" for what in ("flash", "RAM"))
        lines.append([name, str(bits), *sizes, *(f"{line['instructions']:,}" for line in each)])
    return markdown(["network", "bits", "flash", "RAM", "Cortex-M4", "Cortex-M0", "RV32IMAC"], lines)


def cycles() -> str:
    """Cycles of the Verilog core."""
    lines = [
        [
            f"{line['network'] if line['network'][0].isdigit() else '`' + line['network'] + '`'}, T = {line['T']}",
            f"{line['cycles']:,}", "" if line["at least"] is None else f"{line['at least']:,}",
        ]
        for line in read(KEPT / "cycles.jsonl")
    ]  # fmt: skip
    return markdown(["network", "cycles", "at least"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "integers": integers, "in-the-loop": in_the_loop, "xylo": xylo, "live": live, "fpga": fpga, "boards": boards,
    "cycles": cycles,
}  # fmt: skip
