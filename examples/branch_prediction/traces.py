"""Traces of conditional branches: what they hold and how they are stored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "traces"


class TraceError(Exception):
    """A trace cannot be recorded or read."""


@dataclass(frozen=True)
class Trace:
    """Conditional branches of one run of a program, in the order in which they were executed.

    Attributes:
        addresses: of the different branches, `[D]`.
        ids: which of them each executed branch was, `[N]`.
        taken: its outcome, `[N]`.
        instructions: executed while these branches were recorded, themselves included.
        command: the program and its arguments.
    """

    addresses: NDArray[np.uint64]
    ids: NDArray[np.uint16]
    taken: NDArray[np.bool_]
    instructions: int
    command: str


def save(path: Path, trace: Trace) -> None:
    """Write a trace, outcomes as bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        addresses=trace.addresses,
        ids=trace.ids,
        taken=np.packbits(trace.taken),
        instructions=np.int64(trace.instructions),
        command=np.array(trace.command),
    )


def load(path: Path) -> Trace:
    """Read a trace.

    Raises:
        TraceError: if the file is none, or what it holds does not fit together.
    """
    try:
        with np.load(path) as held:
            addresses, ids, bits = held["addresses"], held["ids"], held["taken"]
            taken = np.unpackbits(bits, count=len(ids)).astype(np.bool_)
            instructions, command = int(held["instructions"]), str(held["command"])
    except (OSError, ValueError, KeyError) as error:
        raise TraceError(f"{path} is no trace of record.py: {error}") from error
    if len(bits) != -(-len(ids) // 8) or (len(ids) and int(ids.max()) >= len(addresses)) or instructions < len(ids):
        raise TraceError(f"{path} is damaged: branches, addresses and instructions do not fit together")
    return Trace(addresses, ids, taken, instructions, command)


def stored(folder: Path = FOLDER) -> dict[str, Trace]:
    """Return all traces of a folder by name.

    Raises:
        TraceError: if there is none.
    """
    traces = {path.stem: load(path) for path in sorted(folder.glob("*.npz"))}
    if not traces:
        raise TraceError(f"no trace in {folder}: record some with record.py")
    return traces
