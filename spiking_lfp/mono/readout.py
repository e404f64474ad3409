"""A readout of a spiking network by mono-nets, which reward its spikes without back-propagation."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spiking_lfp.arguments import as_integer, check_choice, describe
from spiking_lfp.checks import all_finite, expect_tensor, require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.tape import check_below, expect_reward
from spiking_lfp.mono.alignment import FeedbackAlignment
from spiking_lfp.mono.networks import FeedforwardNet, fully_connected

Scheme = Literal["pairwise", "one-vs-rest"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
# smallest value of r (1 - r) that weights the reward of a rate r: neurons that never or always spike must learn, too
SMALLEST_SLOPE = 0.01


class MonoReadout(nn.Module):
    """Computes a score for each class from the spikes of a layer, by one mono-net for each binary decision.

    Each decision has its own group of neurons. The first half of the group is excitatory and the second half
    inhibitory: the logit of the decision increases with every spike of the first half and decreases with every spike of
    the second, so the sign of `-dL/dlogit` determines exactly which spikes to reward (mDFA thm. 2). The magnitude of
    the reward differs from the gradient: the error goes directly to the first layer of the mono-net, and from there
    through fixed random weights of at least 0 to the spike rates `r`, multiplied by `r (1 - r)`, at least 0.01, so that
    neurons that always or never spike change last. Inputs may be other values than spikes, such as membranes. The
    mono-nets learn by mDFA, the layers below by LFP, for any loss of the scores: `propagate` takes a reward, which is
    minus the gradient of the loss. Two classes are one decision.

    Call `keep_monotone` with the optimiser.

    Args:
        features: number of neurons of the layer below.
        classes: number of classes.
        hidden: number of units of each hidden layer of a mono-net.
        scheme: "one-vs-rest": a decision for each class; "pairwise": a decision for each pair of classes, and the score
            of a class is a sum over its decisions.
        windows: number of windows of equal length in which the spikes of a sequence are counted.
        beta: factor per step, up to the end of the window, by which the weight of a spike decreases, as in the membrane
            of a leaky neuron that never spikes; 1 for plain rates.
        activation: of the mono-nets, "tanh", "hard-tanh" or "relu".
        seed: of the feedback weights.

    Raises:
        UsageError: for values out of range, and if there are too few neurons for the decisions.

    Example:
        >>> readout = MonoReadout(60, classes=3, hidden=(16,))
        >>> network = nn.Sequential(LIF(nn.Linear(4, 60)), readout)
        >>> optimizer = torch.optim.Adam(network.parameters())
        >>> readout.keep_monotone(optimizer)
        >>> scores = network(torch.rand(10, 2, 4))  # [1, B, 3]
        >>> propagate(scores, cross_entropy_reward(scores, [0, 2]))
        >>> optimizer.step()
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
        check_choice("scheme", scheme, SCHEMES)
        for name, value in (("features", features), ("classes", classes), ("windows", windows)):
            as_integer(value, f"{name} of a readout", 2 if name == "classes" else 1)
        if not isinstance(beta, float | int) or not 0 < beta <= 1:
            raise UsageError(f"beta of a readout must be above 0 and at most 1, found {describe(beta)}")
        code = code_of(classes, scheme)
        decisions = code.shape[1]
        if features < 2 * decisions:
            raise UsageError(
                f"{decisions} {scheme} decisions need at least {2 * decisions} neurons below, found {features}"
            )
        self.features, self.windows, self.beta = features, windows, beta
        self.register_buffer("code", code)
        self.register_buffer("polarity", torch.ones(features))
        self.groups = [len(group) for group in torch.arange(features).tensor_split(decisions)]
        for group in self.polarity.split(self.groups):
            group[len(group) // 2 :] = -1
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
        expect_tensor(spikes, type(self).__name__)
        if spikes.dim() < 3 or spikes.shape[2:].numel() != self.features or len(spikes) < self.windows:
            raise UsageError(
                f"the readout expects [T, B, {self.features}] with T >= {self.windows}, found {list(spikes.shape)}"
            )
        check_below("MonoReadout", (spikes,))
        with full_precision(spikes):
            out: Tensor = _ReadoutFunction.apply(spikes.flatten(2), self, *self.nets.parameters())
        return out

    def keep_monotone(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the mono-nets monotone while `optimizer` changes them; it may have other parameters, too."""
        for net in self._mono_nets():
            net.keep_monotone(optimizer)

    def kernel(self, steps: int, like: Tensor) -> Float[Tensor, "windows steps"]:
        """Return the weight of each step's spikes in the rate of each window; a neuron that is always on has 1."""
        weights = like.new_zeros(self.windows, steps)
        windows = torch.arange(steps, device=like.device).tensor_split(self.windows)
        for row, window in zip(weights, windows, strict=True):
            decayed = self.beta ** (window[-1] - window).to(like.dtype)
            row[window] = decayed / decayed.sum()
        return weights

    def activations(self, rates: Float[Tensor, "batch windows n"]) -> list[list[Tensor]]:
        """Return the activations of all layers of every decision's mono-net for the spike rates of the neurons."""
        groups = (rates * self.polarity).split(self.groups, 2)
        return [net.activations(group.flatten(1)) for net, group in zip(self._mono_nets(), groups, strict=True)]

    def _mono_nets(self) -> list[FeedforwardNet]:
        return [net for net in self.nets if isinstance(net, FeedforwardNet)]

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"features={self.features}, classes={len(self.code)}, windows={self.windows}, beta={self.beta:g}"


def code_of(classes: int, scheme: Scheme) -> Float[Tensor, "classes decisions"]:
    """Return the coefficients by which the logit of each decision adds to the score of each class."""
    if scheme == "one-vs-rest" and classes > 2:
        return torch.eye(classes)
    pairs = list(combinations(range(classes), 2))
    code = torch.zeros(classes, len(pairs))
    for column, (first, second) in enumerate(pairs):
        # half the logit each, so that for two classes the softmax of the scores is the sigmoid of the logit
        code[first, column], code[second, column] = -0.5, 0.5
    return code


class _ReadoutFunction(torch.autograd.Function):
    is_layer = True

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, readout: MonoReadout, *parameters: Tensor) -> Tensor:
        kernel = readout.kernel(len(spikes), spikes)
        rates = torch.einsum("wt,tbn->bwn", kernel, spikes)
        activations = readout.activations(rates)
        ctx.readout, ctx.depth = readout, len(activations[0])
        ctx.save_for_backward(kernel, rates, *(h for each in activations for h in each))
        logits = torch.cat([each[-1] for each in activations], 1)
        return (logits @ readout.code.T).unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, reward: Tensor) -> tuple[Tensor | None, ...]:
        kernel, rates, *saved = ctx.saved_tensors
        readout: MonoReadout = ctx.readout
        if any(ctx.needs_input_grad[2:]):
            expect_reward("MonoReadout")
        by_decision = [saved[start : start + ctx.depth] for start in range(0, len(saved), ctx.depth)]
        with full_precision(reward):
            logit_rewards = (reward[0] @ readout.code).split(1, 1)
            gradients: list[Tensor] = []
            rewards: list[Tensor] = []
            for alignment, activations, logit_reward in zip(
                readout.alignments, by_decision, logit_rewards, strict=True
            ):
                assert isinstance(alignment, FeedbackAlignment)
                deltas = alignment.deltas(activations, -logit_reward)
                gradients += (each for pair in alignment.pseudo_gradients(activations, deltas) for each in pair)
                if ctx.needs_input_grad[0]:
                    error = alignment.input_feedback(deltas[0], activations[0])
                    rewards.append(-error.unflatten(1, (readout.windows, -1)))
            if not rewards:
                return (None, None, *gradients)
            slopes = (rates * (1 - rates)).clamp(min=SMALLEST_SLOPE)
            rate_rewards = torch.cat(rewards, 2) * readout.polarity * slopes
            feedback = torch.einsum("wt,bwn->tbn", kernel, rate_rewards)
        require(all_finite(feedback), NonFiniteError, "the readout's reward holds NaN or infinity")
        return (feedback, None, *gradients)
