"""Synapses: the linear maps between layers, and their adjoints; no rule, no neuron.

Shapes: T steps, B batch, `*i` and `*o` are the input and output shapes of one sample.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp import kernels
from spiking_lfp.errors import UsageError
from spiking_lfp.kernels.product import product
from spiking_lfp.kernels.spikes import PackedSpikes, Window

# rows of a transposed product at a time
CORRELATED_ROWS = 1024
# the modules that describe synapses
KINDS = (nn.Linear, nn.Conv2d)


@runtime_checkable
class Synapse(Protocol):
    """What a layer needs to know of an `nn.Linear` or `nn.Conv2d`, its weights aside.

    Attributes:
        axis: that of the neurons with a bias of their own, among those of the output.
    """

    axis: ClassVar[int]

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor | PackedSpikes:
        """Return `x` `[T, B, *i]` as `current` and `adjoints` take it: as packed spikes, if products with those pay.

        Its spikes are `known` if the layer that wrote `x` packed them.
        """

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `W x + b`, `[T, B, *o]`."""

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x * (W^T q)`, `[T, B, *i]`, and `sum q x^T`, shaped like `weight`; None for what is not needed."""

    def check(self, sample_shape: torch.Size) -> str | None:
        """Say what `*i` was expected, or return None if `sample_shape` fits."""


@dataclass(frozen=True)
class Dense:
    """The map of an `nn.Linear`; there may be any axes before the features."""

    axis: ClassVar[int] = -1
    in_features: int

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor | PackedSpikes:
        """Return packed spikes if few inputs spike."""
        return kernels.pack_spikes(x, known) or x

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `W x + b`."""
        if isinstance(x, PackedSpikes):
            return kernels.dense_current(x, weight, bias)
        rows = x.reshape(-1, self.in_features)
        current = kernels.sparse_current(rows, weight, bias)
        return self._like(product(rows, weight, bias) if current is None else current, x)

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x * (W^T q)` and `sum q x^T`."""
        if isinstance(x, PackedSpikes):
            return kernels.dense_adjoints(x, q, weight, need_input, need_weight)
        merged, rows = q.reshape(-1, len(weight)), x.reshape(-1, self.in_features)
        # first, while the larger result does not exist yet
        outer = None
        if need_weight:
            outer = kernels.sparse_outer(merged, rows, weight)
            outer = _correlate(merged, rows) if outer is None else outer
        return self._like(product(merged, weight.T), x).mul_(x) if need_input else None, outer

    @staticmethod
    def _like(rows: Tensor, x: Tensor) -> Tensor:
        """Give `rows` `[N, features]` the axes that `x` has before its features."""
        return rows.view(*x.shape[:-1], rows.shape[1])

    def check(self, sample_shape: torch.Size) -> str | None:
        """Accept `[in_features]`."""
        return None if tuple(sample_shape) == (self.in_features,) else f"{self.in_features} features"


@dataclass(frozen=True)
class Convolution:
    """The map of an `nn.Conv2d` with zero padding; there may be any axes before the channels."""

    axis: ClassVar[int] = -3
    in_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor | PackedSpikes:
        """Return packed spikes if few inputs spike, unless the kernel has gaps or sees some channels only."""
        return (kernels.pack_spikes(x, known) if self.dilation == (1, 1) and self.groups == 1 else None) or x

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `W * x + b`."""
        if isinstance(x, PackedSpikes):
            return kernels.conv_current(x, weight, bias, self._window(x))
        images, weight = _channels_last(x.flatten(0, -4)), _channels_last(weight)
        out = F.conv2d(images, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return self._like(out, x)

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x` times the transposed convolution of `q`, and the correlation of `q` with `x`."""
        if isinstance(x, PackedSpikes):
            return kernels.conv_adjoints(x, q, weight, self._window(x), need_input, need_weight)
        images = [_channels_last(tensor) for tensor in (q.flatten(0, -4), x.flatten(0, -4), weight)]
        window = [self.stride, self.padding, self.dilation, False, [0, 0], self.groups]
        wanted = [need_input, need_weight, False]
        down, outer, _ = torch.ops.aten.convolution_backward(*images, None, *window, wanted)
        return self._like(down, x).mul_(x) if need_input else None, outer

    @staticmethod
    def _like(images: Tensor, x: Tensor) -> Tensor:
        """Give `images` `[N, channels, height, width]` the axes that `x` has before its channels."""
        return images.view(*x.shape[:-3], *images.shape[1:])

    def _window(self, x: PackedSpikes) -> Window:
        image = x.shape[3], x.shape[4]
        return Window(image, self.kernel_size, self.stride, self.padding)

    def check(self, sample_shape: torch.Size) -> str | None:
        """Accept `[in_channels, height, width]` with room for the kernel."""
        reach = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(self.dilation, self.kernel_size, self.padding, strict=True)]
        fits = len(sample_shape) == 3 and sample_shape[0] == self.in_channels
        if fits and all(size >= need for size, need in zip(sample_shape[1:], reach, strict=True)):
            return None
        return f"[{self.in_channels}, height >= {max(reach[0], 1)}, width >= {max(reach[1], 1)}]"


@dataclass(frozen=True)
class LinearMap:
    """Any map that is linear in its inputs and in its weights; torch's own derivative leads back through it.

    Attributes:
        run: from inputs, weight and bias to the neurons, their channels on the second axis. What has no weights of its
            own, such as a mean, is given a weight of 1 to multiply with.
    """

    axis: ClassVar[int] = 1
    run: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor:
        """Return `x`."""
        return x

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what `run` does."""
        assert isinstance(x, Tensor)
        return self.run(x, weight, bias)

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x` times the derivative of the map in its inputs, and its derivative in the weights."""
        assert isinstance(x, Tensor)
        if not (need_input or need_weight):
            return None, None
        with torch.enable_grad():
            x, weight = x.detach().requires_grad_(need_input), weight.detach().requires_grad_(need_weight)
            out = self.run(x, weight, None)
        found = iter(torch.autograd.grad(out, [each for each in (x, weight) if each.requires_grad], q))
        return next(found).mul(x.detach()) if need_input else None, next(found) if need_weight else None

    def check(self, sample_shape: torch.Size) -> None:
        """Accept everything; `run` knows."""


def is_constant(x: Tensor) -> bool:
    """Tell whether `x` `[T, B, *i]` is one tensor seen in every step, as `encoders.constant` makes it."""
    return x.shape[0] > 1 and x.stride(0) == 0


def sequence(merged: Tensor, like: Tensor) -> Tensor:
    """Split the merged first axis into time and batch again, those of `like`."""
    return merged.view(*like.shape[:2], *merged.shape[1:])


def _correlate(q: Tensor, x: Tensor) -> Tensor:
    """Return `sum_N q x^T`, part by part: the library copies both factors of a transposed product."""
    first, *rest = zip(q.split(CORRELATED_ROWS), x.split(CORRELATED_ROWS), strict=True)
    total = product(first[0].T, first[1].T)
    for q_part, x_part in rest:
        total += product(q_part.T, x_part.T)
    return total


def synapse_of(module: nn.Module, weight: Tensor) -> Synapse:
    """Describe the linear map of `module`, one of `KINDS`, with this weight.

    Raises:
        UsageError: if it is no `nn.Linear` or zero-padded `nn.Conv2d`.
    """
    if isinstance(module, nn.Linear):
        return _dense(weight.shape[1])
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise UsageError(f"Conv2d with padding_mode {module.padding_mode!r} is not supported: use 'zeros'")
    padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
    return _convolution(weight.shape, _pair(module.stride), padding, _pair(module.dilation), module.groups)


@lru_cache
def _dense(in_features: int) -> Dense:
    return Dense(in_features)


@lru_cache
def _convolution(
    shape: torch.Size, stride: tuple[int, int], padding: tuple[int, int] | str, dilation: tuple[int, int], groups: int
) -> Convolution:
    kernel = _pair(shape[2:])
    return Convolution(shape[1] * groups, kernel, stride, _padding(padding, kernel, dilation), dilation, groups)


def _padding(padding: tuple[int, int] | str, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(n % 2 for n in total):
            raise UsageError(
                f"Conv2d with padding 'same' and kernel size {kernel} pads unevenly: use an odd kernel or numbers"
            )
        return (total[0] // 2, total[1] // 2)
    assert not isinstance(padding, str)  # torch knows no other word
    return padding


def _channels_last(images: Tensor) -> Tensor:
    """Lay out images as convolutions are fastest: on CPU about 1.7 times faster than channels first."""
    return images.contiguous(memory_format=torch.channels_last)


def _pair(values: Any) -> tuple[int, int]:
    """Return height and width of what may be one number for both."""
    height, width = (values, values) if isinstance(values, int) else tuple(values) * (2 // len(values))
    return height, width
