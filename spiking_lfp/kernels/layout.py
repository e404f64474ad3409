"""How kernels see tensors: samples flat, with their channels last, which is where convolutions are fastest.

A sample with several axes has its channels first, `[C, ...]`: a signal, an image, a volume.
"""

from collections.abc import Sequence

from torch import Tensor


def channels_last(tensor: Tensor, lead: int) -> Tensor:
    """Return `tensor` `[*lead, *n]` laid out as kernels have it: contiguous, with its channels last."""
    return show_channels_first(show_channels_last(tensor.detach(), lead).contiguous(), lead)


def empty_channels_last(shape: Sequence[int], like: Tensor) -> Tensor:
    """Make a packed tensor `[T, B, *n]`."""
    steps, batch, *neurons = shape
    order = [*neurons[1:], *neurons[:1]]
    return show_channels_first(like.new_empty((steps, batch, *order)), 2)


def flat(tensor: Tensor, lead: int) -> Tensor:
    """View a tensor as `[*lead, neurons]`, copied only if it is not packed."""
    return show_channels_last(channels_last(tensor, lead), lead).flatten(lead)


def show_channels_last(tensor: Tensor, lead: int) -> Tensor:
    """Show `[*lead, C, ...]` as `[*lead, ..., C]`, tensors with one axis or none after `lead` as they are."""
    return tensor.movedim(lead, -1) if tensor.dim() > lead + 1 else tensor


def show_channels_first(tensor: Tensor, lead: int) -> Tensor:
    """Undo `show_channels_last`."""
    return tensor.movedim(-1, lead) if tensor.dim() > lead + 1 else tensor
