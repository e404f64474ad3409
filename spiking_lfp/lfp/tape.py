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
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.errors import FeedbackWarning, UsageError

# names in autograd's graph of operations that only move, repeat, select or join values: feedback follows their path
ROUTING = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Transpose|Permute|T|Rot90|Expand|Repeat|Cat|Stack|BlockDiag|Split"
    r"|SplitWithSizes|Chunk|Slice|Select|MaskedSelect|Index|IndexSelect|IndexCopy|IndexPut|Gather|Scatter|Take|Narrow"
    r"|Diagonal|Unbind|Unfold|Im2Col|Flip|Roll|Clone|Alias|ToCopy|ConstantPadNd|ReflectionPad[123]D|ReplicationPad[123]D"
    r"|PixelShuffle|PixelUnshuffle|ChannelShuffle|UpsampleNearest(Exact)?[123]D|AsStrided|MaxPool[23]DWithIndices"
    r"|AdaptiveMaxPool[23]D|MaxUnpool[23]D|Maximum|Minimum|Amax|Amin|Max|Min|Cummax|Cummin|Sort|Topk|Kthvalue|Median"
    r"|Where|MaskedFill|Tril|Triu)Backward\d+"
    r"|torch::autograd::(AccumulateGrad|CopyBackwards)"
)
# a sum in plain torch hands on all of its feedback to each of its terms; slices are mostly assigned to
BETWEEN_LAYERS = re.compile(rf"{ROUTING.pattern}|AddBackward\d+|torch::autograd::CopySlices")
# a reward for what is linear in the outputs is one for the outputs
AT_THE_END = re.compile(rf"{BETWEEN_LAYERS.pattern}|(Sum|Mean|Sub|Rsub|Neg|Mul|Div)Backward\d+")
ANYTHING = re.compile(".*")
# the module of the identity to which torch ties backward hooks of modules
HOOKS = "torch.nn.modules._functions"
# whether a composite runs the network, which meets operations itself
in_composite: ContextVar[bool] = ContextVar("spiking_lfp_in_composite", default=False)
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


# ---------------------------------------------------------------- operations that hand on gradients


def check_below(layer: str, inputs: Iterable[Tensor]) -> None:
    """Refuse inputs of a layer that come from what learns by way of operations that hand on gradients, not feedback.

    Every layer with parameters checks its own, so that one operation or two are looked at.

    Raises:
        UsageError: with the layer's name and torch's name of the operation.
    """
    for tensor in inputs:
        node = tensor.grad_fn
        learned = isinstance(tensor, nn.Parameter) and tensor.requires_grad
        if (node is None and not learned) or is_layer(node) or in_composite.get():
            continue
        found = tensor if learned else _strange(node, BETWEEN_LAYERS)
        if isinstance(found, Tensor):
            raise UsageError(
                f"layer {layer}: a parameter of shape {list(found.shape)} is among its inputs, where LFP has no update "
                "for it: make it a buffer, or the weight of a layer of its own"
            )
        if found is not None:
            raise UsageError(
                f"layer {layer}: between it and what learns below the network runs {operation(found)} (torch's name), "
                f"which hands on a gradient where LFP hands on feedback: {_WAYS_OUT}"
            )


def check_outputs(outputs: Tensor) -> None:
    """Refuse outputs that come from the network's layers by way of operations that hand on gradients, not feedback.

    One number may be computed in any way, but not with parameters.
    """
    node = outputs.grad_fn
    if node is None or is_layer(node):
        return
    found = _strange(node, ANYTHING if outputs.numel() == 1 else AT_THE_END)
    if isinstance(found, Tensor):
        raise UsageError(
            f"a parameter of shape {list(found.shape)} takes part in the outputs outside of the layers of this "
            f"package, and would learn the opposite: {_WAYS_OUT}"
        )
    if found is not None:
        raise UsageError(
            f"between the outputs and the layers below lies {operation(found)} (torch's name), which hands on a "
            "gradient where LFP hands on feedback: reward what the last layer returns, or a number that is to grow, as "
            f"propagate(-loss); or {_WAYS_OUT}"
        )


