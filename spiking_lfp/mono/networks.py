"""Feed-forward networks that return all activations, so that training needs no autograd; among them mono-nets."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spiking_lfp.arguments import as_integer, check_choice
from spiking_lfp.checks import expect_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.reading import read_synapse
from spiking_lfp.lfp.rewards import cross_entropy_reward
from spiking_lfp.lfp.synapses import Synapse

Monotone = Literal["no", "later", "all"]
Initial = Literal["zeros", "uniform", "normal"]
INITIALS: tuple[Initial, ...] = get_args(Initial)
# smallest initial weight of a layer that must not be negative (mDFA sec. 4)
SMALLEST_WEIGHT = 1e-3
# weights of a layer up to which layers are stacked, so that their updates are one product
STACKED_WEIGHTS = 2**16


@dataclass(frozen=True)
class Activation:
    """A monotone activation function, and its derivative as a function of its value."""

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
    the outputs increase with every hidden unit. With "all" those of the first layer are, too, and the outputs increase
    with every input. `keep_monotone` maintains this while an optimiser changes the weights; loaded weights must comply.

    Args:
        synapses: one `nn.Linear` or `nn.Conv2d` for each layer; inputs of an `nn.Linear` are flattened.
        activation: `f`, "tanh", "hard-tanh" or "relu".
        monotone: which weights are kept at 0 or above.
        initial: distribution of the initial weights: "zeros", "uniform" in +-1/sqrt(inputs), or "normal" with standard
            deviation 1/sqrt(inputs). Weights that must not be negative are uniform from 0.001 on, or the magnitudes of
            normal ones. Biases start at 0.

    Attributes:
        stacks: the indices of all layers in order; successive layers whose updates are one product form a stack.

    Raises:
        UsageError: if there are no synapses or one of another type, if two share their weights, and for unknown names.

    Example:
        >>> net = FeedforwardNet([nn.Linear(20, 16), nn.Linear(16, 1)], monotone="later")
        >>> bool((net.parameters_of(1)[0] >= 0).all()), net(torch.rand(8, 20)).shape
        (True, torch.Size([8, 1]))
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
            check_choice(kind, name, known)
        self.synapses = nn.ModuleList(synapses)
        # the same modules again: looking one up in a ModuleList takes microseconds
        self._layers: list[Any] = list(synapses)
        self.maps: list[Synapse] = [read_synapse(synapse)[0] for synapse in synapses]
        first: dict[int, int] = {}
        for index, layer in enumerate(self._layers):
            before = first.setdefault(id(layer.weight), index)
            if before != index:
                raise UsageError(f"layers {before} and {index} share their weights: give each a synapse of its own")
        self.stacks = _stacks(synapses)
        self.activation = activation
        self.monotone: Monotone = monotone
        for name, synapse in self._named():
            _initialize(synapse, initial, name in self.nonnegative())
        # the versions of the weights that were checked to be at least 0
        self._checked: dict[str, tuple[int, int]] = {}
        self.register_load_state_dict_post_hook(_check_loaded)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without our hook, a function, so that files of classes only hold them."""
        hooks = {key: hook for key, hook in self._load_state_dict_post_hooks.items() if hook is not _check_loaded}
        return {**self.__dict__, "_load_state_dict_post_hooks": OrderedDict(hooks)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes, and our hook again."""
        super().__setstate__(state)
        self.register_load_state_dict_post_hook(_check_loaded)

    def forward(self, x: Float[Tensor, " batch *i"]) -> Float[Tensor, " batch *o"]:
        """Return the outputs for the samples `x`; autograd does not record them, see `FeedbackAlignment`."""
        return self.activations(x)[-1]

    @torch.no_grad()
    def activations(self, x: Float[Tensor, " batch *i"]) -> list[Tensor]:
        """Return the samples, the activations of every hidden layer and the outputs: `[h_0, ..., h_L]`.

        Raises:
            UsageError: for samples of another shape, and if a weight is negative that must not be.
        """
        expect_tensor(x, type(self).__name__, "[B, ...]")
        self.check_monotone()
        function = ACTIVATIONS[self.activation].value
        activations = [x]
        modules: Any = self.synapses
        with full_precision(x):
            for index, (synapse, module) in enumerate(zip(self.maps, modules._modules.values(), strict=True)):
                found, weight, bias = read_synapse(module, str(index))
                same = module is self._layers[index] and (found is synapse or found == synapse)
                if not same or weight is not module._parameters.get("weight"):
                    raise UsageError(
                        f"layer {index} was exchanged, changed or pruned after its network was made: make a new network"
                    )
                h = self.layer_input(index, activations[-1])
                expected = synapse.check(h.shape[1:])
                if expected is not None:
                    raise UsageError(f"layer {index}: expected samples of {expected}, found {list(h.shape[1:])}")
                if (h.dtype, h.device) != (weight.dtype, weight.device):
                    raise UsageError(
                        f"layer {index}: input is {h.dtype} on {h.device}, weights are {weight.dtype} on "
                        f"{weight.device}; move one of them with .to()"
                    )
                z = synapse.current(h, weight, bias)
                activations.append(z if index == len(self.maps) - 1 else function(z))
        return activations

    def parameters_of(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of a layer, counted from 0."""
        synapse = self._layers[index]
        return synapse.weight, synapse.bias

    def layer_input(self, index: int, h: Tensor) -> Tensor:
        """Return `h` in the shape that a layer expects: flattened for a dense layer."""
        return h.flatten(1) if isinstance(self._layers[index], nn.Linear) else h

    def nonnegative(self) -> list[str]:
        """Return the names of the layers whose weights must not be negative."""
        names = [name for name, _ in self._named()]
        return {"no": [], "later": names[1:], "all": names}[self.monotone]

    def keep_monotone(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Set negative weights to 0, where they must not be negative, after every step of a `torch.optim` optimiser.

        Raises:
            UsageError: for an optimiser that has none of the weights, and for L-BFGS, which evaluates the network
                within a step.
        """
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UsageError(
                "LBFGS evaluates the network within a step, where its weights may be negative: take another optimiser"
            )
        weights = {id(self._weight(name)) for name in self.nonnegative()}
        if weights and weights.isdisjoint(id(each) for group in optimizer.param_groups for each in group["params"]):
            raise UsageError(
                f"this {type(optimizer).__name__} has none of the weights that must not be negative: give the one that "
                "changes this network"
            )
        return optimizer.register_step_post_hook(lambda *_: self.project())

    @torch.no_grad()
    def project(self) -> None:
        """Set negative weights to 0 where they must not be negative."""
        for name in self.nonnegative():
            weight = self._weight(name)
            weight.clamp_(min=0)
            self._checked[name] = _version(weight)

    def check_monotone(self) -> None:
        """Raise a UsageError if a weight is negative that must not be; changes through `.data` are not noticed."""
        for name in self.nonnegative():
            weight = self._weight(name).detach()
            if self._checked.get(name) == _version(weight):
                continue
            if weight.numel() and float(weight.min()) < 0:
                raise UsageError(
                    f"layer {name} of a monotone network has negative weights, down to {float(weight.min()):g}: call "
                    "keep_monotone with the optimiser, or project() after changing or loading them"
                )
            self._checked[name] = _version(weight)

    def extra_repr(self) -> str:
        """Show the arguments that are not visible in the layers."""
        return f"activation={self.activation!r}, monotone={self.monotone!r}"

    def _named(self) -> list[tuple[str, nn.Module]]:
        return list(self.synapses.named_children())

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._layers[int(name)].weight
        return weight


def _stacks(synapses: Sequence[nn.Module]) -> list[list[int]]:
    """Return the indices of the layers in order, successive dense layers of one small size together.

    One product computes their updates: products of this size take less time than the calls.
    """
    stacks: list[list[int]] = []
    size: torch.Size | None = None
    for index, synapse in enumerate(synapses):
        before, size = size, None
        if isinstance(synapse, nn.Linear) and synapse.weight.numel() <= STACKED_WEIGHTS:
            size = synapse.weight.shape
        if size is not None and size == before:
            stacks[-1].append(index)
        else:
            stacks.append([index])
    return stacks


def _version(weight: Tensor) -> tuple[int, int]:
    """Return the address of the values of `weight`, and how often they were written."""
    return weight.data_ptr(), weight._version


def _check_loaded(net: nn.Module, _: object) -> None:
    assert isinstance(net, FeedforwardNet)
    net.check_monotone()


@torch.no_grad()
def _initialize(synapse: Any, initial: Initial, nonnegative: bool) -> None:
    weight: Tensor = synapse.weight
    scale = 1 / math.sqrt(weight[0].numel())
    if initial == "zeros":
        weight.zero_()
    elif initial == "uniform":
        weight.uniform_(min(SMALLEST_WEIGHT, scale) if nonnegative else -scale, scale)
    else:
        weight.normal_(std=scale)
        if nonnegative:
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
        inputs: number of features of a flattened sample.
        hidden: number of units of each hidden layer.
        outputs: number of outputs; 1 for two classes.
        activation: see `FeedforwardNet`, also for `monotone` and `initial`.

    Raises:
        UsageError: for unknown names, and sizes that are no integers of at least 1.

    Example:
        >>> fully_connected(3072, (64, 64), monotone="later")(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1])
    """
    sizes = [as_integer(size, "layer sizes", 1) for size in (inputs, *hidden, outputs)]
    return FeedforwardNet([nn.Linear(*pair) for pair in pairwise(sizes)], activation, monotone, initial)


def convolutional(
    in_shape: Sequence[int],
    layers: Sequence[tuple[int, int, int]] = ((96, 5, 2), (96, 3, 2), (96, 3, 1)),
    outputs: int = 1,
    activation: str = "tanh",
    monotone: Monotone = "no",
    initial: Initial = "uniform",
) -> FeedforwardNet:
    """Build a network of convolutions with strides and no pooling; the default is that of mDFA app. B.1 for CIFAR-100.

    The paper states neither the padding nor the last layer: here there is no padding, and one dense layer at the end.

    Args:
        in_shape: channels, height and width of a sample.
        layers: (channels, kernel, stride) of each convolution.
        outputs: number of outputs; 1 for two classes.
        activation: see `FeedforwardNet`, also for `monotone` and `initial`.

    Raises:
        UsageError: if a kernel is larger than its input, and for sizes that are no integers of at least 1.

    Example:
        >>> convolutional((3, 32, 32), ((8, 5, 2), (8, 3, 2)), outputs=3)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """
    if len(in_shape) != 3:
        raise UsageError(f"in_shape must be (channels, height, width), found {tuple(in_shape)}")
    channels, height, width = (as_integer(size, "a size of in_shape", 1) for size in in_shape)
    synapses: list[nn.Module] = []
    for index, layer in enumerate(layers):
        if len(layer) != 3:
            raise UsageError(f"layer {index} must be (channels, kernel, stride), found {tuple(layer)}")
        planes, kernel, stride = (
            as_integer(size, f"{name} of layer {index}", 1)
            for name, size in zip(("channels", "kernel", "stride"), layer, strict=True)
        )
        if kernel > min(height, width):
            raise UsageError(
                f"layer {index}: a kernel of {kernel} does not fit into {height} x {width}; use larger samples or "
                "fewer layers"
            )
        synapses.append(nn.Conv2d(channels, planes, kernel, stride))
        height, width = ((side - kernel) // stride + 1 for side in (height, width))
        channels = planes
    synapses.append(nn.Linear(channels * height * width, as_integer(outputs, "outputs", 1)))
    return FeedforwardNet(synapses, activation, monotone, initial)


@torch.no_grad()
def from_sigmoid(hidden: nn.Linear, output: nn.Linear) -> FeedforwardNet:
    """Return a mono-net with twice the units that equals `output(sigmoid(hidden(x)))` (mDFA thm. 1, app. A.1).

    `v sigmoid(z) = |v|/2 tanh(sign(v) z/2) + v/2`: each unit occurs twice, with `z/2` and with `-z/2`, and
    an output uses the one whose sign makes its weight positive.

    Args:
        hidden: first layer of the network with sigmoid units.
        output: its second layer.

    Raises:
        UsageError: if `output` does not take as many features as `hidden` has.

    Example:
        >>> hidden, output = nn.Linear(4, 8), nn.Linear(8, 1)
        >>> net, x = from_sigmoid(hidden, output), torch.rand(5, 4)
        >>> torch.allclose(net(x), output(hidden(x).sigmoid()), atol=1e-6)
        True
    """
    if hidden.out_features != output.in_features:
        raise UsageError(
            f"output must take the {hidden.out_features} units of hidden, found {output.in_features} input features"
        )
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


def loss_gradient(
    outputs: Float[Tensor, "batch outputs"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, "batch outputs"]:
    """Return `dL/dh_L` of the mean cross entropy, `(p - y) / B`.

    Args:
        outputs: the logit of class 1 for two classes, or a logit for each class.
        labels: class indices.

    Raises:
        UsageError: if labels are not class indices, or not one per sample.

    Example:
        >>> loss_gradient(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]))
        tensor([[ 0.2500],
                [-0.2500]])
    """
    if outputs.shape[1] == 1:
        # one logit for two classes stands for the scores 0 and that logit
        scores = torch.cat([torch.zeros_like(outputs), outputs], 1)
        return -cross_entropy_reward(scores, labels)[:, 1:] / len(outputs)
    return -cross_entropy_reward(outputs, labels) / len(outputs)
