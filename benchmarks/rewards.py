"""Other targets than one class a sample, learned by LFP and by surrogate gradients, with the same networks.

    python benchmarks/rewards.py                      # all tasks, three seeds each
    python benchmarks/rewards.py pixels --seeds 1
    python benchmarks/rewards.py --picture            # docs/rewards.png, from trainings with the first seed

Tasks: `mackey-glass`, NeuroBench's forecast of a chaotic series; `labels`, which two digits overlap in an image;
`pixels`, to which digit each pixel of ink belongs; `steps`, which of two recordings one after the other is seen now;
`population`, several output neurons for each digit. Both methods get the same network, weights to start from, batches,
Adam and schedule; LFP clips its updates. The learning rate of each is the best of three on samples held out from
training, one seed. Adds a JSON line for each finished training, and skips those that are there, so that it can be
stopped and started again; `python benchmarks/tables.py` writes the table of docs/rewards.md.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp import (
    LI,
    LIF,
    AdaptiveClip,
    Flatten,
    PopulationReadout,
    constant,
    cross_entropy_reward,
    logit_reward,
    propagate,
    reuse_freed_memory,
    softmax_reward,
    spike_count_reward,
    spike_rate_reward,
    squared_error_reward,
)
from spiking_lfp.data import load_dataset
from spiking_lfp.data.recipes import EventRecipe
from spiking_lfp.data.samples import load_samples
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateNetwork

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "experiments" / "rewards.jsonl"
RATES = (5e-4, 2e-3, 8e-3)
Score = dict[str, float]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Method:
    """A way to train a network: by a reward, or by a surrogate gradient of a loss; both of outputs and targets."""

    network: Callable[[], nn.Sequential]
    reward: Callable[[Tensor, Tensor], Tensor] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Data:
    """What a method is trained on and measured by.

    Attributes:
        samples: how many there are for training.
        batch: from their indices `[B]` to inputs `[T, B, ...]` and targets.
        score: measures a network; the first number says which rate is best, the larger the better.
        shown: what a network says, and what is true, for a picture.
    """

    samples: int
    batch: Callable[[Tensor], Batch]
    score: Callable[[nn.Module], Score]
    shown: Callable[[nn.Module], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Task:
    """Methods by name, the data for a seed, for testing or with training samples held out, and how long to train."""

    methods: dict[str, Method]
    data: Callable[[int, bool], Data]
    epochs: int
    batch: int


def train(method: Method, data: Data, task: Task, rate: float, seed: int) -> tuple[nn.Sequential, float]:
    """Train once; return the network and the seconds of training."""
    torch.manual_seed(seed)
    network = method.network()
    module = SurrogateNetwork(network) if method.reward is None else network
    optimizer = torch.optim.Adam(network.parameters(), rate)
    clip = AdaptiveClip(network.parameters(), 0.01)
    updates = task.epochs * -(-data.samples // task.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, updates)
    started = time.perf_counter()
    for _ in range(task.epochs):
        for indices in torch.randperm(data.samples).split(task.batch):
            x, targets = data.batch(indices)
            outputs = module(x)
            optimizer.zero_grad()
            if method.reward is not None:
                propagate(outputs, method.reward(outputs, targets) / len(outputs))
                clip()
            else:
                assert method.loss is not None
                method.loss(outputs, targets).backward()
            optimizer.step()
            schedule.step()
    return network, time.perf_counter() - started


def outputs_of(network: nn.Module, x: Tensor, size: int = 250) -> Tensor:
    """Return the outputs of sequences `[T, N, ...]`, some at a time."""
    return torch.cat([network(part) for part in x.split(size, 1)], 1)


# ------------------------------------------------------------------ NeuroBench's Mackey-Glass task

TAU, HISTORY, POINTS, LYAPUNOV = 17.0, 0.7206597, 75, 197.0  # of NeuroBench; 75 points in each Lyapunov time
TRAINED, FORECAST, HELD_OUT = 10 * POINTS, 10 * POINTS, 2 * POINTS
WINDOW, MG_STEPS, NOISE = 50, 10, 0.01


@cache
def mackey_glass(points: int = 36 * POINTS) -> NDArray[np.float64]:
    """Return the series `dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x` by Runge and Kutta's method.

    neurobench integrates the same equation from the same constant past by jitcdde, which is not among what it installs,
    or takes a file from the net. The two part after some Lyapunov times, as chaos has it.
    """
    per_delay = 400
    h = TAU / per_delay
    steps = int(points * LYAPUNOV / POINTS / h) + 2
    x = np.full(per_delay + steps + 1, HISTORY)
    slope = np.zeros_like(x)

    def change(now: float, delayed: float) -> float:
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * now

    for n in range(per_delay, per_delay + steps):
        old, new = n - per_delay, n - per_delay + 1
        # half a step after the delayed point, by Hermite's cubic
        middle = (x[old] + x[new]) / 2 + h * (slope[old] - slope[new]) / 8
        one = change(x[n], x[old])
        slope[n] = one
        two = change(x[n] + h / 2 * one, middle)
        three = change(x[n] + h / 2 * two, middle)
        four = change(x[n] + h * three, x[new])
        x[n + 1] = x[n] + h / 6 * (one + 2 * two + 2 * three + four)
    times = np.arange(points) * LYAPUNOV / POINTS
    found: NDArray[np.float64] = np.interp(times, np.arange(steps + 1) * h, x[per_delay:])
    return found


def forecast_data(seed: int, held_out: bool) -> Data:
    """One step ahead is learned, from windows with noise; the forecast goes on from its own answers, as in NeuroBench.

    What it answers is kept within what was seen in training.
    """
    # each run begins half a Lyapunov time later, as theirs
    series = torch.from_numpy(mackey_glass()).float()[round((seed - 1) * POINTS / 2) :]
    known = TRAINED - HELD_OUT if held_out else TRAINED
    ahead = HELD_OUT if held_out else FORECAST
    windows, following = series[:known].unfold(0, WINDOW, 1)[:-1], series[WINDOW:known]
    changes = following - windows[:, -1]
    size, least, most = changes.std(), series[:known].min(), series[:known].max()

    def batch(indices: Tensor) -> Batch:
        seen = windows[indices] + NOISE * torch.randn(len(indices), WINDOW)
        return constant(seen / 1.5, MG_STEPS), (following[indices] - seen[:, -1])[:, None] / size

    def forecast(network: nn.Module) -> tuple[Tensor, Tensor]:
        seen, found = series[known - WINDOW : known].clone(), torch.empty(ahead)
        for t in range(ahead):
            change = network(constant(seen[None] / 1.5, MG_STEPS)).mean(0)[0, 0] * size
            found[t] = (seen[-1] + change).clamp(least, most)
            seen = torch.cat([seen[1:], found[t : t + 1]])
        return found, series[known : known + ahead]

    def score(network: nn.Module) -> Score:
        every = outputs_of(network, constant(windows / 1.5, MG_STEPS)).mean(0)[:, 0]
        found, true = forecast(network)
        smape = 200 * ((found - true).abs() / (found.abs() + true.abs())).mean()
        return {"-sMAPE": -float(smape), "R2 of changes": 1 - float((every - changes / size).square().mean())}

    return Data(len(changes), batch, score, forecast)


def forecaster() -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(WINDOW, 100)), LIF(nn.Linear(100, 100)), LI(nn.Linear(100, 1), 1.0))


# ------------------------------------------------------------------ several labels

STEPS = 8


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return MNIST as floats in 0..1."""
    data = load_dataset("mnist")
    return data.train_images.float() / 255, data.train_labels, data.test_images.float() / 255, data.test_labels


