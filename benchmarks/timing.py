"""Times of calls, side by side."""

import statistics
import time
from collections.abc import Callable


def medians_ms(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each call, one after the other in every round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(milliseconds) for name, milliseconds in times.items()}
