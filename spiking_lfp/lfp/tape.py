"""What runs backwards on autograd's tape: feedback, or a gradient that somebody took for it.

Our Functions read what arrives as feedback, whoever sent it. A loss sends its gradient, which is minus what would teach
its network; other operations hand on gradients, where feedback would follow a rule.
"""

import inspect
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.errors import FeedbackWarning

# names in autograd's graph of operations that only move, repeat, select or join values: feedback follows their path
ROUTING = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Transpose|Permute|T|Expand|Repeat|Cat|Stack|Split|SplitWithSizes"
    r"|Chunk|Slice|Select|Index|IndexSelect|Gather|Narrow|Unbind|Flip|Roll|Clone|Alias|ToCopy|ConstantPadNd"
    r"|ReflectionPad[123]D|ReplicationPad[123]D|PixelShuffle|PixelUnshuffle|UpsampleNearest[123]D|AsStrided"
    r"|MaxPool[23]DWithIndices|AdaptiveMaxPool[23]D|Maximum|Amax|Max|Where|MaskedFill)Backward\d+"
    r"|torch::autograd::AccumulateGrad"
)
# one for each propagate under way: autograd works through the tape of a GPU on a thread of its own
_rewarded: list[None] = []
_warned = False


@contextmanager
def rewarded() -> Iterator[None]:
    """Say that what runs backwards inside the context is a reward."""
    _rewarded.append(None)
    try:
        yield
    finally:
        _rewarded.pop()


def expect_reward(layer: str) -> None:
    """Warn, once in a process, if what a layer learns from now is the gradient of a loss; call it in `backward`.

    A reward given to `backward` in so many words, or gradients asked for inputs only, are what somebody wanted.
    """
    global _warned
    if _rewarded or _warned:
        return
    call = next((frame for frame in _frames() if _sends_a_loss(frame)), None)
    if call is None:
        return
    torch_folder = str(Path(torch.__file__).parent)
    while call.f_back is not None and call.f_code.co_filename.startswith(torch_folder):
        call = call.f_back
    # raised, where warnings are errors: then once more the next time
    warnings.warn_explicit(
        f"layer {layer} learns from the gradient of a loss, by backward(), but takes it as a reward, so that it learns "
        "the opposite: call propagate(outputs, reward), or propagate(-loss) in place of loss.backward()",
        FeedbackWarning,
        call.f_code.co_filename,
        call.f_lineno,
    )
    _warned = True


# the arguments with what runs backwards and where from
_ENTRIES = {
    inspect.unwrap(torch.autograd.backward).__code__: ("tensors", "grad_tensors"),
    inspect.unwrap(torch.autograd.grad).__code__: ("outputs", "grad_outputs"),
}


def _frames() -> Iterator[FrameType]:
    """Yield the calls of torch.autograd that are under way here, or, on a thread of autograd's own, anywhere."""
    here = list(_entries(sys._getframe(1)))
    if here:
        yield from here
    else:
        for frame in sys._current_frames().values():
            yield from _entries(frame)


def _entries(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        if frame.f_code in _ENTRIES:
            yield frame
        frame = frame.f_back


def _sends_a_loss(frame: FrameType) -> bool:
    """Whether this call of torch.autograd sends the gradient of a number to parameters, as `loss.backward()` does."""
    roots, gradients = (frame.f_locals[name] for name in _ENTRIES[frame.f_code])
    if any(each is not None for each in _listed(gradients)):
        return False
    wanted = frame.f_locals["inputs"]
    if wanted is not None:
        return any(isinstance(each, nn.Parameter) for each in _listed(wanted))
    leaves = (getattr(node, "variable", None) for node in nodes_of(_listed(roots)))
    return not any(leaf is not None and not isinstance(leaf, nn.Parameter) for leaf in leaves)


def _listed(values: Any) -> list[Any]:
    """Return one value or several as torch.autograd takes them."""
    if isinstance(values, Mapping):
        return list(values.values())
    return list(values) if isinstance(values, list | tuple) else [values]


def nodes_of(outputs: Iterable[Any]) -> Iterator[Any]:
    """Yield the operations in autograd's graph that lead to `outputs`, tensors or edges, once each."""
    stack = [each.grad_fn if isinstance(each, Tensor) else getattr(each, "node", None) for each in outputs]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node is None:
            continue
        yield node
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                stack.append(before)
