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
from spiking_lfp.kernels.precision import convolves_in_bfloat16
from spiking_lfp.kernels.product import product
from spiking_lfp.kernels.spikes import PackedSpikes, Window

# rows of a transposed product at a time
CORRELATED_ROWS = 1024
# neurons of a channel up to which the outer product of all windows takes less time in bfloat16 than oneDNN's
SMALL_IMAGE = 64
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
# of a sample, by their number
SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
# the modules that describe synapses
KINDS = (nn.Linear, *CONVOLUTIONS)


@runtime_checkable
class Synapse(Protocol):
    """What a layer needs to know of an `nn.Linear` or a convolution, its weights aside."""

    @property
    def axis(self) -> int:
        """That of the neurons with a bias of their own, among those of the output."""

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
    """The map of an `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d` with zero padding, or of a transposed one.

    There may be any axes before the channels. A signal is run as an image one pixel high.
    """

    in_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    @property
    def axis(self) -> int:
        """That of the channels."""
        return -1 - len(self.kernel_size)

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor | PackedSpikes:
        """Return packed spikes if few inputs spike, unless the kernel has gaps or sees some channels only."""
        plain = self.groups == 1 and set(self.dilation) == {1} and not self.transposed
        return (kernels.pack_spikes(x, known) if plain else None) or x

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `W * x + b`."""
        if isinstance(x, PackedSpikes):
            return kernels.conv_current(x, weight, bias, self._window(x))
        images, kernel = _factors(x.flatten(0, self.axis - 1), weight)
        bias = None if bias is None else bias.to(images.dtype)
        return self._like(torch.convolution(images, kernel, bias, *self._geometry()).to(x.dtype), x)

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return `x` times the convolution of `q` the other way round, and the correlation of `q` with `x`."""
        if isinstance(x, PackedSpikes):
            return kernels.conv_adjoints(x, q, weight, self._window(x), need_input, need_weight)
        merged, images, kernel = _factors(q.flatten(0, self.axis - 1), x.flatten(0, self.axis - 1), weight)
        by_windows = need_weight and merged.dtype != q.dtype and self._is_small(merged)
        wanted = [need_input, need_weight and not by_windows, False]
        down, outer, _ = torch.ops.aten.convolution_backward(merged, images, kernel, None, *self._geometry(), wanted)
        if by_windows:
            outer = self._correlate(merged, images)
        return (
            self._like(down.to(x.dtype), x).mul_(x) if need_input else None,
            outer.to(x.dtype).view_as(weight) if need_weight else None,
        )

    def _is_small(self, q: Tensor) -> bool:
        """Tell whether `_correlate` takes less time with `q` `[N, channels, h, w]` in bfloat16 than oneDNN."""
        plain = self.groups == 1 and set(self.dilation) == {1} and not self.transposed
        return plain and len(self.kernel_size) == 2 and q.shape[2:].numel() <= SMALL_IMAGE

    def _correlate(self, q: Tensor, x: Tensor) -> Tensor:
        """Return `sum q x^T` of images in one product with all windows of `x`, `[out, in, h, w]`."""
        (height, width), padding = self.kernel_size, [side for side in reversed(self.padding) for _ in (0, 1)]
        windows = F.pad(x, padding).permute(0, 2, 3, 1)
        windows = windows.unfold(1, height, self.stride[0]).unfold(2, width, self.stride[1]).permute(0, 1, 2, 4, 5, 3)
        outer = q.permute(1, 0, 2, 3).flatten(1) @ windows.reshape(-1, height * width * self.in_channels)
        return outer.view(-1, height, width, self.in_channels).permute(0, 3, 1, 2)

    def _geometry(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        """Return stride, padding, dilation, transposed, output padding and groups as torch's convolution takes them."""
        one = 1 if len(self.kernel_size) == 1 else 0
        stride, dilation = ([1] * one + list(sides) for sides in (self.stride, self.dilation))
        padding, added = ([0] * one + list(sides) for sides in (self.padding, self._added()))
        return stride, padding, dilation, self.transposed, added, self.groups

    def _like(self, images: Tensor, x: Tensor) -> Tensor:
        """Give `images` `[N, channels, ...]` the axes that `x` has before its channels."""
        if len(self.kernel_size) == 1:
            images = images.squeeze(2)
        return images.view(*x.shape[: self.axis], *images.shape[1:])

    def _window(self, x: PackedSpikes) -> Window:
        return Window(tuple(x.shape[3:]), self.kernel_size, self.stride, self.padding)

    def keeps_sides(self) -> bool:
        """Tell whether the outputs have the sides of the inputs, whatever those are."""
        sides = zip(self.kernel_size, self.dilation, self.padding, strict=True)
        return set(self.stride) == {1} and not any(self._added()) and all(d * (k - 1) == 2 * p for k, d, p in sides)

    def check(self, sample_shape: torch.Size) -> str | None:
        """Accept `[in_channels, ...]` with room for the kernel."""
        geometry = zip(self.kernel_size, self.stride, self.padding, self.dilation, self._added(), strict=True)
        least = [
            1 - (d * (k - 1) - 2 * p + added) // s if self.transposed else d * (k - 1) + 1 - 2 * p
            for k, s, p, d, added in geometry
        ]
        return _expected(self.in_channels, least, sample_shape)

    def _added(self) -> tuple[int, ...]:
        """Return the output padding."""
        return self.output_padding or (0,) * len(self.kernel_size)


@dataclass(frozen=True)
class PaddedConvolution:
    """A convolution of inputs that are padded first, with other values than zeros, or with more on one side.

    A copy of a value contributes for it: the feedback on the value is the sum of theirs.

    Attributes:
        convolution: without padding.
        before: how much is added in front of each axis.
        after: and behind it.
        mode: with what, as torch calls it.
    """

    convolution: Convolution
    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str

    @property
    def axis(self) -> int:
        """That of the channels."""
        return self.convolution.axis

    def inputs(self, x: Tensor, known: PackedSpikes | None) -> Tensor:
        """Return `x`."""
        return x

    def current(self, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `W * x + b`."""
        assert isinstance(x, Tensor)
        return self.convolution.current(self._padded(x), weight, bias)

    def adjoints(
        self, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return what the convolution does, with the feedback of copies at the values they are of."""
        assert isinstance(x, Tensor)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            padded = self._padded(x)
        down, outer = self.convolution.adjoints(q, padded.detach(), weight, need_input, need_weight)
        return torch.autograd.grad(padded, x, down)[0] if down is not None else None, outer

    def _padded(self, x: Tensor) -> Tensor:
        merged = x.flatten(0, self.axis - 1)
        both = (side for sides in zip(reversed(self.before), reversed(self.after), strict=True) for side in sides)
        padded = F.pad(merged, list(both), "constant" if self.mode == "zeros" else self.mode)
        return padded.view(*x.shape[: self.axis], *padded.shape[1:])

    def keeps_sides(self) -> bool:
        """Tell whether the outputs have the sides of the inputs, whatever those are."""
        within = self.convolution
        sides = zip(within.kernel_size, within.dilation, self.before, self.after, strict=True)
        return set(within.stride) == {1} and all(d * (k - 1) == before + after for k, d, before, after in sides)

    def check(self, sample_shape: torch.Size) -> str | None:
        """Accept `[in_channels, ...]` with room for the kernel, and with as much as is copied."""
        copied = {"reflect": 1, "circular": 0}.get(self.mode)  # how much longer than its padding an axis has to be
        within = self.convolution
        geometry = zip(within.kernel_size, within.dilation, self.before, self.after, strict=True)
        least = [
            max(d * (k - 1) + 1 - before - after, 1 if copied is None else max(before, after) + copied)
            for k, d, before, after in geometry
        ]
        return _expected(within.in_channels, least, sample_shape)


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


def _expected(channels: int, least: list[int], sample_shape: torch.Size) -> str | None:
    """Say what sample was expected, or return None if it has these channels and sides at least this long."""
    least = [max(need, 1) for need in least]
    fits = len(sample_shape) == 1 + len(least) and sample_shape[0] == channels
    if fits and all(size >= need for size, need in zip(sample_shape[1:], least, strict=True)):
        return None
    wanted = (f"{name} >= {need}" for name, need in zip(SIDES[len(least)], least, strict=True))
    return f"[{channels}, {', '.join(wanted)}]"


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
    """Describe the linear map of `module`, one of `KINDS`, with this weight."""
    if isinstance(module, nn.Linear):
        return _dense(weight.shape[1])
    layer: Any = module
    kernel = tuple(weight.shape[2:])
    stride, dilation = sides_of(layer.stride, kernel), sides_of(layer.dilation, kernel)
    padding = layer.padding if isinstance(layer.padding, str) else sides_of(layer.padding, kernel)
    if isinstance(module, TRANSPOSED):
        assert not isinstance(padding, str)  # torch knows no words for it
        added = sides_of(layer.output_padding, kernel)
        return _transposed(len(weight), kernel, stride, padding, dilation, layer.groups, added)
    return convolution(
        weight.shape[1] * layer.groups, kernel, stride, padding, dilation, layer.groups, layer.padding_mode
    )


@lru_cache
def _dense(in_features: int) -> Dense:
    return Dense(in_features)


@lru_cache
def _transposed(
    in_channels: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    added: tuple[int, ...],
) -> Convolution:
    return Convolution(in_channels, kernel, stride, padding, dilation, groups, True, added)


@lru_cache
def convolution(
    in_channels: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
    mode: str = "zeros",
) -> Convolution | PaddedConvolution:
    """Describe a convolution by the arguments that torch has for it."""
    none = (0,) * len(kernel)
    before = after = none if isinstance(padding, str) else padding
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before, after = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    if mode == "zeros" and before == after:
        return Convolution(in_channels, kernel, stride, before, dilation, groups)
    return PaddedConvolution(Convolution(in_channels, kernel, stride, none, dilation, groups), before, after, mode)


def sides_of(size: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Return a number for each side of a kernel, from one for all or one for each."""
    sides = (size,) if isinstance(size, int) else tuple(size)
    return sides * (len(kernel) // len(sides))


def _factors(*tensors: Tensor) -> list[Tensor]:
    """Lay out images and kernels for a convolution, in the precision that is asked for."""
    half = convolves_in_bfloat16(tensors[0])
    return [_channels_last(tensor.bfloat16() if half else tensor) for tensor in tensors]


def _channels_last(images: Tensor) -> Tensor:
    """Lay out images and volumes as convolutions are fastest: on CPU about twice as fast as channels first.

    Signals `[N, C, L]` become images one pixel high.
    """
    if images.dim() == 3:
        images = images.unsqueeze(2)
    return images.contiguous(memory_format=torch.channels_last if images.dim() == 4 else torch.channels_last_3d)
