"""The ways in which an error at the output reaches the layers: back-propagation, and feedback without it.

In all of them the update of layer `l` is `delta_l h_{l-1}^T`, with `delta_L = dL/dh_L`; they differ in the other
deltas (mDFA sec. 2, fig. 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spiking_lfp.checks import require
from spiking_lfp.errors import NonFiniteError, UsageError, unknown_name
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.mono.networks import ACTIVATIONS, FeedforwardNet


@dataclass(frozen=True)
class Method:
    """How an error reaches hidden layers.

    Attributes:
        path: "weights", back through the layers by their own weights; "layers", by fixed random ones instead;
            "direct", from the output to each layer at once.
        positive: whether the network must be monotone and feedback weights are at least 0.
        signs: whether feedback weights have the signs of the weights they stand for.
        targets: whether the targets go back instead of the error.
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
    """Updates of a network by one of `METHODS`, computed without a tape.

        bp             delta_l = (W_{l+1}^T delta_{l+1}) * f'      back-propagation
        fa             delta_l = (B_{l+1}^T delta_{l+1}) * f'      Lillicrap et al. 2016
        sign-symmetry  as fa, with sign(W_{l+1}) * |B_{l+1}|       Liao et al. 2016
        dfa            delta_l = (B_l^T dL/dh_L) * f'              Nokland 2016
        mdfa           as dfa, B_l >= 0 and a mono-net: with one output each sample's update has the sign of its
                       gradient in every coordinate (mDFA thm. 2); of a batch, whose updates add up, it may differ
        drtp           delta_l = (-B_l^T y) * f', y the target     Frenkel et al. 2019; 1 - 2 y for a single output;
                       read from the sign of the error, so samples whose error rounds to 0 teach nothing

    The feedback weights are buffers, so a `state_dict` has them.

    Args:
        net: whose updates these are.
        method: one of `METHODS`.
        samples: a few samples, which tell the sizes of the layers.
        seed: of the feedback weights.
        feedback: their distribution; "normal" has deviation 1/sqrt(n), "uniform" lies in +-1/sqrt(n), with `n` the
            units at their other end.
        to_inputs: whether there are feedback weights to the inputs too, for `input_feedback`; of mdfa, 1/n times.
        density: share of the direct feedback weights to convolutions that are not 0, drawn by chance. What reaches the
            many positions of a channel adds up in its shared weights; all of one sign, as mdfa's are, it drives all
            channels the same way, and few positions make them differ.

    Raises:
        UsageError: for an unknown method, mdfa with a network that is not monotone, and a density that is no share.
    """

    def __init__(
        self,
        net: FeedforwardNet,
        method: str,
        samples: Tensor,
        seed: int = 0,
        feedback: Feedback = "normal",
        to_inputs: bool = False,
        density: float = 1.0,
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        self.method = METHODS[method]
        if self.method.positive and net.monotone == "no":
            raise UsageError(f"{method} needs a network with monotone='later' or 'all', found 'no'")
        if not 0 < density <= 1:
            raise UsageError(f"density must be above 0 and at most 1, found {density:g}")
        # not as a module of this one: the network's weights are its own
        self._net = (net,)
        generator = torch.Generator().manual_seed(seed)
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
            reach = 1 / units if self.method.positive and index == 0 else 1 / math.sqrt(units)
            matrix = torch.empty(shape, dtype=samples.dtype)
            if feedback == "normal":
                matrix.normal_(std=reach, generator=generator)
            else:
                matrix.uniform_(-reach, reach, generator=generator)
            if self.method.positive:
                matrix.abs_()
            if density < 1 and self.method.path == "direct" and index > 0 and len(shape) > 2:
                matrix *= torch.rand(shape, generator=generator) < density
            self.register_buffer(f"feedback{index}", matrix.to(samples.device))

    @torch.no_grad()
    def assign(self, activations: Sequence[Tensor], error: Tensor) -> None:
        """Set the `.grad` of all parameters of the network, for any `torch.optim` optimiser.

        Args:
            activations: what `net.activations` gave.
            error: `dL/dh_L`, `[B, outputs]`.

        Raises:
            UsageError: if the error does not fit the outputs.
            NonFiniteError: if a delta holds NaN or infinity.
        """
        with full_precision(error):
            found = self.descents(activations, self.deltas(activations, error))
        for index, (of_weight, of_bias) in enumerate(found):
            weight, bias = self._net[0].parameters_of(index)
            weight.grad = of_weight
            if bias is not None:
                bias.grad = of_bias

    @torch.no_grad()
    def descents(self, activations: Sequence[Tensor], deltas: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return minus the updates of weight and bias of every layer, which do not wait for each other."""
        net = self._net[0]
        found: list[tuple[Tensor, Tensor]] = []
        for run in net.runs:
            if len(run) > 1:
                sums = torch.stack([deltas[at] for at in run])
                inputs = torch.stack([net.taken(at, activations[at]) for at in run])
                found += zip(torch.bmm(sums.transpose(1, 2), inputs), sums.sum(1), strict=True)
                continue
            [index] = run
            synapse, weight = net.maps[index], net.parameters_of(index)[0]
            _, outer = synapse.adjoints(deltas[index], net.taken(index, activations[index]), weight, False, True)
            assert outer is not None
            axes = deltas[index].dim()
            found.append((outer, deltas[index].sum([axis for axis in range(axes) if axis != axes + synapse.axis])))
        finite = torch.stack([of_bias.sum() for _, of_bias in found]).isfinite()
        for index, holds in enumerate(finite):
            lost = f"layer {index}: its feedback holds NaN or infinity; lower the learning rate"
            require(holds, NonFiniteError, lost)
        return found

    @torch.no_grad()
    def deltas(self, activations: Sequence[Tensor], error: Tensor) -> list[Tensor]:
        """Return `delta_1, ..., delta_L`, the error at each layer's sum `W h + b`."""
        if error.shape != activations[-1].shape:
            raise UsageError(f"error is {list(error.shape)}, but outputs are {list(activations[-1].shape)}")
        net = self._net[0]
        derivative = ACTIVATIONS[net.activation].derivative
        hidden = activations[1:-1]
        if self.method.path == "direct":
            signal = self._signal(error)
            direct: list[Tensor] = []
            for run in net.runs:
                places = [at for at in run if at < len(hidden)]
                if len(places) > 1:
                    sent = torch.stack([self._feedback(at + 1) for at in places])
                    direct += torch.matmul(signal, sent) * derivative(torch.stack([hidden[at] for at in places]))
                else:
                    direct += [
                        torch.tensordot(signal, self._feedback(at + 1), 1) * derivative(hidden[at]) for at in places
                    ]
            return [*direct, error]
        found = [error]
        for index in range(len(hidden), 0, -1):
            weight = net.parameters_of(index)[0]
            if self.method.path == "layers":
                random = self._feedback(index)
                weight = weight.sign() * random.abs() if self.method.signs else random
            h = activations[index]
            # adjoints weigh what goes back by the inputs, as LFP does: with ones it is W^T delta
            back, _ = net.maps[index].adjoints(found[0], net.taken(index, torch.ones_like(h)), weight, True, False)
            assert back is not None
            found.insert(0, back.view_as(h) * derivative(h))
        return found

    @torch.no_grad()
    def input_feedback(self, first: Tensor, x: Tensor) -> Tensor:
        """Return the error at the inputs `x`, for `delta_1`, through feedback weights of their own.

        With mdfa and a network that is monotone in its inputs it has the sign of the gradient, as `delta_1` has.
        """
        net = self._net[0]
        if "feedback0" not in self._buffers:
            raise UsageError(
                "there are no feedback weights to the inputs: make the FeedbackAlignment with to_inputs=True"
            )
        back, _ = net.maps[0].adjoints(first, net.taken(0, torch.ones_like(x)), self._feedback(0), True, False)
        assert back is not None
        return back.view_as(x)

    def _signal(self, error: Tensor) -> Tensor:
        """Return what goes straight to the layers: the error, or what the targets alone tell of it."""
        if not self.method.targets:
            return error
        # cross entropy is p - y: of several outputs only the true one is negative, a single one has the sign of 1 - 2 y
        known = error.sign() if error.shape[1] == 1 else -(error < 0).to(error.dtype)
        return known / len(error)

    def _feedback(self, index: int) -> Tensor:
        return self.get_buffer(f"feedback{index}")
