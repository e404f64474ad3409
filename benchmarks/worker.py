"""Times one method in its own process: reads numbers N, answers each with the milliseconds of N training steps.

Started by `steps.py`, never by hand. The first answer is the peak memory of three steps in MB, above what the process
held before the first one.
"""

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import torch
from methods import METHODS, digits, module_at


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Serve one method, network and T; `chunk` is 0 where a method takes all steps at once."""
    method, network, steps, batch, threads, reuse, chunk = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:8])
    options = {"chunk": chunk} if chunk else {}
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images, labels = digits(batch)
    # whatever is compiled, allocated or imported once must not count
    for _ in range(2):
        METHODS[method](network, 2, **options).step(images[:2], labels[:2])
    step = METHODS[method](network, steps, **options).step
    # nor must what the allocator still holds of it hide a part of the peak
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        step(images, labels)
    print(json.dumps(_resident("VmHWM") - before), flush=True)
    if reuse:
        module_at("kernels/memory.py").reuse_freed_memory()
    for line in sys.stdin:
        step(images, labels)  # caches and threads have been with the others since the last turn
        times = []
        for _ in range(int(line)):
            started = time.perf_counter()
            step(images, labels)
            times.append((time.perf_counter() - started) * 1000)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
