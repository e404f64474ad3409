"""Data-parallel runs in several processes started by torchrun: process group, data sharding, and common failure.

In a single process every function works as for a group of one, and nothing is set up.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spiking_lfp.errors import OtherProcessError, RunError, UsageError
from spiking_lfp.training.devices import pick_device

T = TypeVar("T")
# how long processes wait for each other at the start
RENDEZVOUS_TIMEOUT = timedelta(minutes=5)
# seconds between two looks whether torchrun still runs
PARENT_CHECK_S = 1


@contextmanager
def processes(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that torchrun started, and yield the device of this one.

    The process group uses gloo, on GPUs also nccl, and is destroyed at the end of the context. An existing process
    group, your own or that of an outer context, is used and left as it is.

    Args:
        device: "auto", "cpu", "cuda"; several processes on one machine use one GPU each.

    Raises:
        UsageError: if the device cannot be used.
        RunError: if the connection to another process is lost.
        OtherProcessError: in place of any error, in all processes but the one that failed first.

    Example:
        >>> with processes("cpu") as device:  # each of those that torchrun started, or the only one
        ...     network = LIF(nn.Linear(4, 3)).to(device)
    """
    if size() > 1 or not started_by_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        yield _local_device(device)
        return
    # the first optimiser imports this module, which keeps a reference to any group that exists by then for ever:
    # gloo's threads would live on and abort some processes when they exit
    import torch._dynamo

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    store = None
    try:
        store, rank, world = _rendezvous()
        target = _local_device(device)
        if target.type == "cuda":
            torch.cuda.set_device(target)
        backend = "cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
        yield target
    except Exception as error:
        if store is not None and not _failed_first(store):
            raise OtherProcessError("another process of this run failed first and reported why") from error
        if not _is_lost_connection(error):
            raise
        raise RunError(
            "the connection to another process of this run was lost: it was killed or disconnected"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """Tell whether torchrun started this process and may restart it."""
    return dist.is_available() and dist.is_torchelastic_launched()


def size() -> int:
    """Return the number of processes in the group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process in the group."""
    return dist.get_rank() if size() > 1 else 0


def is_writer() -> bool:
    """Tell whether this process is the one that writes files and prints."""
    return rank() == 0


def shard(batch: Tensor) -> Tensor:
    """Return the part of `batch` for this process; the lengths of the parts differ by at most one, some may be 0."""
    return batch.tensor_split(size())[rank()]


def sum_over_all(values: Tensor) -> Tensor:
    """Sum `values` over all processes, in place, and return them."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def from_writer(make: Callable[[], T]) -> T:
    """Call `make` in the writing process, and broadcast its result to every process."""
    if size() == 1:
        return make()
    results: list[Any] = [make() if is_writer() else None]
    dist.broadcast_object_list(results)
    result: T = results[0]
    return result


@contextmanager
def by_writer(enter: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter a context in the writing process; the others wait until that is done."""
    with ExitStack() as stack:
        from_writer(lambda: stack.enter_context(enter()))
        yield


def one_first(make: Callable[[], T]) -> T:
    """Call `make` in every process, but first in one per machine: the others find on disk what it downloaded."""
    is_first = _local_rank() == 0
    results = [make()] if is_first else []
    if size() > 1:
        dist.all_gather_object([None] * size(), None)
    return results[0] if is_first else make()


def sum_updates(network: nn.Module) -> None:
    """Sum every `.grad` over all processes, in place: call it after `propagate`, before clipping.

    LFP updates are sums over samples, so the processes together update as a single process would on the whole batch.
    `DistributedDataParallel` works as well but takes the mean: its updates are divided by the number of processes.

    Args:
        network: the same in all processes, after the `propagate` of each.

    Example:
        >>> with processes("cpu"):  # torchrun --nproc-per-node=4 ...: each with samples of its own
        ...     layer = LIF(nn.Linear(4, 3))
        ...     spikes = layer(torch.rand(10, 2, 4))
        ...     propagate(spikes, spike_count_reward(spikes, [0, 2]))
        ...     sum_updates(layer)
    """
    if size() == 1:
        return
    updates = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    summed = sum_over_all(torch.cat([update.flatten() for update in updates]))
    for update, total in zip(updates, summed.split([update.numel() for update in updates]), strict=True):
        update.copy_(total.view_as(update))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", rank())) if size() > 1 else 0


def _local_device(name: str) -> torch.device:
    """Return the device called `name`; with several GPUs, the one of this process."""
    device = pick_device(name)
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if started_by_torchrun() else 1
    if device.type != "cuda" or local_size == 1:
        return device
    if name not in ("auto", "cuda"):
        raise UsageError(f"{local_size} processes need a GPU each: give --device cuda instead of {name}")
    gpus = torch.cuda.device_count()
    if gpus < local_size:
        raise UsageError(
            f"{local_size} processes need a GPU each, this machine has {gpus}: start fewer, or give --device cpu"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def _end_with(parent: int) -> None:
    """End this process when torchrun, its parent, is gone: nobody else would, and a new start may use the folder."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os.write(2, b"error: torchrun has died, so this process ends, too\n")
    os._exit(1)


def _rendezvous() -> tuple[Any, int, int]:
    """Return a store shared by the processes of this start, the rank of this process, and the number of processes.

    torchrun has one store for all restarts. Addresses of dead processes stay in it, and machines may count restarts
    differently; so rank 0 chooses a name for this start, and tells it to every living process that asks.
    """
    store, rank, world = next(dist.rendezvous("env://", timeout=RENDEZVOUS_TIMEOUT))  # type: ignore[attr-defined]
    name = uuid4().hex
    if rank > 0:
        store.set(f"spiking_lfp/asks/{rank}", name)
        name = store.get(f"spiking_lfp/answer/{name}").decode()
        store.add(f"spiking_lfp/met/{name}", 1)
        return dist.PrefixStore(name, store), rank, world  # type: ignore[attr-defined]
    deadline = time.monotonic() + RENDEZVOUS_TIMEOUT.total_seconds()
    while (joined := 1 + store.add(f"spiking_lfp/met/{name}", 0)) < world:
        if time.monotonic() > deadline:
            raise RunError(f"only {joined} of {world} processes joined in time: check the others")
        for other in range(1, world):
            if store.check([f"spiking_lfp/asks/{other}"]):
                asks = store.get(f"spiking_lfp/asks/{other}").decode()
                store.set(f"spiking_lfp/answer/{asks}", name)
        time.sleep(0.01)
    return dist.PrefixStore(name, store), rank, world  # type: ignore[attr-defined]


def _failed_first(store: Any) -> bool:
    """Tell whether this process failed before all others; assumed if the store cannot be reached."""
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:
        return True


def _is_lost_connection(error: Exception) -> bool:
    """Tell whether `error` is one that torch.distributed raises when another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
