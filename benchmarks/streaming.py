"""Is a recording larger than memory read in constant memory, and how fast, alone and into a network?

Events are generated at a rate of a million a second, written block by block until the file has its size, and read by
`read_stream`, once to count them, and once by a network that keeps its states: frames of 1/8 of the sides, 5 steps a
window, two layers of neurons, on one thread. The memory of the process is that which Linux counts as resident, each
time a tenth of the file is over. Prints a table, and adds a line for each file and use to --output.

    python benchmarks/streaming.py --gigabytes 1 --formats evt3 npy
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from records import KEPT, add
from rich.console import Console
from rich.table import Table

from spiking_lfp import EventRecipe, Stateful, read_stream, reuse_freed_memory, stack, window_frames
from spiking_lfp.events.records import EVENT, EventArray, Sensor
from spiking_lfp.events.streams import Window

WIDTH, HEIGHT = 640, 480
SENSOR: Sensor = (2, HEIGHT, WIDTH)
RATE = 10**6
BLOCK_US = 10**6
MEGABYTE = 10**6
RECIPE = EventRecipe.model_validate({"steps": 5, "downsample": 8})
PAGE = resource.getpagesize()


def generated(seed: int = 0) -> Iterator[EventArray]:
    """Yield events without end, a second at a time: noise, and a bar that turns."""
    random = np.random.default_rng(seed)
    for second in count():
        events = np.zeros(RATE * BLOCK_US // 10**6, EVENT)
        t = np.sort(random.integers(0, BLOCK_US, len(events))) + second * BLOCK_US
        angle, along = t / 2e5, random.uniform(-1, 1, len(events)) * HEIGHT / 2
        noise = random.random(len(events)) < 0.3
        events["x"] = np.where(noise, random.integers(0, WIDTH, len(t)), WIDTH / 2 + along * np.cos(angle))
        events["y"] = np.where(noise, random.integers(0, HEIGHT, len(t)), HEIGHT / 2 + along * np.sin(angle))
        events["t"], events["p"] = t, random.integers(0, 2, len(t))
        yield events


def evt3_words(events: EventArray, high: int) -> tuple[NDArray[np.uint16], int]:
    """Return words of EVT 3.0: the time and the row where they change, and the column of each event."""
    t, x, y, p = (events[name].astype(np.int64) for name in "txyp")
    highs = t >> 12 & 0xFFF
    new_high = np.diff(highs, prepend=high) != 0
    new_time = new_high | (np.diff(t, prepend=-1) != 0)
    new_row = new_time | (np.diff(y, prepend=-1) != 0)
    words = np.stack([0x8000 | highs, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x], 1).astype(np.uint16)
    wanted = np.stack([new_high, new_time, new_row, np.ones_like(new_row)], 1)
    return words[wanted], int(highs[-1])


def write_evt3(path: Path, size: int) -> int:
    """Write a file of about this size, and return how many events it has."""
    written, high = 0, -1
    with path.open("wb") as file:
        file.write(f"% camera_integrator_name none\n% evt 3.0\n% geometry {WIDTH}x{HEIGHT}\n% end\n".encode())
        for events in generated():
            words, high = evt3_words(events, high)
            file.write(words.tobytes())
            written += len(events)
            if file.tell() >= size:
                return written
    raise AssertionError("events have no end")


def write_npy(path: Path, size: int) -> int:
    """As `write_evt3`, for an array with fields."""
    total = -(-size // (EVENT.itemsize * RATE)) * RATE
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(EVENT), "fortran_order": False, "shape": (total,)}
        )
        for _, events in zip(range(total // RATE), generated(), strict=False):
            file.write(events.tobytes())
    return total


FORMATS: dict[str, tuple[str, Callable[[Path, int], int]]] = {
    "evt3": ("a.raw", write_evt3),
    "npy": ("a.npy", write_npy),
}


def resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / MEGABYTE


def watch(network: Stateful) -> Callable[[Window], object]:
    """Return what gives a window to the network."""

    def call(window: Window) -> object:
        return network(torch.from_numpy(window_frames(window, RECIPE)).float().unsqueeze(1))

    return call


def measure(path: Path, events: int, window_ms: float, use: Callable[[Window], object]) -> dict[str, Any]:
    """Return rates and memory while a file is read."""
    memory: list[float] = []
    seen, windows = 0, 0
    started, used = time.perf_counter(), time.process_time()
    for window in read_stream(path, window_ms, SENSOR):
        use(window)
        seen += len(window.events)
        windows += 1
        if seen * 10 >= events * (len(memory) + 1):
            memory.append(resident())
    seconds, used = time.perf_counter() - started, time.process_time() - used
    assert seen == events, (seen, events)
    return {
        "windows": windows, "window_ms": window_ms,
        "events_per_second": round(events / seconds), "events_per_cpu_second": round(events / used),
        "mb_after_each_tenth": [round(each, 1) for each in memory],
    }  # fmt: skip


def main() -> None:
    """Write and read files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of each file, 10^9 bytes")
    parser.add_argument("--window-ms", type=float, default=10.0)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--folder", type=Path, default=None, help="where files are written, and removed again")
    parser.add_argument("--output", type=Path, default=KEPT / "streaming.jsonl")
    arguments = parser.parse_args()
    reuse_freed_memory()
    torch.set_num_threads(1)  # single steps of one sample are too short to share out
    torch.manual_seed(0)
    height, width = (-(-side // RECIPE.downsample) for side in (HEIGHT, WIDTH))
    network = Stateful(stack((2, height, width), 10, "256-128R", threshold=0.3).eval())
    table = Table("file", "GB", "million events", "into", "windows", "M/s", "M/s of CPU time", "MB after each tenth")
    uses: dict[str, Callable[[Window], Any]] = {"nothing": lambda window: None, "the network": watch(network)}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.formats:
            file_name, write = FORMATS[name]
            path = Path(folder) / file_name
            # what writing needs is no memory of this process
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                events = pool.submit(write, path, int(arguments.gigabytes * 1e9)).result()
            size = path.stat().st_size
            for into, use in uses.items():
                network.reset()
                # kernels are loaded
                for _, window in zip(range(2), read_stream(path, arguments.window_ms, SENSOR), strict=False):
                    use(window)
                network.reset()
                line = {"file": name, "bytes": size, "events": events, "into": into}
                line |= measure(path, events, arguments.window_ms, use)
                add(arguments.output, line, 1)
                table.add_row(
                    name, f"{size / 1e9:.2f}", f"{events / 1e6:.0f}", into, f"{line['windows']:,}",
                    f"{line['events_per_second'] / 1e6:.1f}", f"{line['events_per_cpu_second'] / 1e6:.1f}",
                    " ".join(f"{each:.0f}" for each in line["mb_after_each_tenth"]),
                )  # fmt: skip
            path.unlink()
    console = Console(width=170)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
    console.print(f"the largest memory of the process was {peak:.0f} MB")


if __name__ == "__main__":
    main()
