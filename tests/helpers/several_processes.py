"""What tests let several processes do: `torchrun --nproc-per-node=2 -m helpers.several_processes WHAT FOLDER`.

Where `torchrun` itself is not what is tested, `launch` does as it does, and need not load torch in every process.
"""

import dataclasses
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.run as torchrun
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.small_runs import small_config, small_dataset
from spiking_lfp import AdaptiveClip, constant, mlp, propagate, spike_count_reward
from spiking_lfp.cli import main as cli
from spiking_lfp.data import samples
from spiking_lfp.errors import SpikingLFPError
from spiking_lfp.kernels import registry
from spiking_lfp.training import Meter, TrainConfig, loop, processes, train, training_step
from spiking_lfp.training.distributed import is_writer, rank, shard, sum_updates
from spiking_lfp.training.step import idle_step

CONFIGS = {
    "adam": small_config(hidden=(8, 7), threshold=0.1),
    "sgd": small_config(network="lenet", optimizer="sgd", lr=0.1, momentum=0.5, schedule="cosine", clip=0.1),
    "normalised": small_config(hidden=(8, 7), threshold=0.1, normalize_feedback=True, optimizer="sgd", lr=0.1, clip=0),
    "uneven": small_config(batch_size=3, validation=0.3, patience=1),
    "noise": small_config(network="stack", layers="8-DP0.3-7", threshold=0.1, batch_size=3, encoding="rate", chunk=2),
    "batch norm": small_config(network="stack", layers="4C3BN-8BN", threshold=0.1, batch_size=3),
    "one image a batch": small_config(batch_size=1, normalize_feedback=True, validation=0.1),
}
KILLED = small_config(
    network="stack", layers="8-DP0.3-7", batch_size=2, checkpoint_every=2, encoding="rate", threshold=0.1
)


def attempt() -> int:
    """Return how often torchrun has started these processes before."""
    return int(os.environ["TORCHELASTIC_RESTART_COUNT"])


def updates(parallel: bool) -> list[Tensor]:
    """Return the weights after each of four updates in float64; the third is by one image, so by one process."""
    torch.manual_seed(1)
    network = mlp((1, 8, 8), 3, (6, 5), threshold=0.2, normalize_feedback=True).double()
    images, labels = small_dataset().train_images.double() / 255, small_dataset().train_labels
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    clip, seen = AdaptiveClip(network.parameters(), 0.1), []
    for batch in torch.arange(10).split([4, 3, 1, 2]):
        mine = shard(batch) if parallel else batch
        if len(mine):
            training_step(network, constant(images[mine], 4), labels[mine], optimizer, clip, Meter())
        else:
            idle_step(network, constant(images[batch], 4), optimizer, clip)
        seen.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    return seen


def gradients(wrapped: bool) -> list[Tensor]:
    """Return what a loop of one's own finds in `.grad`, through torch's own wrapper or by `sum_updates`."""
    torch.manual_seed(1)
    network: nn.Module = mlp((1, 8, 8), 3, (6, 5), threshold=0.2, normalize_feedback=True).double()
    images, labels = small_dataset().train_images.double() / 255, small_dataset().train_labels
    outer = DistributedDataParallel(network) if wrapped else network
    for _ in range(2):  # the wrapper arranges itself anew after the first
        network.zero_grad()
        spikes = outer(constant(shard(images), 4))
        propagate(spikes, spike_count_reward(spikes, shard(labels)))
    if not wrapped:
        sum_updates(network)
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def train_all(root: Path) -> None:
    with processes("cpu"):
        found = {"wrapped": gradients(True), "summed": gradients(False), "updates": updates(True)}
        of_all: list[Any] = [None, None]
        dist.all_gather_object(of_all, found)
        assert all(torch.equal(*both) for name in found for both in zip(of_all[0][name], of_all[1][name], strict=True))
        if is_writer():
            torch.save(found, root / "found.pt")
        for name, config in CONFIGS.items():
            train(config, root / name)
        train(KILLED, root / "whole")


def die(root: Path) -> None:
    """Train; in the first attempt the second process is killed, in the second the one that writes a checkpoint."""
    folder = root / "killed"
    if attempt() == 1 and os.environ["RANK"] == "0":
        shutil.copytree(folder, root / "for one process")
    step, done = loop.training_step, []

    def dies_after_it(*arguments: Any) -> None:
        step(*arguments)
        done.append(1)
        if (attempt(), rank(), len(done)) == (0, 1, 5):
            os.kill(os.getpid(), signal.SIGKILL)

    def dies_of_it(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and len(done) >= 2 and attempt() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.training_step = dies_after_it
    sys.addaudithook(dies_of_it)
    train(KILLED, folder, device="cpu")


def fail(root: Path) -> None:
    """Run the command: at first all processes meet NaN, then the one that writes a full disk."""
    step, sync, done = loop.training_step, os.fsync, []

    def meets_nan(network: Any, images: Tensor, *rest: Any) -> None:
        done.append(1)
        bad = (attempt(), len(done)) == (0, 2)
        step(network, images * float("nan") if bad else images, *rest)

    def meets_a_full_disk(file: int) -> None:
        if len(done) >= 2 and attempt() == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    loop.training_step, os.fsync = meets_nan, meets_a_full_disk
    sys.argv = [
        "spiking-lfp", "train", "mnist-lenet", "--device=cpu", f"--out={root / 'failed'}",
        *(f"--set={key}={value}" for key, value in settings(KILLED)),
    ]  # fmt: skip
    cli.main()


def long(root: Path) -> None:
    """Train until somebody ends it."""
    try:
        train(small_config(epochs=10**6), root / "long", device="cpu")
    except SpikingLFPError as error:
        sys.exit(f"error: {error}")


def settings(config: TrainConfig) -> list[tuple[str, str]]:
    """All settings as text, but for those that a stack does not take."""
    left_out = ("preset", "hidden", "channels")
    return [(key, cli._show(value)) for key, value in config.model_dump().items() if key not in left_out]


def work(what: str, root: str) -> None:
    """Do one of these in a process of torchrun."""
    # each process would have to load the compiled ones, which takes longer than the whole run
    registry.device_of = lambda _: None
    samples.load_dataset = lambda *_: small_dataset()
    samples.DATASET_NAMES = (*samples.DATASET_NAMES, "small")
    {"train": train_all, "die": die, "fail": fail, "long": long}[what](Path(root))
    assert not dist.is_initialized()
    # threads that outlive the process group abort some processes at their end
    assert not [path for path in Path("/proc/self/task").glob("*/comm") if "gloo" in path.read_text()]


def command(*words: str) -> None:
    """Be the command line."""
    sys.argv = ["spiking-lfp", *words]
    cli.main()


def launch(options: list[str], function: Callable[..., None], *words: str) -> None:
    """Be torchrun with these options, but call the function in forks in place of starting Python anew."""
    launcher = torchrun.elastic_launch
    torchrun.elastic_launch = lambda config, entrypoint: (
        lambda *_: launcher(dataclasses.replace(config, start_method="fork"), function)(*words)
    )
    torchrun.main([*options, "no script"])


if __name__ == "__main__":
    work(*sys.argv[1:])
