"""Restoring a run: whether network, optimiser and schedule are those of its checkpoint, and what they were."""

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spiking_lfp.errors import RunError
from spiking_lfp.training.checkpoint import Checkpoint


def described(network: nn.Module) -> dict[str, str]:
    """Return what each module of a network is beside its weights, by name: constants, rule, mode, frozen parameters.

    Example:
        >>> described(nn.Sequential(nn.Flatten()))
        {'': 'Sequential()', '0': 'Flatten(start_dim=1, end_dim=-1)'}
    """
    found = {}
    for name, module in network.named_modules():
        shown = [f"{type(module).__name__}({module.extra_repr()})"]
        rule = getattr(module, "rule", None)
        if rule is not None and str(rule) not in shown[0]:
            shown.append(f"by {rule}")
        frozen = [each for each, value in module.named_parameters(recurse=False) if not value.requires_grad]
        if frozen:
            shown.append(f"{' and '.join(frozen)} frozen")
        if network.training and not module.training:
            shown.append("in evaluation mode")
        # the address of an object differs from process to process
        found[name] = re.sub(" at 0x[0-9a-f]+", "", ", ".join(shown))
    return found


def check_layers(now: dict[str, str], checkpoint: Checkpoint, folder: Path) -> None:
    """Raise RunError if a network, `described`, is another than that with which the run in `folder` began."""
    for name in checkpoint.layers | now if checkpoint.layers else ():
        was, is_now = (layers.get(name, "nothing") for layers in (checkpoint.layers, now))
        if was != is_now:
            raise RunError(
                f"{folder} was trained with {was} as {f'layer {name}' if name else 'its network'}, which is {is_now} "
                "now: put it back, or train again"
            )


@contextmanager
def convert_misfits(folder: Path) -> Iterator[None]:
    """Raise RunError in place of what torch or our checks raise where a checkpoint does not fit its settings."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"the checkpoint in {folder} does not fit its settings: {reason}") from None


def restore_network(network: nn.Module, checkpoint: Checkpoint, folder: Path) -> None:
    """Load the weights of the checkpoint in `folder`, all finite; raise RunError if they do not fit."""
    with convert_misfits(folder):
        own = network.state_dict()
        _check_names(own, checkpoint.network)
        for name, value in own.items():
            stored = checkpoint.network.get(name)
            if isinstance(stored, Tensor) and stored.dtype != value.dtype:
                raise TypeError(f"{name} is {stored.dtype}, expected {value.dtype}")
            if isinstance(stored, Tensor) and not is_lazy(value) and stored.shape != value.shape:
                raise ValueError(f"{name} is {list(stored.shape)}, expected {list(value.shape)}")
            if isinstance(stored, Tensor) and not bool(stored.isfinite().all()):
                raise ValueError(f"{name} holds NaN or infinity")
        network.load_state_dict(checkpoint.network)


def _check_names(own: Collection[str], stored: Collection[str]) -> None:
    """Raise a ValueError if a checkpoint holds other weights than a network, by their names."""
    strange, missing = ([name for name in one if name not in other] for one, other in ((stored, own), (own, stored)))
    if not strange and not missing:
        return
    # torch.nn.utils.prune keeps a weight by this name, beside its mask
    pruned = any(f"{name}_orig" in strange for name in missing) or any(f"{name}_orig" in missing for name in strange)
    like = "pruned in the same layers as" if pruned else "like"
    found = " and ".join(f"{verb} {_some(names)}" for verb, names in (("has", strange), ("lacks", missing)) if names)
    raise ValueError(f"compared with the network it {found}: give a network {like} that of the run")


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], updates: int) -> None:
    """Load the state of an optimiser after so many updates; raise an error if it cannot be that."""
    own = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in state["param_groups"]] != [group["params"] for group in own]:
        raise ValueError("the optimiser has other parameters")
    optimizer.load_state_dict(state)
    for mine, loaded in zip(own, optimizer.state_dict()["param_groups"], strict=True):
        for name, value in loaded.items():
            is_rate = name in ("lr", "initial_lr")  # the schedule's
            if name in mine and not is_rate and mine[name] != value:
                raise ValueError(f"{name} of the optimiser is {value}, expected {mine[name]}")
            if is_rate and not (isinstance(value, float) and 0 <= value < float("inf")):
                raise ValueError(f"{name} of the optimiser is {value}")
    # what one like it keeps of a parameter
    sample = nn.Parameter(torch.zeros(2))
    sample.grad = torch.zeros(2)
    like: Any = type(optimizer)
    taken = inspect.signature(like).parameters  # AdamW has a default of Adam's that it does not take
    other = like([sample], **{name: value for name, value in optimizer.defaults.items() if name in taken})
    other.step()
    expected = {name: None if value is None else value.shape for name, value in other.state[sample].items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state["state"].items():
        if values.keys() != expected.keys():
            raise ValueError(f"the optimiser keeps {', '.join(values)}, expected {', '.join(expected)}")
        for name, value in values.items():
            if expected[name] is None and value is None:
                continue
            like_parameter = expected[name] == sample.shape
            shape, dtype = (parameters[index].shape, parameters[index].dtype) if like_parameter else ((), value.dtype)
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name} of the optimiser does not fit its parameter")
            if not bool(value.isfinite().all()):
                raise ValueError(f"{name} of the optimiser holds NaN or infinity")
            if name == "step" and float(value) not in range(updates + 1):
                raise ValueError(f"{name} of the optimiser is {float(value)}, expected at most {updates}")


def restore_schedule(schedule: torch.optim.lr_scheduler.LRScheduler, state: dict[str, Any], updates: int) -> None:
    """Load the state of a schedule after so many updates; raise an error if it cannot be that."""
    own = schedule.state_dict()
    if not own.keys() <= state.keys():
        raise ValueError(f"the schedule lacks {', '.join(sorted(own.keys() - state.keys()))}")
    for name, value in own.items():
        if name not in ("last_epoch", "_step_count", "_last_lr") and state[name] != value:
            raise ValueError(f"{name} of the schedule is {state[name]}, expected {value}")
    schedule.load_state_dict(state)
    rates = [group["lr"] for group in schedule.optimizer.param_groups]
    if schedule.last_epoch != updates or state["_step_count"] != updates + 1 or schedule.get_last_lr() != rates:
        raise ValueError(f"the schedule is not that of {updates} updates")
