"""Binary decisions of a spiking network by mono-nets, which reward its spikes without back-propagation."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_lfp.checks import all_finite, require
from spiking_lfp.errors import NonFiniteError, UsageError, unknown_name
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.mono.alignment import FeedbackAlignment
from spiking_lfp.mono.networks import FeedforwardNet, fully_connected

Scheme = Literal["pairwise", "one-vs-rest"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
# of the credit of a neuron that is on in half of the steps (1/4), what one that is never or always on gets too
LEAST = 0.01


class MonoReadout(nn.Module):
    """From the spikes of a layer to a score for each class, by one mono-net for each binary decision.

    Each decision sees a part of the neurons of its own. Half of these speak for it and half against it, so that its
    logit grows with every spike of the first half and falls with every spike of the second, and the sign of
    `-dL/dlogit` tells which spikes to reward, exactly (mDFA thm. 2). How much is not the gradient's: the error goes
    straight to the first layer of the mono-net, and through fixed random weights of at least 0 to the rates, each
    weighed by `r (1 - r)`, 0.01 at least, since neurons that are always or never on turn last. Inputs may be other
    values than spikes, too, such as membranes. The mono-net learns by mDFA, the layers below by LFP, for any loss of
    the scores: `propagate` hands back a reward, minus its gradient. Two classes are one decision.

    Call `keep_monotone` with the optimiser.

    Args:
        features: neurons of the layer below.
        classes: how many.
        hidden: units of each hidden layer of a mono-net.
        scheme: "one-vs-rest", a decision for each class; or "pairwise", one for every pair of classes, whose scores are
            sums over their decisions.
        windows: in how many equal parts of the sequence spikes are counted.
        beta: decay per step of what a spike counts, up to the end of its window, as in the membrane of a neuron that
            never fires; 1 for plain rates.
        activation: of the mono-nets, "tanh", "hard-tanh" or "relu".
        seed: of the feedback weights.

    Raises:
        UsageError: for values out of range, and too few neurons for the decisions.
    """

    code: Tensor
    polarity: Tensor

    def __init__(
        self,
        features: int,
        classes: int = 2,
        hidden: Sequence[int] = (256,),
        scheme: Scheme = "one-vs-rest",
        windows: int = 1,
        beta: float = 1.0,
        activation: str = "tanh",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if scheme not in SCHEMES:
            raise unknown_name("scheme", scheme, SCHEMES)
        if classes < 2 or windows < 1 or not 0 < beta <= 1:
            raise UsageError(
                f"a readout needs at least 2 classes, at least 1 window, and 0 < beta <= 1, found {classes} classes, "
                f"{windows} windows, beta {beta}"
            )
        code = code_of(classes, scheme)
        decisions = code.shape[1]
        if features < 2 * decisions:
            raise UsageError(
                f"{decisions} {scheme} decisions need at least {2 * decisions} neurons below, found {features}"
            )
        self.features, self.windows, self.decay = features, windows, beta
        self.register_buffer("code", code)
        self.register_buffer("polarity", torch.ones(features))
        self.groups = [len(part) for part in torch.arange(features).tensor_split(decisions)]
        for part in self.polarity.split(self.groups):
            part[len(part) // 2 :] = -1
        nets = [fully_connected(windows * size, hidden, 1, activation, "all") for size in self.groups]
        self.nets = nn.ModuleList(nets)
        self.alignments = nn.ModuleList(
            [
                FeedbackAlignment(net, "mdfa", torch.zeros(1, windows * size), seed + index, to_inputs=True)
                for index, (net, size) in enumerate(zip(nets, self.groups, strict=True))
            ]
        )

    def forward(self, spikes: Float[Tensor, "steps batch *n"]) -> Float[Tensor, "1 batch classes"]:
        """Return the scores of each sample, as a sequence of one step."""
        if spikes.dim() < 3 or spikes.shape[2:].numel() != self.features or len(spikes) < self.windows:
            raise UsageError(
                f"the readout expects [T, B, {self.features}] with T >= {self.windows}, found {list(spikes.shape)}"
            )
        with full_precision(spikes):
            out: Tensor = _ReadoutFunction.apply(spikes.flatten(2), self, *self.nets.parameters())
        return out

    def keep_monotone(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the mono-nets monotone while `optimizer` changes them; it may hold other parameters too."""
        for net in self._decisions():
            net.keep_monotone(optimizer)

    def kernel(self, steps: int, like: Tensor) -> Float[Tensor, "windows steps"]:
        """Return what a spike in each step counts for each window; a neuron that always spikes makes 1."""
        weights = like.new_zeros(self.windows, steps)
        parts = torch.arange(steps, device=like.device).tensor_split(self.windows)
        for window, part in zip(weights, parts, strict=True):
            aged = self.decay ** (part[-1] - part).to(like.dtype)
            window[part] = aged / aged.sum()
        return weights

    def activations(self, rates: Float[Tensor, "batch windows n"]) -> list[list[Tensor]]:
        """Return what every layer of every decision's network gives for the rates of the neurons."""
        parts = (rates * self.polarity).split(self.groups, 2)
        return [net.activations(part.flatten(1)) for net, part in zip(self._decisions(), parts, strict=True)]

    def _decisions(self) -> list[FeedforwardNet]:
        return [net for net in self.nets if isinstance(net, FeedforwardNet)]

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"features={self.features}, classes={len(self.code)}, windows={self.windows}, beta={self.decay:g}"