def check_way_to(x: Tensor, outputs: Tensor) -> None:
    """Refuse outputs to which `x` comes by way of operations that hand on gradients, or not at all.

    Raises:
        UsageError: with torch's name of the operation.
    """
    # a node, with whether a layer was met and the strange operation that was
    stack: list[tuple[Any, bool, Any]] = [(outputs.grad_fn, False, None)]
    seen: set[tuple[Any, bool, bool]] = set()
    found = False
    while stack:
        node, below, strange = stack.pop()
        if node is None or (node, below, strange is None) in seen:
            continue
        seen.add((node, below, strange is None))
        if getattr(node, "variable", None) is x:
            if strange is not None:
                raise UsageError(
                    f"between the outputs and the inputs the network runs {operation(strange)} (torch's name), which "
                    "hands on a gradient where LFP hands on feedback: run it before, and give its result; or "
                    f"{_WAYS_OUT}"
                )
            found = True
        by_torch = getattr(_function(node), "__module__", "").startswith("torch.")
        if strange is None and not by_torch and not hands_on(node, BETWEEN_LAYERS if below else AT_THE_END):
            strange = node
        stack += [(before, below or is_layer(node), strange) for before, _ in node.next_functions]
    if not found:
        raise UsageError(
            "no feedback comes back to the inputs: the network detaches them, compares or rounds them, or runs inside "
            "torch.no_grad(): give it what its first layer takes"
        )


_WAYS_OUT = (
    "use layers of this package (LIF, Affine, AvgPool2d, Dropout, add), or run the network inside "
    "Composite().applied(network), which knows linear layers, activations, sums and means"
)


def hands_on(node: Any, allowed: re.Pattern[str] = ROUTING) -> bool:
    """Whether an operation in autograd's graph hands on feedback as it does: ours, or one that only moves values."""
    if _function(node) is not None:
        return is_ours(node)
    if allowed is BETWEEN_LAYERS and node.name().startswith("AddBackward"):
        return bool(getattr(node, "_saved_alpha", 1) == 1)  # torch.add(a, b, alpha=-1) is no sum of both
    if allowed.fullmatch(node.name()):
        return True
    masks = (node._saved_self, node._saved_other) if node.name().startswith("MulBackward") else ()
    return any(getattr(mask, "dtype", None) is torch.bool for mask in masks)


def is_ours(node: Any) -> bool:
    """Whether it is an autograd Function of this package, of hooks, or of the user and says it `carries_feedback`."""
    function = _function(node)
    known = function is not None and function.__module__.startswith(("spiking_lfp.", HOOKS))
    return known or getattr(function, "carries_feedback", False)


def operation(node: Any) -> str:
    """Return the name of an operation from that of its node in autograd's graph."""
    name: str = node.name()
    return name.rpartition(":")[2].rstrip("0123456789").removesuffix("Backward")


def _function(node: Any) -> Any:
    """Return the class of an autograd Function written in Python, or None."""
    return getattr(type(node), "_forward_cls", None)


def is_layer(node: Any) -> bool:
    """Whether it is the Function of a layer with parameters, which has checked what is below."""
    return getattr(_function(node), "is_layer", False)


def _strange(node: Any, allowed: re.Pattern[str]) -> Any:
    """Return the first operation on a path to a layer or a parameter that is not allowed, or such a parameter."""
    stack, seen = [(node, None)], set()
    while stack:
        node, strange = stack.pop()
        if node is None or (node, strange is None) in seen:
            continue
        seen.add((node, strange is None))
        if is_layer(node):
            if strange is not None:
                return strange
            continue
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter):
            return leaf if strange is None else strange
        # of torch's Functions written in Python, checkpoints among them, layers inside have checked their own
        by_torch = getattr(_function(node), "__module__", "").startswith("torch.")
        if strange is None and not by_torch and not hands_on(node, allowed):
            strange = node
        stack += [(before, strange) for before, _ in node.next_functions]
    return None


# ---------------------------------------------------------------- twice over one tape

_AGAIN = (
    "feedback went through these outputs, or layers below them, already: run the network again before the next "
    "propagate, detach states between parts of a sequence (membrane.detach()), and join outputs over common layers in "
    "one propagate (torch.cat of the outputs, and of the rewards)"
)
# by what torch says of them
_MISUSES = {
    "backward through the graph a second time": _AGAIN,
    "tensor that was already unpacked once": _AGAIN,  # of parts that are computed again
    "different number of tensors was saved": (
        "torch.utils.checkpoint ran a part of the network again without the rules of a composite, which hold inside "
        "its context: leave the checkpoints out"
    ),
    "modified by an inplace operation": (
        "weights, inputs or states changed in place after the network ran: propagate first, then optimizer.step(), and "
        "run the network again before the next propagate"
    ),
    "Inference tensors cannot be saved for backward": (
        "inputs, weights or states were made inside torch.inference_mode(), and no feedback comes back to what is made "
        "there: make them outside, or inside torch.no_grad(), or clone() them outside"
    ),
    "with functorch transforms": (
        "transforms of torch.func (grad, vmap, jvp, jacrev) differentiate, and layers with neurons hand on feedback in "
        "place of derivatives: run the network outside of them, and propagate; samples go along the batch axis"
    ),
}


def misuse(error: RuntimeError) -> str | None:
    """Return what to do about an error of torch's for a tape that cannot be gone back, or None if it is another."""
    return next((sentence for words, sentence in _MISUSES.items() if words in str(error)), None)
