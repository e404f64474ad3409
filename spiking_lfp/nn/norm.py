"""Batch normalisation between a synapse and its neurons, which LFP meets folded into the synapse.

With `z = W x + b` and the running mean and variance of `z`, the neurons get

    I = gamma * (z - mean) / sqrt(variance + eps) + beta = W' x + b'        W' = a W,  b' = beta + a (b - mean)

with `a = gamma / sqrt(variance + eps)` of each output. To LFP that is a synapse like any other: `W' x` and `b'` are
what a neuron adds up, so feedback, by any rule, is that of the network after folding. The parameters beneath learn as
the weights that they are (LFP eq. 4), for `q` of the neuron:

    d_W = sign(a) |W| sum q x^T         W' moves as if it learned itself, whatever the size of W
    d_gamma = |gamma| sum q (z - mean) / sqrt(variance + eps)         one weight, of the normalised input
    d_beta = |beta| sum q         a bias

Training uses the running statistics too, those of the batches before, not those of its own batch: what is trained is
what is evaluated and exported, the spikes of a sample do not depend on the others, and LFP asks for no derivative of
statistics. The first batch sets them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.functions import FoldFunction
from spiking_lfp.lfp.reading import read_synapse
from spiking_lfp.lfp.synapses import Convolution, Synapse

# values of a current that are summed up at a time, so that they stay in the cache
SUMMED = 2**16
# whether the samples that run count for statistics of several processes
_counts: ContextVar[bool] = ContextVar("spiking_lfp_counts", default=True)


class ThresholdBatchNorm(_BatchNorm):
    """Batch normalisation as deep spiking networks start it (tdBN; Zheng et al. 2021), along any number of axes.

    torch's own, but gamma starts at `alpha * threshold`, so that currents are as large as the threshold is. Beta starts
    at 0, where LFP leaves it, as it does any weight of exactly 0: give it other values to let it learn. Give it to a
    layer as its `norm`; on inputs of its own it does what `nn.BatchNorm1d`, `2d` and `3d` do.

    Args:
        num_features: outputs of the synapse: neurons of a dense layer, channels of a convolution.
        threshold: of the neurons.
        alpha: size of the currents in thresholds.
        arguments: others of `nn.BatchNorm2d`, as `eps` and `momentum`.

    Raises:
        UsageError: unless `threshold` and `alpha` are greater than 0: a gamma of exactly 0 never learns.

    Example:
        >>> layer = LIF(nn.Conv2d(1, 8, 3, bias=False), threshold=0.5, norm=ThresholdBatchNorm(8, threshold=0.5))
        >>> layer(torch.rand(10, 4, 1, 8, 8)).shape
        torch.Size([10, 4, 8, 6, 6])
    """

    def __init__(self, num_features: int, threshold: float = 1.0, alpha: float = 1.0, **arguments: Any) -> None:
        if not (0 < threshold < float("inf") and 0 < alpha < float("inf")):
            raise UsageError(f"threshold and alpha must be finite and greater than 0, found {threshold} and {alpha}")
        self.threshold, self.alpha = threshold, alpha
        super().__init__(num_features, **arguments)

    def reset_parameters(self) -> None:
        """Set gamma to `alpha * threshold`, and what else there is as torch does."""
        super().reset_parameters()
        if self.affine:
            nn.init.constant_(self.weight, self.alpha * self.threshold)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected [N, C, ...], found {list(input.shape)}")


def normalisation_of(norm: nn.Module, synapse: nn.Module) -> _BatchNorm:
    """Return `norm` if it can stand behind `synapse`.

    Raises:
        UsageError: if it is no batch normalisation of torch, of another size, or without running statistics; and for
            what would happen in a call, since it is folded and not called: hooks, parametrizations and pruning.
    """
    own_forward = type(norm).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward) or "forward" in vars(norm)
    if not isinstance(norm, _BatchNorm) or own_forward:
        raise UsageError(f"norm must be a batch normalisation of torch or ThresholdBatchNorm, found {norm}")
    if norm.running_mean is None or norm.running_var is None:
        raise UsageError(
            f"{type(norm).__name__} keeps no running statistics, by which it would be folded: use "
            "track_running_stats=True"
        )
    outputs = synapse.out_features if isinstance(synapse, nn.Linear) else synapse.out_channels
    if norm.num_features != outputs:
        raise UsageError(f"norm has {norm.num_features} features, but {synapse} has {outputs} outputs")
    hooks = (norm._forward_pre_hooks, norm._forward_hooks, norm._backward_pre_hooks, norm._backward_hooks)
    if any(hooks) or is_parametrized(norm):
        raise UsageError(
            "the norm has hooks or computes its parameters from others (pruning, a parametrization), which would not "
            "run, since the layer folds it and does not call it: remove them, or register hooks on the layer"
        )
    return norm


def folded_weights(synapse: Synapse, weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """Return `W'` and `b'`; minus the update of one and minus `sum q` of the other go back to what they are made of."""
    inverse = (norm.running_var + norm.eps).rsqrt()
    groups = synapse.groups if isinstance(synapse, Convolution) and synapse.transposed else 0
    found: tuple[Tensor, Tensor] = FoldFunction.apply(
        weight, bias, norm.weight, norm.bias, norm.running_mean, inverse, groups
    )
    return found


def folded(module: nn.Module, norm: nn.Module) -> nn.Module:
    """Return a copy of a synapse that does what the two do one after the other, at the running statistics."""
    layer = deepcopy(module)
    with torch.no_grad():
        made = folded_weights(*read_synapse(module), norm)
    for name, value in zip(("weight", "bias"), made, strict=True):
        parts = (each for part in (module, norm) if (each := getattr(part, name)) is not None)
        learns = any(each.requires_grad for each in parts)
        setattr(layer, name, nn.Parameter(value.contiguous(), requires_grad=learns))
    return layer


def in_backward() -> bool:
    """Tell whether this runs while feedback goes back, as the second run of a checkpoint does."""
    return torch._C._current_graph_task_id() != -1


@contextmanager
def not_counted() -> Iterator[None]:
    """Let what runs inside the context take part in statistics of several processes without samples of its own."""
    token = _counts.set(False)
    try:
        yield
    finally:
        _counts.reset(token)


def measure(norm: nn.Module, currents: Tensor, axis: int) -> None:
    """Set the running statistics to those of the first `currents` `W x + b` that the normalisation meets."""
    _move(norm, *_moments(currents, axis), 1.0)


class Statistics:
    """Lets the running statistics follow the currents that the normalisation gave.

    Args:
        norm: whose statistics they are.
        axis: of the outputs, from the end.
    """

    def __init__(self, norm: Any, axis: int) -> None:
        self.norm, self.axis = norm, axis

    def __call__(self, currents: Tensor, unit: Tensor | None) -> None:
        """Follow `currents` `[time, B, *n]`, in units of so many to one `[O]`; of one if None."""
        norm, (mean, variance) = self.norm, _moments(currents, self.axis)
        if unit is not None:
            mean, variance = mean / unit, variance / unit**2
        # what the synapse gave; nothing is known of one that the normalisation multiplied by 0
        scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = 0 if norm.bias is None else norm.bias
        mean = torch.where(scale != 0, (mean - shift) / scale + norm.running_mean, norm.running_mean)
        variance = torch.where(scale != 0, variance / scale**2, norm.running_var)
        part = 1 / (norm.num_batches_tracked + 1).double() if norm.momentum is None else norm.momentum
        _move(norm, mean, variance, part)


def _move(norm: Any, mean: Tensor, variance: Tensor, part: float | Tensor) -> None:
    """Move the running statistics by a part of the way to these."""
    for kept, new in ((norm.running_mean, mean), (norm.running_var, variance)):
        kept.lerp_(new.to(kept.dtype), torch.as_tensor(part, dtype=kept.dtype, device=kept.device))
    norm.num_batches_tracked += 1


def _moments(currents: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each output, those of all processes where they train one network."""
    rows = currents.movedim(axis, -1).flatten(0, -2)
    parts = rows.split(max(1, SUMMED // rows.shape[1])) if rows.device.type == "cpu" else [rows]
    # around values of the first row, so that squares are as small as deviations
    around = rows[0].clone()
    sums = [(part.sum(0), part.square().sum(0)) for part in (each - around for each in parts)]
    total, squares = (torch.stack(each).double().sum(0) for each in zip(*sums, strict=True))
    count = torch.full_like(total, len(rows))
    mean = total / count
    squares = squares + count * (around + 2 * mean) * around
    seen = torch.stack([count, total + count * around, squares])
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(seen if _counts.get() else seen.zero_())
    count, total, squares = seen
    mean = total / count
    # unbiased, as torch keeps it
    return mean, (squares / count - mean**2).clamp(min=0) * (count / (count - 1).clamp(min=1))