def parts(held_out: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the digits for training and for testing, 50,000 and 10,000 of the former if some are held out."""
    x, y, test_x, test_y = digits()
    return ((x[:50000], y[:50000]), (x[50000:], y[50000:])) if held_out else ((x, y), (test_x, test_y))


def pairs(x: Tensor, y: Tensor, count: int, random: torch.Generator) -> Batch:
    """Return images of two digits that overlap by 16 of 28 columns, and their labels `[N, 10]`."""
    chosen = torch.randint(len(x), (2, count), generator=random)
    images = torch.zeros(count, 1, 28, 40)
    images[..., :28] = x[chosen[0]]
    images[..., 12:] = torch.maximum(images[..., 12:], x[chosen[1]])
    return images, torch.zeros(count, 10).scatter_(1, y[chosen].T, 1)


def label_data(seed: int, held_out: bool) -> Data:
    random = torch.Generator().manual_seed(seed)
    (x, y), (test_x, test_y) = (
        pairs(*each, count, random) for each, count in zip(parts(held_out), (20000, 4000), strict=True)
    )

    def score(network: nn.Module) -> Score:
        mean = outputs_of(network, constant(test_x, STEPS)).mean(0)
        analogue = any(isinstance(module, LI) for module in network.modules())
        found = mean > (0 if analogue else 0.5)
        right = (found * test_y).sum()
        f1 = 2 * right / (found.sum() + test_y.sum())
        return {"F1": float(f1), "all right": float((found == test_y.bool()).all(1).float().mean())}

    return Data(len(x), lambda rows: (constant(x[rows], STEPS), y[rows]), score)


def labeller(last: Callable[[nn.Linear], nn.Module]) -> nn.Sequential:
    return nn.Sequential(Flatten(), LIF(nn.Linear(28 * 40, 400)), last(nn.Linear(400, 10)))


# ------------------------------------------------------------------ a label for every pixel

PAPER = 255


def scenes(x: Tensor, y: Tensor, count: int, random: torch.Generator) -> Batch:
    """Return four digits of half the size in an image, and the class of each pixel of ink `[N, 28, 28]`."""
    chosen = torch.randint(len(x), (4, count), generator=random)
    small = F.avg_pool2d(x, 2)[chosen]  # [4, N, 1, 14, 14]
    images = torch.cat([torch.cat([small[0], small[1]], 3), torch.cat([small[2], small[3]], 3)], 2)
    classes = y[chosen].T.view(count, 2, 2).repeat_interleave(14, 1).repeat_interleave(14, 2)
    return images, torch.where(images[:, 0] > 0.3, classes, PAPER)


def pixel_data(seed: int, held_out: bool) -> Data:
    random = torch.Generator().manual_seed(seed)
    (x, y), (test_x, test_y) = (
        scenes(*each, count, random) for each, count in zip(parts(held_out), (2000, 250), strict=True)
    )

    def score(network: nn.Module) -> Score:
        found = outputs_of(network, constant(test_x, STEPS), 50).sum(0).argmax(1)
        ink = test_y != PAPER
        most = test_y[ink].bincount().max() / ink.sum()
        return {"pixels": float((found == test_y)[ink].float().mean()), "most frequent class": float(most)}

    def shown(network: nn.Module) -> tuple[Tensor, Tensor]:
        found = network(constant(test_x[:4], STEPS)).sum(0).argmax(1)
        return found.masked_fill(test_y[:4] == PAPER, PAPER), test_y[:4]

    return Data(len(x), lambda rows: (constant(x[rows], STEPS), y[rows]), score, shown)


def segmenter(last: Callable[[nn.Conv2d], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(1, 16, 5, padding=2)),
        LIF(nn.Conv2d(16, 32, 5, padding=4, dilation=2), threshold=0.5),
        last(nn.Conv2d(32, 10, 1)),
    )


# ------------------------------------------------------------------ a label for every step, from events

BINS, LATE = 10, 3  # steps of a recording, and how many of them earn nothing


def step_data(seed: int, held_out: bool) -> Data:
    recipe: Any = {"steps": BINS}
    samples = load_samples("n-mnist", EventRecipe(**recipe))
    # they lie in the order of their classes
    order = torch.randperm(len(samples.train), generator=torch.Generator().manual_seed(0))
    first, rest = (
        (order, None) if not held_out else order.split([len(order) * 4 // 5, len(order) - len(order) * 4 // 5])
    )
    train, test = samples.train.subset(first), samples.test if rest is None else samples.train.subset(rest)
    random = torch.Generator().manual_seed(seed)

    def joined(split: Any, rows: Tensor, others: Tensor) -> Batch:
        (x, y), (next_x, next_y) = split.batch(rows), split.batch(others)
        every = torch.stack([y, next_y]).repeat_interleave(BINS, 0)
        every.unflatten(0, (2, BINS))[:, :LATE] = -1
        return torch.cat([x, next_x]), every

    def score(network: nn.Module) -> Score:
        right, all_steps = torch.zeros(2 * BINS), 0
        for _ in range(3):  # each recording before and after others
            rows, others = torch.arange(len(test)), torch.randperm(len(test), generator=random)
            x, every = joined(test, rows, others)
            found = outputs_of(network, x).argmax(2)
            late = every.unflatten(0, (2, BINS))[:, -1].repeat_interleave(BINS, 0)
            right += (found == late).float().sum(1)
            all_steps += len(test)
        by_step = (right / all_steps).unflatten(0, (2, BINS))
        return {"counted steps": float(by_step[:, LATE:].mean()), "last steps": float(by_step[:, -1].mean())}

    return Data(len(train), lambda rows: joined(train, rows, torch.randint(len(train), rows.shape)), score)


def watcher() -> nn.Sequential:
    return nn.Sequential(Flatten(), LIF(nn.Linear(2312, 200), threshold=0.3), LI(nn.Linear(200, 10), 0.8))


def step_loss(outputs: Tensor, every: Tensor) -> Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), every.flatten(), ignore_index=-1)


# ------------------------------------------------------------------ several neurons a class


def class_data(seed: int, held_out: bool) -> Data:
    (x, y), (test_x, test_y) = parts(held_out)

    def score(network: nn.Module) -> Score:
        found = outputs_of(network, constant(test_x, STEPS), 500).sum(0).argmax(1)
        return {"accuracy": float((found == test_y).float().mean())}

    return Data(len(x), lambda rows: (constant(x[rows], STEPS), y[rows]), score)


def classifier(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(Flatten(), LIF(nn.Linear(784, 200)), *last)


def voters(size: int) -> nn.Sequential:
    return classifier(LIF(nn.Linear(200, 10 * size)), PopulationReadout(size))


def mean_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.mean(0), labels)


def sum_cross_entropy(outputs: Tensor, labels: Tensor, ignore: int = -1) -> Tensor:
    return F.cross_entropy(outputs.sum(0), labels, ignore_index=ignore)


TASKS: dict[str, Task] = {
    "mackey-glass": Task(
        {
            "lfp": Method(forecaster, squared_error_reward),
            "surrogate": Method(forecaster, loss=lambda o, y: F.mse_loss(o.mean(0), y)),
        },
        forecast_data, 200, 50,
    ),
    "labels": Task(
        {
            "lfp, spike counts": Method(partial(labeller, LIF), spike_count_reward),
            "lfp, spike rates": Method(partial(labeller, LIF), spike_rate_reward),
            "lfp, membranes": Method(partial(labeller, LI), logit_reward),
            "surrogate, spike rates": Method(partial(labeller, LIF), loss=lambda o, y: F.mse_loss(o.mean(0), y)),
            "surrogate, membranes": Method(
                partial(labeller, LI), loss=lambda o, y: F.binary_cross_entropy_with_logits(o.mean(0), y)
            ),
        },
        label_data, 2, 100,
    ),
    "pixels": Task(
        {
            "lfp, spike counts": Method(partial(segmenter, LIF), partial(spike_count_reward, ignore=PAPER)),
            "lfp, membranes": Method(partial(segmenter, LI), partial(softmax_reward, ignore=PAPER)),
            "surrogate, membranes": Method(
                partial(segmenter, LI), loss=lambda o, y: F.cross_entropy(o.mean(0), y, ignore_index=PAPER)
            ),
        },
        pixel_data, 2, 20,
    ),
    "steps": Task(
        {
            "lfp": Method(watcher, partial(softmax_reward, ignore=-1, window=1)),
            "surrogate": Method(watcher, loss=step_loss),
        },
        step_data, 15, 25,
    ),
    "population": Task(
        {
            **{f"lfp, {size} a class": Method(partial(voters, size), spike_count_reward) for size in (1, 3, 10)},
            "lfp, membranes": Method(lambda: classifier(LI(nn.Linear(200, 10))), softmax_reward),
            "lfp, membranes without the factor": Method(
                lambda: classifier(LI(nn.Linear(200, 10))), cross_entropy_reward
            ),
            "surrogate, 1 a class": Method(partial(voters, 1), loss=sum_cross_entropy),
            "surrogate, membranes": Method(lambda: classifier(LI(nn.Linear(200, 10))), loss=mean_cross_entropy),
        },
        class_data, 1, 128,
    ),
}  # fmt: skip


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks by name, all by default.")] = None,
    seeds: Annotated[int, typer.Option(help="How many: 1, 2, ...")] = 3,
    threads: Annotated[int, typer.Option(help="Threads; one is best on a busy machine.")] = 1,
    picture: Annotated[bool, typer.Option("--picture", help="Draw docs/rewards.png.")] = False,
    output: Path = RESULTS,
) -> None:
    """Train all methods, or draw."""
    torch.set_num_threads(threads)
    reuse_freed_memory()
    output.touch()
    for name in [] if picture else tasks or TASKS:
        task = TASKS[name]
        for way in task.methods:
            for rate in RATES:
                measure(name, way, rate, 1, True, output)
            for seed in range(1, seeds + 1):
                measure(name, way, best_rate(name, way, output), seed, False, output)
    if picture:
        draw(DOCS / "rewards.png", output)


def measure(name: str, way: str, rate: float, seed: int, held_out: bool, output: Path) -> None:
    """Train and write a line, unless it is there."""
    case = {"task": name, "method": way, "lr": rate, "seed": seed, "held_out": held_out}
    if any(case.items() <= line.items() for line in finished(output)):
        return
    task = TASKS[name]
    data = task.data(seed, held_out)
    network, seconds = train(task.methods[way], data, task, rate, seed)
    with torch.no_grad():
        score = data.score(network)
    line = {**case, "epochs": task.epochs, "batch": task.batch, **score, "seconds": round(seconds, 1)}
    print(line, flush=True)
    with output.open("a") as file:
        file.write(json.dumps(line) + "\n")


def best_rate(name: str, way: str, output: Path) -> float:
    """Return the learning rate that did best on held-out training samples."""
    found: dict[float, float] = {
        line["lr"]: score_of(line) for line in finished(output)
        if (line["task"], line["method"], line["held_out"]) == (name, way, True)
    }  # fmt: skip
    return max(found, key=lambda rate: found[rate])


def score_of(line: dict[str, Any]) -> float:
    """Return the first score of a line: the first field after those of the case."""
    values: list[float] = list(line.values())
    return values[7]


def finished(output: Path) -> list[dict[str, Any]]:
    """Return the trainings that are done."""
    return [json.loads(line) for line in output.read_text().splitlines()]


def draw(path: Path, output: Path) -> None:
    """Draw a forecast by both methods, and the classes of pixels."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 5.5), layout="constrained")
    halves: Any = figure.subfigures(2, 1)
    above, below = halves
    axes = above.subplots()
    for way, colour in (("lfp", "tab:blue"), ("surrogate", "tab:orange")):
        found, true = answer("mackey-glass", way, output)
        times = torch.arange(1, len(found) + 1) / POINTS
        axes.plot(times, found, colour, label=way, linewidth=1)
    axes.plot(times, true, "black", label="true", linewidth=1)
    axes.set(xlabel="Lyapunov times ahead", ylabel="x", title="Mackey-Glass, forecast from its own answers")
    axes.legend(loc="upper right", ncols=3)
    found, true = answer("pixels", "lfp, membranes", output)
    panels = below.subplots(1, 8)
    for k in range(4):
        for panel, classes, title in ((panels[2 * k], true[k], "true"), (panels[2 * k + 1], found[k], "by LFP")):
            drawn = np.ma.masked_equal(classes.numpy(), PAPER)
            image = panel.imshow(drawn, cmap="tab10", vmin=-0.5, vmax=9.5, interpolation="nearest")
            panel.set(title=title, xticks=[], yticks=[])
    below.colorbar(image, ax=panels, ticks=range(10), label="digit")
    figure.savefig(path, dpi=110)


def answer(name: str, way: str, output: Path) -> tuple[Tensor, Tensor]:
    """Train with the first seed, and return what the network says and what is true."""
    task = TASKS[name]
    data = task.data(1, False)
    network, _ = train(task.methods[way], data, task, best_rate(name, way, output), 1)
    assert data.shown is not None
    with torch.no_grad():
        return data.shown(network)


if __name__ == "__main__":
    typer.run(main)
