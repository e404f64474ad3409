"""Rounding of weights that keeps sums, not single weights, close: what one loses, the others make up for.

The weights of an output are rounded one after the other. What rounding changes for the inputs of the calibration is
divided among the weights that are still to come, so that the mean square error of the sum is least (GPTQ, Frantar et
al. 2023, arXiv 2210.17323, alg. 1). Neighbouring pixels are so much alike that errors nearly cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# beyond so many inputs of an output their moments take gigabytes, and weights are rounded one by one
MOST_INPUTS = 4096
# part of the mean moment that is added to each, so that directions that hardly occur are left alone
_DAMPING = 0.01
_BLOCK = 128


def second_moments(synapse: nn.Linear | nn.Conv2d, inputs: Tensor, levels: int) -> Tensor | None:
    """Return the second moments of the inputs of an output, and of a last one that is always 1.

    Args:
        synapse: that takes them.
        inputs: integers `[N, *in_shape]`, the same in every step, or `[T, N, *in_shape]`.
        levels: the integer that stands for 1.

    Returns:
        float64 `[groups, inputs + 1, inputs + 1]`; None if there are too many inputs.
    """
    groups = synapse.groups if isinstance(synapse, nn.Conv2d) else 1
    size = synapse.weight[0].numel()
    if size > MOST_INPUTS:
        return None
    total = torch.zeros(groups, size + 1, size + 1, dtype=torch.float64)
    count = 0
    for x in _batches(synapse, inputs):
        rows = torch.cat([x / levels, x.new_ones(groups, len(x[0]), 1)], 2)
        total += (rows.transpose(1, 2) @ rows).double()
        count += len(rows[0])
    # a product in float32 is not everywhere symmetric to the last bit, as its Cholesky factor takes it to be
    return (total + total.mT) / (2 * count)


def _batches(synapse: nn.Linear | nn.Conv2d, inputs: Tensor) -> Iterator[Tensor]:
    """Yield what outputs see of the inputs, `[groups, places, inputs]`, a few samples at a time."""
    constant = inputs.dim() == (2 if isinstance(synapse, nn.Linear) else 4)
    for step in [inputs] if constant else inputs:
        for x in step.split(100):
            if isinstance(synapse, nn.Linear):
                yield x[None].float()
                continue
            kernel, padding = synapse.kernel_size, _padding(synapse)
            seen = functional.unfold(x.float(), kernel, 1, padding, synapse.stride)
            yield seen.view(len(x), synapse.groups, -1, seen.shape[2]).permute(1, 0, 3, 2).flatten(1, 2)


def _padding(synapse: nn.Conv2d) -> tuple[int, ...]:
    if not isinstance(synapse.padding, str):
        return synapse.padding
    return tuple(side // 2 if synapse.padding == "same" else 0 for side in synapse.kernel_size)


@dataclass(frozen=True)
class Rounding:
    """Rounds the weights of a layer, for any scale.

    Attributes:
        size: number of the weights of an output.
        orders: of each group, in which its weights are rounded; behind them may be the bias, which stays real.
        shares: of each group, in what parts the error of a weight goes to those after it, upper triangular.
    """

    size: int
    orders: tuple[Tensor, ...]
    shares: tuple[Tensor, ...]

    @classmethod
    def of(cls, moments: Tensor, has_bias: bool) -> "Rounding":
        """Prepare it with what `second_moments` returns."""
        size = moments.shape[1] - 1
        orders, shares = [], []
        for each in moments if has_bias else moments[:, :size, :size]:
            diagonal = each.diagonal()
            damped = each + torch.diag((_DAMPING * diagonal[:size].mean()).clamp(min=1e-12).expand(len(each)))
            # the inputs that matter most first, since later ones can still make up for them
            first = diagonal[:size].argsort(descending=True, stable=True)
            orders.append(torch.cat([first, torch.arange(size, len(each))]))
            shares.append(torch.linalg.cholesky(torch.linalg.inv(damped[orders[-1]][:, orders[-1]]), upper=True))
        return cls(size, tuple(orders), tuple(shares))

    def __call__(self, weight: Tensor, bias: Tensor | None, scale: Tensor, most: int) -> tuple[Tensor, Tensor | None]:
        """Return weights that are integers times their scale, and the bias that goes with them.

        Args:
            weight: real, `[O, ...]`.
            bias: real, `[O]`, or None.
            scale: real value of one unit of each output's weights, `[O]`.
            most: largest integer.
        """
        rows = weight.flatten(1).double()
        if bias is not None:
            rows = torch.cat([rows, bias.double()[:, None]], 1)
        groups = len(self.orders)
        parts = zip(rows.chunk(groups), scale.double().chunk(groups), self.orders, self.shares, strict=True)
        found = torch.cat([self._rounded(part, units[:, None], most, *how) for part, units, *how in parts])
        whole = found[:, : self.size].to(weight.dtype).view_as(weight)
        return whole, None if bias is None else found[:, self.size].to(bias.dtype)

    def _rounded(self, rows: Tensor, scale: Tensor, most: int, order: Tensor, share: Tensor) -> Tensor:
        rows = rows[:, order]
        # synapses that were pruned, or that are holes of a kernel, do not come back
        there = rows != 0
        for start in range(0, self.size, _BLOCK):
            end = min(start + _BLOCK, self.size)
            errors = torch.zeros(len(rows), end - start, dtype=rows.dtype)
            for k in range(start, end):
                near = (rows[:, k : k + 1] / scale).round().clamp(-most, most) * scale * there[:, k : k + 1]
                error = (rows[:, k : k + 1] - near) / share[k, k]
                rows[:, k + 1 : end] -= error * share[k, k + 1 : end]
                rows[:, k : k + 1], errors[:, k - start : k - start + 1] = near, error
            rows[:, end:] -= errors @ share[start:end, end:]
        found = torch.empty_like(rows)
        found[:, order] = rows
        return found
