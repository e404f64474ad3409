"""The experiments by name, and the function that runs one."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.studies.cases import Case, OnCase, Outcome, run_cases
from spiking_lfp.studies.experiment import SCALES, Experiment, Report, Scale, write_report
from spiking_lfp.studies.lfp_paper import activations, depth, figure2, figure3, figure4, figure5, spiking_images, toy
from spiking_lfp.studies.mdfa_paper import alignment, pairs

EXPERIMENTS: dict[str, Experiment] = {
    "cifar": figure2.EXPERIMENT,
    "vgg": figure3.EXPERIMENT,
    "snn-grid": figure4.EXPERIMENT,
    "fine-tuning": figure5.EXPERIMENT,
    "simple-reward": toy.SIMPLE_REWARD,
    "shattering": depth.SHATTERING,
    "depth": depth.DEPTH,
    "activations": activations.EXPERIMENT,
    "snn-images": spiking_images.EXPERIMENT,
    "mdfa-binary": alignment.BINARY,
    "mdfa-classes": alignment.CLASSES,
    "spiking-pairs": pairs.EXPERIMENT,
}


def run_experiment(
    name: str,
    scale: Scale,
    folder: str | Path,
    on_case: OnCase,
    seeds: int | None = None,
    processes: int = 1,
    data_root: str | Path | None = None,
    executor: Executor | None = None,
    threads: int | None = None,
    part: str | None = None,
) -> tuple[Report, list[Path]]:
    """Run the cases of an experiment that `folder` does not have yet, and write the results there.

    Args:
        name: of `EXPERIMENTS`.
        scale: "smoke" to check that it runs, "small" for about an hour, "paper" for the paper's sizes.
        folder: for the cases, `numbers.csv`, `numbers.json` and `figure.png`.
        on_case: called after each training.
        seeds: number of seeds; the scale's default if None.
        processes: how many trainings run at a time on this machine.
        data_root: folder of the data sets where trainings run; None for the environment variable there.
        executor: runs the trainings in place of this machine, see `run_cases`.
        threads: of each training, see `run_cases`.
        part: the only network, data set or start to run and report, of experiments that have several; None for all.

    Raises:
        UsageError: for an unknown name, scale or part.
        DataError: if a data set is missing.
        RunError: if a training dies too often or the folder cannot be used.

    Returns:
        the report, and the files that were written.

    Example:
        >>> run = run_experiment("shattering", "smoke", "results", lambda *_: None)  # doctest: +SKIP
        >>> run_experiment("shattering", "small", "results", lambda *_: None, seeds=0)  # that above takes a minute
        Traceback (most recent call last):
        spiking_lfp.errors.UsageError: seeds must be at least 1, found 0
    """
    folder = Path(folder)
    data_root = None if data_root is None else Path(data_root)
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds must be at least 1, found {seeds}")
    experiment = EXPERIMENTS[name]
    cases = experiment.cases(scale, seeds or experiment.seeds[scale])
    if part is not None:
        if experiment.parts is None:
            raise UsageError(f"experiment {name!r} has no parts, found part {part!r}: leave it out")
        parts = dict.fromkeys(case[experiment.parts] for case in cases)
        if part not in parts:
            raise unknown_name(f"part of {name!r} at scale {scale}", part, parts)
        cases = [case for case in cases if case[experiment.parts] == part]
    results = run_cases(
        cases, partial(_run_case, experiment.run, data_root), folder, on_case, processes, executor, threads
    )
    report = experiment.report(results)
    return report, write_report(report, folder)


def _run_case(run: Callable[[Case, Path | None], Outcome], data_root: Path | None, case: Case) -> Outcome:
    return run(case, data_root)
