"""Feed-forward networks whose activations are kept, so that learning needs no tape; mono-nets are some of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.rewards import Labels, cross_entropy_reward
from spiking_lfp.lfp.synapses import Synapse, synapse_of

Monotone = Literal["no", "later", "all"]
Initial = Literal["zeros", "uniform", "normal"]
INITIALS: tuple[Initial, ...] = get_args(Initial)
# the least first weight of a non-negative layer (mDFA sec. 4)
LEAST = 1e-3
# weights of a layer up to which the updates of several are one product
SMALL = 2**16


@dataclass(frozen=True)
class Activation:
    """A monotone function, and its derivative as a function of its value."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, lambda h: 1 - h * h),
    "hard-tanh": Activation(lambda z: z.clamp(-1, 1), lambda h: (h.abs() < 1).to(h.dtype)),
    "relu": Activation(torch.relu, lambda h: (h > 0).to(h.dtype)),
}


class FeedforwardNet(nn.Module):
    """Layers `h_l = f(W_l h_{l-1} + b_l)`, the last without `f` (mDFA eq. 1).

    With `monotone` "later" it is a mono-net (mDFA def. 1): all weights from the second layer on are at least 0, so that
    the outputs grow with every hidden unit. With "all" those of the first layer are too, and the outputs grow with
    every input. `keep_monotone` sees to it while an optimiser changes the weights; loaded weights must fit.

    Args:
        synapses: one `nn.Linear` or `nn.Conv2d` for each layer; what is not flat is flattened for an `nn.Linear`.
        activation: `f`, "tanh", "hard-tanh" or "relu".
        monotone: which weights are kept at 0 or above.
        initial: first weights "zeros", "uniform" in +-1/sqrt(inputs) or "normal" of deviation 1/sqrt(inputs); where
            they may not be negative, uniform from 0.001 on, and of normal ones the magnitude. Biases start at 0.

    Attributes:
        runs: the layers in order, neighbours together whose updates are computed by one product.

    Raises:
        UsageError: for no synapse, one of another kind, and unknown names.
    """

    def __init__(
        self,
        synapses: Sequence[nn.Module],
        activation: str = "tanh",
        monotone: Monotone = "no",
        initial: Initial = "uniform",
    ) -> None:
        super().__init__()
        if not synapses:
            raise UsageError("a network needs at least one layer, found none")
        for kind, name, known in (
            ("activation", activation, ACTIVATIONS),
            ("monotone", monotone, get_args(Monotone)),
            ("initial", initial, INITIALS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        self.synapses = nn.ModuleList(synapses)
        # the same ones: a ModuleList takes microseconds to look one up
        self._layers: list[Any] = list(synapses)
        self.maps: list[Synapse] = [synapse_of(synapse) for synapse in synapses]
        self.runs = _runs(synapses)
        self.activation = activation
        self.monotone: Monotone = monotone
        for name, synapse in self._named():
            _initialize(synapse, initial, name in self.bounded())
        # which weights, as they are, are known to be at least 0
        self._known: dict[str, tuple[int, int]] = {}
        self.register_load_state_dict_post_hook(_check_loaded)

    def forward(self, x: Float[Tensor, "batch *i"]) -> Float[Tensor, "batch *o"]:
        """Return the outputs for the samples `x`; there is no tape behind them, see `FeedbackAlignment`."""
        return self.activations(x)[-1]

    @torch.no_grad()
    def activations(self, x: Float[Tensor, "batch *i"]) -> list[Tensor]:
        """Return the samples, what every hidden layer gives, and the outputs: `[h_0, ..., h_L]`.

        Raises:
            UsageError: for samples of another shape, and where a weight that must not be is negative.
        """
        self.check_monotone()
        function = ACTIVATIONS[self.activation].value
        known = [x]
        with full_precision(x):
            for index, synapse in enumerate(self.maps):
                taken = self.taken(index, known[-1])
                expected = synapse.check(taken.shape[1:])
                if expected is not None:
                    raise UsageError(f"layer {index}: expected samples of {expected}, found {list(taken.shape[1:])}")
                weight, bias = self.parameters_of(index)
                if (taken.dtype, taken.device) != (weight.dtype, weight.device):
                    raise UsageError(
                        f"layer {index}: input is {taken.dtype} on {taken.device}, weights are {weight.dtype} on "
                        f"{weight.device}; move one of them with .to()"
                    )
                z = synapse.current(taken, weight, bias)
                known.append(z if index == len(self.maps) - 1 else function(z))
        return known

    def parameters_of(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of a layer, counted from 0."""
        synapse = self._layers[index]
        return synapse.weight, synapse.bias

    def taken(self, index: int, h: Tensor) -> Tensor:
        """Return `h` as a layer takes it: flat, if it is dense."""
        return h.flatten(1) if isinstance(self._layers[index], nn.Linear) else h

    def bounded(self) -> list[str]:
        """Return the names of the layers whose weights are kept at 0 or above."""
        names = [name for name, _ in self._named()]
        return {"no": [], "later": names[1:], "all": names}[self.monotone]

    def keep_monotone(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Set weights that may not be negative back to 0 after every step of a `torch.optim` optimiser.

        Of all but L-BFGS, which looks at the network in the middle of its step.
        """
        return optimizer.register_step_post_hook(lambda *_: self.project())

    @torch.no_grad()
    def project(self) -> None:
        """Set weights that may not be negative back to 0."""
        for name in self.bounded():
            weight = self._weight(name)
            weight.clamp_(min=0)
            self._known[name] = _state(weight)

    def check_monotone(self) -> None:
        """Raise a UsageError if a weight that must not be is negative; weights written by `.data` go unnoticed."""
        for name in self.bounded():
            weight = self._weight(name).detach()
            if self._known.get(name) == _state(weight):
                continue
            if weight.numel() and float(weight.min()) < 0:
                raise UsageError(
                    f"layer {name} of a monotone network has negative weights, down to {float(weight.min()):g}: call "
                    "keep_monotone with the optimiser, or project() after changing or loading them"
                )
            self._known[name] = _state(weight)

    def extra_repr(self) -> str:
        """Show what the layers do not."""
        return f"activation={self.activation!r}, monotone={self.monotone!r}"

    def _named(self) -> list[tuple[str, nn.Module]]:
        return list(self.synapses.named_children())

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._layers[int(name)].weight
        return weight


def _runs(synapses: Sequence[nn.Module]) -> list[list[int]]:
    """Return the layers in order, neighbours together whose updates are best computed by one product.

    Those are dense layers of one small size, whose products take less time than the calls.
    """
    found: list[list[int]] = []
    size: torch.Size | None = None
    for index, synapse in enumerate(synapses):
        before, size = size, None
        if isinstance(synapse, nn.Linear) and synapse.weight.numel() <= SMALL:
            size = synapse.weight.shape
        if size is not None and size == before:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def _state(weight: Tensor) -> tuple[int, int]:
    """Tell where the values of `weight` lie and how often they were written."""
    return weight.data_ptr(), weight._version


def _check_loaded(net: nn.Module, _: object) -> None:
    assert isinstance(net, FeedforwardNet)
    net.check_monotone()


@torch.no_grad()
def _initialize(synapse: Any, initial: Initial, bounded: bool) -> None:
    weight: Tensor = synapse.weight
    reach = 1 / math.sqrt(weight[0].numel())
    if initial == "zeros":
        weight.zero_()
    elif initial == "uniform":
        weight.uniform_(min(LEAST, reach) if bounded else -reach, reach)
    else:
        weight.normal_(std=reach)
        if bounded:
            weight.abs_()
    if synapse.bias is not None:
        synapse.bias.zero_()


def fully_connected(
    inputs: int,
    hidden: Sequence[int] = (1024, 1024),
    outputs: int = 1,
    activation: str = "tanh",
    monotone: Monotone = "no",
    initial: Initial = "uniform",
) -> FeedforwardNet:
    """Build a network of dense layers; the default is that of mDFA app. B.1 for CIFAR-100.

    Args:
        inputs: features of a sample, once it is flattened.
        hidden: units of each hidden layer.
        outputs: how many; one for two classes.
        activation: as for `FeedforwardNet`, and so are monotone and initial.
    """
    sizes = [inputs, *hidden, outputs]
    if min(sizes) < 1:
        raise UsageError(f"layer sizes must be at least 1, found {sizes}")
    return FeedforwardNet([nn.Linear(*pair) for pair in pairwise(sizes)], activation, monotone, initial)


def convolutional(
    in_shape: Sequence[int],
    layers: Sequence[tuple[int, int, int]] = ((96, 5, 2), (96, 3, 2), (96, 3, 1)),
    outputs: int = 1,
    activation: str = "tanh",
    monotone: Monotone = "no",
    initial: Initial = "uniform",
) -> FeedforwardNet:
    """Build a network of convolutions with strides instead of pooling; the default is mDFA app. B.1's for CIFAR-100.

    The paper names neither padding nor what is at the end: here none, and one dense layer.

    Args:
        in_shape: channels, height and width of a sample.
        layers: (channels, kernel, stride) of each convolution.
        outputs: how many; one for two classes.
        activation: as for `FeedforwardNet`, and so are monotone and initial.

    Raises:
        UsageError: if a kernel is larger than what it is to read.
    """
    channels, height, width = in_shape
    synapses: list[nn.Module] = []
    for index, (planes, kernel, stride) in enumerate(layers):
        if kernel > min(height, width):
            raise UsageError(
                f"layer {index}: a kernel of {kernel} does not fit into {height} x {width}; take larger samples, or "
                "fewer layers"
            )
        synapses.append(nn.Conv2d(channels, planes, kernel, stride))
        height, width = ((side - kernel) // stride + 1 for side in (height, width))
        channels = planes
    synapses.append(nn.Linear(channels * height * width, outputs))
    return FeedforwardNet(synapses, activation, monotone, initial)


@torch.no_grad()
def from_sigmoid(hidden: nn.Linear, output: nn.Linear) -> FeedforwardNet:
    """Return the mono-net of twice the units that equals `output(sigmoid(hidden(x)))` (mDFA thm. 1, app. A.1).

    `v sigmoid(z) = |v|/2 tanh(sign(v) z/2) + v/2`: each unit is there twice, as `z/2` and as `-z/2`, and an output
    weighs the one that has the sign it needs.

    Args:
        hidden: first layer of the network with sigmoid units.
        output: its second layer.

    Raises:
        UsageError: if the layers do not follow each other.
    """
    if hidden.out_features != output.in_features:
        raise UsageError(f"hidden has {hidden.out_features} units, but output takes {output.in_features}")
    kind: dict[str, Any] = {"dtype": hidden.weight.dtype, "device": hidden.weight.device}
    first = nn.Linear(hidden.in_features, 2 * hidden.out_features, **kind)
    second = nn.Linear(2 * hidden.out_features, output.out_features, **kind)
    net = FeedforwardNet([first, second], "tanh", "later")
    half = hidden.weight / 2
    first.weight.copy_(torch.cat([half, -half]))
    if hidden.bias is not None:
        first.bias.copy_(torch.cat([hidden.bias / 2, -hidden.bias / 2]))
    second.weight.copy_(torch.cat([output.weight.clamp(min=0), (-output.weight).clamp(min=0)], 1) / 2)
    second.bias.copy_(output.weight.sum(1) / 2)
    if output.bias is not None:
        second.bias.add_(output.bias)
    return net


def loss_gradient(outputs: Float[Tensor, "batch outputs"], labels: Labels) -> Float[Tensor, "batch outputs"]:
    """Return `dL/dh_L` of the mean cross entropy, `(p - y) / B`.

    Args:
        outputs: one logit of class 1 for two classes, or a logit for each class.
        labels: class indices.

    Raises:
        UsageError: if labels are no class indices, or not one per sample.
    """
    if outputs.shape[1] == 1:
        # two classes in one logit are the scores 0 and that logit
        scores = torch.cat([torch.zeros_like(outputs), outputs], 1)
        return -cross_entropy_reward(scores, labels)[:, 1:] / len(outputs)
    return -cross_entropy_reward(outputs, labels) / len(outputs)
