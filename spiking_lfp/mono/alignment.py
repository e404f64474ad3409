"""Back-propagation, and feedback alignment: other ways in which the error at the outputs reaches hidden layers.

All methods subtract `delta_l h_{l-1}^T` from the weights of layer `l`, with `delta_L = dL/dh_L`; they differ in the
other deltas (mDFA sec. 2, fig. 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from spiking_lfp.arguments import as_integer, check_choice, describe
from spiking_lfp.checks import Values, as_tensor, require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.mono.networks import ACTIVATIONS, FeedforwardNet


@dataclass(frozen=True)
class Method:
    """How the error reaches hidden layers.

    Attributes:
        path: "weights": layer by layer, through the transposed weights; "layers": layer by layer, through fixed random
            feedback weights; "direct": from the output straight to each layer.
        positive: whether feedback weights are at least 0, and the network must be monotone.
        signs: whether feedback weights have the signs of the weights that they replace.
        targets: whether the targets are sent back in place of the error.
    """

    path: Literal["weights", "layers", "direct"]
    positive: bool = False
    signs: bool = False
    targets: bool = False


METHODS = {
    "bp": Method("weights"),
    "fa": Method("layers"),
    "sign-symmetry": Method("layers", signs=True),
    "dfa": Method("direct"),
    "mdfa": Method("direct", positive=True),
    "drtp": Method("direct", targets=True),
}
Feedback = Literal["normal", "uniform"]


class FeedbackAlignment(nn.Module):
    """Updates of a network by one of `METHODS`, computed without autograd.

        bp             delta_l = (W_{l+1}^T delta_{l+1}) * f'      back-propagation
        fa             delta_l = (B_{l+1}^T delta_{l+1}) * f'      Lillicrap et al. 2016
        sign-symmetry  as fa, with sign(W_{l+1}) * |B_{l+1}|       Liao et al. 2016
        dfa            delta_l = (B_l^T dL/dh_L) * f'              Nokland 2016
        mdfa           as dfa, with B_l >= 0 and a mono-net: with one output, the update by a sample has the sign of
                       its gradient in every coordinate (mDFA thm. 2); the sum over a batch may differ
        drtp           delta_l = (-B_l^T y) * f', y the target     Frenkel et al. 2019; 1 - 2 y for a single output;
                       taken from the sign of the error, so samples whose error rounds to 0 do not contribute

    The feedback weights are buffers and part of the `state_dict`.

    Args:
        net: the network to update.
        method: one of `METHODS`.
        samples: some samples, which determine the sizes of the layers.
        seed: of the feedback weights.
        feedback: distribution of the feedback weights; "normal" has standard deviation 1/sqrt(n), "uniform" is within
            +-1/sqrt(n), where `n` is the number of units that send the feedback.
        to_inputs: add feedback weights to the inputs, for `input_feedback`; those of mdfa scale with 1/n.
        density: fraction of the direct feedback weights to convolutions that are not 0, chosen at random. The feedback
            to all positions of a channel adds up in its shared weights; feedback of one sign, as that of mdfa, drives
            all channels the same way, and only with few positions do they differ.

    Raises:
        UsageError: for another module, unknown names, values out of range, and mdfa with a network that is not
            monotone.

    Example:
        >>> images, labels = torch.rand(8, 20), torch.arange(8) % 2
        >>> net = fully_connected(20, (16, 16), monotone="later", initial="zeros")
        >>> mdfa, optimizer = FeedbackAlignment(net, "mdfa", images), torch.optim.SGD(net.parameters(), lr=0.1)
        >>> _ = net.keep_monotone(optimizer)
        >>> activations = net.activations(images)
        >>> mdfa.assign(activations, loss_gradient(activations[-1], labels))
        >>> optimizer.step()
    """

    def __init__(
        self,
        net: FeedforwardNet,
        method: str,
        samples: Values,
        seed: int = 0,
        feedback: Feedback = "normal",
        to_inputs: bool = False,
        density: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(net, FeedforwardNet):
            raise UsageError(
                f"feedback alignment is for a FeedforwardNet, as fully_connected makes it, found {describe(net)}"
            )
        check_choice("method", method, METHODS)
        check_choice("feedback", feedback, get_args(Feedback))
        self.method = METHODS[method]
        if self.method.positive and net.monotone == "no":
            raise UsageError(f"{method} needs a network with monotone='later' or 'all', found 'no'")
        if not isinstance(density, float | int) or not 0 < density <= 1:
            raise UsageError(f"density must be above 0 and at most 1, found {describe(density)}")
        samples = as_tensor(samples, "the samples")
        # in a tuple, so that the network does not become a submodule: its weights are not part of this module
        self._net = (net,)
        generator = torch.Generator().manual_seed(as_integer(seed, "seed", 0))
        with torch.no_grad():
            activations = net.activations(samples[:1])
        shapes = {index: tuple(net.parameters_of(index)[0].shape) for index in range(1, len(net.maps))}
        if self.method.path == "direct":
            shapes = {index: (activations[-1].shape[1], *activations[index].shape[1:]) for index in shapes}
        if self.method.path == "weights":
            shapes = {}
        if to_inputs:
            shapes[0] = tuple(net.parameters_of(0)[0].shape)
        for index, shape in shapes.items():
            units = shape[0] if self.method.path == "direct" and index > 0 else math.prod(shape) // shape[1]
            # positive terms do not cancel in a sum over many units
            scale = 1 / units if self.method.positive and index == 0 else 1 / math.sqrt(units)
            matrix = torch.empty(shape, dtype=samples.dtype)
            if feedback == "normal":
                matrix.normal_(std=scale, generator=generator)
            else:
                matrix.uniform_(-scale, scale, generator=generator)
            if self.method.positive:
                matrix.abs_()
            if density < 1 and self.method.path == "direct" and index > 0 and len(shape) > 2:
                matrix *= torch.rand(shape, generator=generator) < density
            self.register_buffer(f"feedback{index}", matrix.to(samples.device))

    @torch.no_grad()
    def assign(self, activations: Sequence[Tensor], error: Tensor) -> None:
        """Set the `.grad` of all parameters of the network that are not frozen, for any `torch.optim` optimiser.

        Args:
            activations: those that `net.activations` returned.
            error: `dL/dh_L`, `[B, outputs]`.

        Raises:
            UsageError: if activations are missing, or the shape of the error is not that of the outputs.
            NonFiniteError: if a delta holds NaN or infinity.
        """
        with full_precision(error):
            gradients = self.pseudo_gradients(activations, self.deltas(activations, error))
        for index, found in enumerate(gradients):
            for parameter, gradient in zip(self._net[0].parameters_of(index), found, strict=True):
                if parameter is not None and parameter.requires_grad:
                    parameter.grad = gradient

    @torch.no_grad()
    def pseudo_gradients(self, activations: Sequence[Tensor], deltas: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return what takes the place of the gradients of weight and bias of every layer, for given deltas."""
        net = self._net[0]
        gradients: list[tuple[Tensor, Tensor]] = []
        for stack in net.stacks:
            if len(stack) > 1:
                sums = torch.stack([deltas[index] for index in stack])
                inputs = torch.stack([net.layer_input(index, activations[index]) for index in stack])
                gradients += zip(torch.bmm(sums.transpose(1, 2), inputs), sums.sum(1), strict=True)
                continue
            [index] = stack
            synapse, weight = net.maps[index], net.parameters_of(index)[0]
            inputs = net.layer_input(index, activations[index])
            _, weight_gradient = synapse.adjoints(deltas[index], inputs, weight, False, True)
            assert weight_gradient is not None
            axes = deltas[index].dim()
            gradients.append(
                (weight_gradient, deltas[index].sum([axis for axis in range(axes) if axis != axes + synapse.axis]))
            )
        finite = torch.stack([bias_gradient.sum() for _, bias_gradient in gradients]).isfinite()
        for index, is_finite in enumerate(finite):
            message = f"layer {index}: its feedback holds NaN or infinity; lower the learning rate"
            require(is_finite, NonFiniteError, message)
        return gradients

    @torch.no_grad()
    def deltas(self, activations: Sequence[Tensor], error: Tensor) -> list[Tensor]:
        """Return `delta_1, ..., delta_L`, the error at each layer's sum `W h + b`."""
        if len(activations) != len(self._net[0].maps) + 1:
            raise UsageError(
                f"activations must be the {len(self._net[0].maps) + 1} that net.activations returned, found "
                f"{len(activations)}"
            )
        if error.shape != activations[-1].shape:
            raise UsageError(
                f"the error must have the shape {list(activations[-1].shape)} of the outputs, found {list(error.shape)}"
            )
        mine = next(iter(self._buffers.values()), None)
        if mine is not None and (mine.dtype, mine.device) != (error.dtype, error.device):
            raise UsageError(
                f"error is {error.dtype} on {error.device}, the feedback weights are {mine.dtype} on {mine.device}; "
                "move the FeedbackAlignment with .to(), too"
            )
        net = self._net[0]
        derivative = ACTIVATIONS[net.activation].derivative
        hidden = activations[1:-1]
        if self.method.path == "direct":
            signal = self._signal(error)
            direct: list[Tensor] = []
            for stack in net.stacks:
                layers = [index for index in stack if index < len(hidden)]
                if len(layers) > 1:
                    weights = torch.stack([self._feedback(index + 1) for index in layers])
                    slopes = derivative(torch.stack([hidden[index] for index in layers]))
                    direct += torch.matmul(signal, weights) * slopes
                else:
                    direct += [
                        torch.tensordot(signal, self._feedback(index + 1), 1) * derivative(hidden[index])
                        for index in layers
                    ]
            return [*direct, error]
        deltas = [error]
        for index in range(len(hidden), 0, -1):
            weight = net.parameters_of(index)[0]
            if self.method.path == "layers":
                random = self._feedback(index)
                weight = weight.sign() * random.abs() if self.method.signs else random
            h = activations[index]
            # adjoints multiply the result by the inputs, as LFP does: for inputs of 1 it is W^T delta
            back, _ = net.maps[index].adjoints(
                deltas[0], net.layer_input(index, torch.ones_like(h)), weight, True, False
            )
            assert back is not None
            deltas.insert(0, back.view_as(h) * derivative(h))
        return deltas

    @torch.no_grad()
    def input_feedback(self, delta: Tensor, x: Tensor) -> Tensor:
        """Return the error at the inputs `x`: `delta`, that of the first layer, sent through feedback weights.

        With mdfa and a network that is monotone in its inputs it has the sign of the gradient, as `delta` has.
        """
        net = self._net[0]
        if "feedback0" not in self._buffers:
            raise UsageError(
                "there are no feedback weights to the inputs: create the FeedbackAlignment with to_inputs=True"
            )
        back, _ = net.maps[0].adjoints(delta, net.layer_input(0, torch.ones_like(x)), self._feedback(0), True, False)
        assert back is not None
        return back.view_as(x)

    def _signal(self, error: Tensor) -> Tensor:
        """Return the signal that is sent directly to the layers: the error, or what the targets alone say of it."""
        if not self.method.targets:
            return error
        # the error is p - y: of several outputs only the true one is negative, a single one has the sign of 1 - 2 y
        targets = error.sign() if error.shape[1] == 1 else -(error < 0).to(error.dtype)
        return targets / len(error)

    def _feedback(self, index: int) -> Tensor:
        return self.get_buffer(f"feedback{index}")
