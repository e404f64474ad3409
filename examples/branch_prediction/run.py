"""Let every predictor run over every trace: mispredictions per thousand instructions, and latency in parallel steps.

python examples/branch_prediction/run.py [--kib 1 4 8] [--folder FOLDER]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from predictors import Gshare, MonoNet, Perceptron, Predictor
from rich.console import Console
from rich.table import Table
from traces import FOLDER, Trace, TraceError, stored

HISTORIES = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)


def candidates(budget: int) -> dict[str, list[Predictor]]:
    """Return the settings that fit into a budget, a power of two of bits; of each kind `best` takes one.

    The two tables of counters fill the budget, so gshare's history comes on top of it; the others' is inside.
    """
    width = budget.bit_length() - 1
    return {
        "bimodal": [Gshare(width - 1)],
        "gshare": [Gshare(width - 1, history) for history in range(1, width)],
        "perceptron": [Perceptron((budget - history) // (8 * (history + 1)), history) for history in HISTORIES],
        "mono-net": [MonoNet(width - 6, width - 9)],
    }


def misses(predictor: Predictor, traces: Mapping[str, Trace]) -> dict[str, int]:
    """Return how many branches of each trace a predictor that starts afresh gets wrong."""
    mispredictions = {}
    for name, trace in traces.items():
        predictions = predictor.run(trace.addresses[trace.ids], trace.taken, predictor.fresh())
        mispredictions[name] = int((predictions != trace.taken).sum())
    return mispredictions


def mpki(wrong: Mapping[str, int], traces: Mapping[str, Trace]) -> dict[str, float]:
    """Return mispredictions per thousand instructions."""
    return {name: 1000 * count / traces[name].instructions for name, count in wrong.items()}


def best(settings: Sequence[Predictor], traces: Mapping[str, Trace]) -> tuple[Predictor, dict[str, int]]:
    """Return the setting with the least mean of mispredictions per thousand instructions, and its misses."""
    tried = [(setting, misses(setting, traces)) for setting in settings]
    return min(tried, key=lambda pair: float(np.mean(list(mpki(pair[1], traces).values()))))


def setting(predictor: Predictor) -> str:
    """Return the history a predictor uses."""
    history = max(predictor.lengths) if isinstance(predictor, MonoNet) else getattr(predictor, "history", 0)
    return f"history {history}" if history else "no history"


def show(console: Console, budget: int, traces: Mapping[str, Trace]) -> dict[str, Predictor]:
    """Print the table of one budget, and return the predictors in it."""
    chosen = {kind: best(settings, traces) for kind, settings in candidates(budget).items()}
    rates = {kind: mpki(wrong, traces) for kind, (_, wrong) in chosen.items()}
    table = Table(title=f"{budget // 8192} KiB: mispredictions per 1000 instructions, and of 100 branches")
    table.add_column("trace")
    for kind, (predictor, _) in chosen.items():
        table.add_column(f"{kind}\n{setting(predictor)}\n{predictor.bits()} bits", justify="right", no_wrap=True)
    table.add_column("beats\ngshare", no_wrap=True)
    won = 0
    for name, trace in traces.items():
        cells = [f"{rates[kind][name]:.2f} {wrong[name] / len(trace.ids):6.1%}" for kind, (_, wrong) in chosen.items()]
        wins = rates["mono-net"][name] < rates["gshare"][name]
        won += wins
        table.add_row(name, *cells, "yes" if wins else "no")
    means = [f"{np.mean(list(rate.values())):.2f}       " for rate in rates.values()]
    table.add_section()
    table.add_row("mean", *means, f"{won}/{len(traces)}")
    console.print(table)
    return {kind: predictor for kind, (predictor, _) in chosen.items()}


def show_latency(console: Console, budget: int, predictors: Mapping[str, Predictor]) -> None:
    """Print the parallel steps of every predictor, and those of deeper mono-nets and of back-propagation beside."""
    table = Table(title=f"latency in parallel steps, {budget // 8192} KiB")
    table.add_column("predictor")
    table.add_column("prediction", justify="right")
    table.add_column("update", justify="right")
    for kind, predictor in predictors.items():
        prediction, update = predictor.steps()
        table.add_row(kind, str(prediction), str(update))
        if isinstance(predictor, MonoNet):
            table.add_row("  by back-propagation", "", str(predictor.steps_of_back_propagation()))
            table.add_row("  with 3 hidden layers", "", str(update))
            table.add_row("  with 3, by back-propagation", "", str(predictor.steps_of_back_propagation(3)))
    console.print(table)


def main() -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(description="Compare branch predictors on recorded traces.")
    parser.add_argument("--kib", type=int, nargs="+", default=[1, 4, 8], help="budgets in KiB (default 1 4 8)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the traces (default traces/)")
    given = parser.parse_args()
    for kib in given.kib:
        if kib < 1 or kib & (kib - 1):
            parser.error(f"a budget must be a power of two of KiB, found {kib}")
    traces = stored(given.folder)
    console = Console()
    for kib in given.kib:
        chosen = show(console, 8192 * kib, traces)
    show_latency(console, 8192 * kib, chosen)


if __name__ == "__main__":
    try:
        main()
    except TraceError as error:
        sys.exit(str(error))