def code_of(classes: int, scheme: Scheme) -> Float[Tensor, "classes decisions"]:
    """Return what each decision's logit adds to the score of each class."""
    if scheme == "one-vs-rest" and classes > 2:
        return torch.eye(classes)
    pairs = list(combinations(range(classes), 2))
    code = torch.zeros(classes, len(pairs))
    for column, (first, second) in enumerate(pairs):
        # by a half each, so that of two classes the softmax of the scores is the sigmoid of the logit
        code[first, column], code[second, column] = -0.5, 0.5
    return code


class _ReadoutFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, readout: MonoReadout, *parameters: Tensor) -> Tensor:
        kernel = readout.kernel(len(spikes), spikes)
        rates = torch.einsum("wt,tbn->bwn", kernel, spikes)
        known = readout.activations(rates)
        ctx.readout, ctx.depth = readout, len(known[0])
        ctx.save_for_backward(kernel, rates, *(h for each in known for h in each))
        logits = torch.cat([each[-1] for each in known], 1)
        return (logits @ readout.code.T).unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, reward: Tensor) -> tuple[Tensor | None, ...]:
        kernel, rates, *flat = ctx.saved_tensors
        readout: MonoReadout = ctx.readout
        known = [flat[start : start + ctx.depth] for start in range(0, len(flat), ctx.depth)]
        with full_precision(reward):
            of_decisions = (reward[0] @ readout.code).split(1, 1)
            descents: list[Tensor] = []
            wanted: list[Tensor] = []
            for alignment, activations, own in zip(readout.alignments, known, of_decisions, strict=True):
                assert isinstance(alignment, FeedbackAlignment)
                deltas = alignment.deltas(activations, -own)
                descents += (part for pair in alignment.descents(activations, deltas) for part in pair)
                if ctx.needs_input_grad[0]:
                    back = alignment.input_feedback(deltas[0], activations[0])
                    wanted.append(-back.unflatten(1, (readout.windows, -1)))
            if not wanted:
                return (None, None, *descents)
            turning = (rates * (1 - rates)).clamp(min=LEAST)
            of_rates = torch.cat(wanted, 2) * readout.polarity * turning
            feedback = torch.einsum("wt,bwn->tbn", kernel, of_rates)
        require(all_finite(feedback), NonFiniteError, "the readout's reward holds NaN or infinity")
        return (feedback, None, *descents)
