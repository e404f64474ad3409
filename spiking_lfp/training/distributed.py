"""Several processes for one run, started by torchrun: who they are, what they share, and how they end together.

Outside of several processes every function does the obvious for one process, and nothing is set up.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
MEETING = timedelta(minutes=5)


@contextmanager
def processes(device: str = "auto") -> Iterator[torch.device]:
    """Join the processes that torchrun started beside this one, and give the device of this one.

    They meet over gloo, on GPUs over nccl too, and part at the end of the context. A process group that is there
    already, your own or that of an outer context, is used and left alone.

    Args:
        device: "auto", "cpu", "cuda"; several processes of a machine take one GPU each.

    Raises:
        UsageError: if the device cannot be used.
        RunError: if the connection to another process is lost.
        OtherProcessError: in place of any error, in all processes but the one that failed first.
    """
    if size() > 1 or not started_by_torchrun() or int(os.environ["WORLD_SIZE"]) == 1:
        yield _own_device(device)
        return
    # the first optimiser imports this, and what it imports keeps the group that is there by then for ever: gloo's
    # threads live on and abort some processes at their end
    import torch._dynamo

    store = None
    try:
        store, rank, world = _meet()
        target = _own_device(device)
        if target.type == "cuda":
            torch.cuda.set_device(target)
        backend = "cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world)
        yield target
    except Exception as error:
        if store is not None and not _first(store):
            raise OtherProcessError("another process of this run failed first, and says why") from error
        if not _lost(error):
            raise
        raise RunError("the connection to another process of this run was lost: it was killed or cut off") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """Tell whether torchrun started this process, and may start it again."""
    return dist.is_available() and dist.is_torchelastic_launched()


def size() -> int:
    """Return how many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_writer() -> bool:
    """Tell whether this process is the one that writes files and talks."""
    return rank() == 0


def share(whole: Tensor) -> Tensor:
    """Return the part of `whole` that is for this process: as long as the others', but for one, and maybe empty."""
    return whole.tensor_split(size())[rank()]


def sum_over_all(values: Tensor) -> Tensor:
    """Return the sum of the `values` of all processes, in their place."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def from_writer(make: Callable[[], T]) -> T:
    """Call `make` in the writing process, and return in every process what it made."""
    if size() == 1:
        return make()
    made: list[Any] = [make() if is_writer() else None]
    dist.broadcast_object_list(made)
    result: T = made[0]
    return result


def first_here(make: Callable[[], T]) -> T:
    """Call `make` in every process, in one of each machine first: the others find on disk what it fetched."""
    leads = _local_rank() == 0
    made = [make()] if leads else []
    if size() > 1:
        dist.all_gather_object([None] * size(), None)
    return made[0] if leads else make()


def sum_updates(network: nn.Module) -> None:
    """Make every `.grad` the sum over all processes: call it after `propagate`, before clipping.

    LFP updates are sums over samples, so the processes together update as one would by the whole batch.
    `DistributedDataParallel` works as well but takes the mean: its updates are the sum divided by the processes.
    """
    if size() == 1:
        return
    updates = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    summed = sum_over_all(torch.cat([update.flatten() for update in updates]))
    for update, part in zip(updates, summed.split([update.numel() for update in updates]), strict=True):
        update.copy_(part.view_as(update))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", rank())) if size() > 1 else 0


def _own_device(name: str) -> torch.device:
    """Return the device called `name`; of several GPUs that of this process."""
    device = pick_device(name)
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if started_by_torchrun() else 1
    if device.type != "cuda" or local_size == 1:
        return device
    if name not in ("auto", "cuda"):
        raise UsageError(f"{local_size} processes need a GPU each: give --device cuda instead of {name}")
    found = torch.cuda.device_count()
    if found < local_size:
        raise UsageError(
            f"{local_size} processes need a GPU each, this machine has {found}: start fewer, or give --device cpu"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def _meet() -> tuple[Any, int, int]:
    """Return a store that the processes of this start share, the rank of this one, and how many they are.

    torchrun has one store for all starts. Addresses of processes that are dead stay in it, and machines may count
    restarts differently; so the first process gives the start a name, and tells it to who is alive to ask.
    """
    store, rank, world = next(dist.rendezvous("env://", timeout=MEETING))  # type: ignore[attr-defined]
    name = uuid4().hex
    if rank > 0:
        store.set(f"spiking_lfp/asks/{rank}", name)
        name = store.get(f"spiking_lfp/answer/{name}").decode()
        store.add(f"spiking_lfp/met/{name}", 1)
        return dist.PrefixStore(name, store), rank, world  # type: ignore[attr-defined]
    deadline = time.monotonic() + MEETING.total_seconds()
    while (met := 1 + store.add(f"spiking_lfp/met/{name}", 0)) < world:
        if time.monotonic() > deadline:
            raise RunError(f"{met} of {world} processes came together: see what became of the others")
        for other in range(1, world):
            if store.check([f"spiking_lfp/asks/{other}"]):
                asks = store.get(f"spiking_lfp/asks/{other}").decode()
                store.set(f"spiking_lfp/answer/{asks}", name)
        time.sleep(0.01)
    return dist.PrefixStore(name, store), rank, world  # type: ignore[attr-defined]


def _first(store: Any) -> bool:
    """Tell whether this process is the first to fail since the start; so is one that cannot ask any more."""
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:
        return True


def _lost(error: Exception) -> bool:
    """Tell whether `error` is what torch.distributed raises when another process is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
