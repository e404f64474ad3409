"""Rewards at the output, and the one door through which they enter a network.

All rewards are called alike:

    reward(outputs, targets, class_weights=None, ignore=None, window=None)

Shapes: T steps, B batch, C classes or values, `*places` further axes of one output, such as height and width. Outputs
are `[T, B, C, *places]`; analogue ones without time, `[B, C]`, count as one step. Targets, as tensors, NumPy arrays or
lists, are

    [B, *places]       class indices 0..C-1, one for each sample or place
    [B, C, *places]    what each output shall be, from 0 to 1: several labels (0 or 1), labels that are not certain, or
                       rates; for `squared_error_reward` any number

with `class_weights` `[C]`, by which the reward of a label counts (`weight` of torch's `CrossEntropyLoss`, `pos_weight`
of its `BCEWithLogitsLoss`); `ignore`, a target that earns no reward; and `window`, the number of steps that have
targets of their own: then these have a leading axis of T / window, and each window is judged as a sequence by itself.
1 is for targets in every step.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.arguments import describe
from spiking_lfp.checks import Values, all_finite, as_tensor, is_deferred, require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.lfp.tape import check_outputs, misuse, rewarded

# from outputs and targets to a value for each output
Reward = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class FullReward(Protocol):
    """A reward of this module, with the arguments that all have; see there."""

    def __call__(
        self,
        outputs: Values,
        targets: Values,
        /,
        *,
        class_weights: Values | None = None,
        ignore: int | float | None = None,
        window: int | None = None,
    ) -> Tensor:
        """Return one value for each output."""


def spike_count_reward(
    spikes: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Reward the spikes of the true class and punish the others, less the surer they are (LFP eq. A.16).

        r =  1     * (1 - sigmoid(sum_t o - T/2))        for the true class, silent steps too: that starts the learning
        r = -o[t]  * (1 - sigmoid(sum_t |o - 1| - T/2))  for every other class

    A target between 0 and 1 mixes the two lines.

    Args:
        spikes: output spikes `o`, `[T, B, C, *places]`, or fractions of spikes as of `Population`.
        targets: see the head of this module, also for the other arguments.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs; training divides it by T.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> spike_count_reward(torch.zeros(4, 1, 3), [2])[0]
        tensor([[0.0000, 0.0000, 0.8808]])
        >>> spike_count_reward(torch.zeros(4, 1, 3), [[1, 0, 1]])[0]  # two labels
        tensor([[0.8808, 0.0000, 0.8808]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        steps, count = len(o), o.sum(0)
        encourage = y * torch.sigmoid(steps / 2 - count)
        # for o in 0..1 sum_t |o - 1| = T - sum_t o
        discourage = (1 - y) * torch.sigmoid(count - steps / 2)
        return encourage - o * discourage

    return _reward(formula, spikes, targets, class_weights, ignore, window, spiking=True)


def spike_rate_reward(
    spikes: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Reward what is missing to the wanted rate in every step, punish the spikes of those that fire more.

        r = max(y - n/T, 0) - o[t] * max(n/T - y, 0)        with n = sum_t o

    For a class, `y = 1` if it is the true one, this is `1 - n/T` for that, in silent steps too, and `-o[t] * n/T` for
    the others: the same shape for every T, where that of eq. A.16 falls within a few spikes around T/2: for few steps
    it is flat, so that learning does not end, and for many it ends once counts are a few spikes from T/2. With targets
    between 0 and 1, in spikes a step, it is a regression by spike rates. Not in the LFP paper.

    Args:
        spikes: output spikes `o`, `[T, B, C, *places]`, or fractions of spikes as of `Population`.
        targets: see the head of this module, also for the other arguments.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs; training divides it by T.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> spikes = torch.tensor([0.0, 1.0, 1.0, 1.0]).view(4, 1, 1)
        >>> spike_rate_reward(spikes, [[0.5]]).flatten()  # three spikes in four steps, two are wanted
        tensor([ 0.0000, -0.2500, -0.2500, -0.2500])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        missing = y - o.mean(0)
        return missing.clamp(min=0) + o * missing.clamp(max=0)

    return _reward(formula, spikes, targets, class_weights, ignore, window, spiking=True)


def softmax_reward(
    outputs: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Return `o[t] * (y - softmax(mean_t o))` for analogue outputs, such as the membranes of `LI`.

    What the LFP authors use for networks that do not spike, with one step. By LFP-epsilon, whose last layer divides it
    by `|o[t]|`, it is minus the gradient of the cross entropy of the mean output.

    Args:
        outputs: `o`, `[T, B, C, *places]` or `[B, C]`.
        targets: see the head of this module, also for the other arguments; those of a sample add up to 1.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs; training divides it by T.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> softmax_reward(torch.tensor([[2.0, 2.0]]), [0])
        tensor([[ 1., -1.]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        return o * (y - o.mean(0).softmax(1))

    return _reward(formula, outputs, targets, class_weights, ignore, window, distributions=True)


def logit_reward(
    outputs: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Return `o * (y - sigmoid(o))` for analogue outputs (LFP eq. 7), each step and output judged by itself.

    By LFP-epsilon it is minus the gradient of the binary cross entropy of every output: for several labels a sample.

    Args:
        outputs: `o`, `[T, B, C, *places]` or `[B, C]`.
        targets: see the head of this module, also for the other arguments.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs; training divides it by T.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> logit_reward(torch.tensor([[2.0, -2.0, 0.0]]), [[1, 1, 0]])  # a logit of 0 says nothing, and hears nothing
        tensor([[ 0.2384, -1.7616, -0.0000]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        return o * (y - torch.sigmoid(o))

    return _reward(formula, outputs, targets, class_weights, ignore, window)


def squared_error_reward(
    outputs: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Return `o[t] * (y - mean_t o)`, the output times its error, for regression by analogue outputs such as of `LI`.

    By LFP-epsilon it is minus the gradient of half the squared error of the mean output. For a value in every step give
    `window=1` and targets `[T, B, C]`.

    Args:
        outputs: `o`, `[T, B, C, *places]` or `[B, C]`.
        targets: the values `y`, `[B, C, *places]`; class indices, as in the head of this module, mean 1 and 0.
        class_weights: by which the reward of a label counts, `[C]`; for class indices.
        ignore: target that earns no reward; NaN may be one.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs; training divides it by T.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> squared_error_reward(torch.tensor([[2.0, -2.0]]), [[3.5, -1.0]])
        tensor([[ 3., -2.]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        return o * (y - o.mean(0))

    return _reward(formula, outputs, targets, class_weights, ignore, window, any_value=True)


def cross_entropy_reward(
    outputs: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Return minus the gradient of the cross entropy of the outputs, `y - softmax(o)`; for a `MonoReadout`.

    Args:
        outputs: `o`, `[T, B, C, *places]`, where each step is judged by itself, or `[B, C]`.
        targets: see the head of this module, also for the other arguments; those of a sample add up to 1.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> cross_entropy_reward(torch.tensor([[2.0, 2.0]]), [0])
        tensor([[ 0.5000, -0.5000]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        return y - o.softmax(2)

    return _reward(formula, outputs, targets, class_weights, ignore, window, distributions=True)


def correctness_reward(
    outputs: Values,
    targets: Values,
    *,
    class_weights: Values | None = None,
    ignore: int | float | None = None,
    window: int | None = None,
) -> Tensor:
    """Give the true class +1 where the largest output is right and -1 where it is wrong (LFP app. A.1).

    Args:
        outputs: `[T, B, C, *places]`, where each step is judged by itself, or `[B, C]`.
        targets: see the head of this module, also for the other arguments.
        class_weights: by which the reward of a label counts, `[C]`.
        ignore: target that earns no reward.
        window: number of steps that have targets of their own.

    Returns:
        reward in the shape of the outputs.

    Raises:
        UsageError: if outputs or targets do not fit.

    Example:
        >>> correctness_reward(torch.tensor([[0.2, 0.9], [0.2, 0.9]]), [0, 1])
        tensor([[-1., -0.],
                [ 0.,  1.]])
    """

    def formula(o: Tensor, y: Tensor) -> Tensor:
        found = y.expand_as(o).gather(2, o.argmax(2, keepdim=True))
        return torch.where(found == y.amax(1, keepdim=True), y, -y)

    return _reward(formula, outputs, targets, class_weights, ignore, window)


# what networks can be trained by whose outputs are spikes, and those whose outputs are analogue
SPIKE_REWARDS: dict[str, FullReward] = {"spike-count": spike_count_reward, "spike-rate": spike_rate_reward}
ANALOGUE_REWARDS: dict[str, FullReward] = {
    "softmax": softmax_reward,
    "logit": logit_reward,
    "squared-error": squared_error_reward,
}
REWARDS: dict[str, FullReward] = SPIKE_REWARDS | ANALOGUE_REWARDS


def propagate(outputs: Float[Tensor, "*shape"], reward: Values | None = None) -> None:
    """Hand `reward` back from `outputs` through the network, by the rule of each layer.

        propagate(spikes, spike_count_reward(spikes, labels))
        propagate(-loss)

    Afterwards every parameter's `.grad` holds minus its update, ready for a `torch.optim` optimiser, and the `.grad`
    of inputs that require it holds their feedback.

    Args:
        outputs: what the network returned; or one number computed from it that is to grow, such as minus a loss, whose
            derivative by what the network returned is the reward.
        reward: one value for each output; positive for "more of this". None for one number, which is rewarded with 1.

    Raises:
        UsageError: if shapes differ, no path leads back from `outputs`, or feedback took it already.
        NonFiniteError: if the reward, or the feedback of a layer, holds NaN or infinity.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> optimizer = torch.optim.Adam(network.parameters())
        >>> spikes = network(constant(torch.rand(2, 4), steps=10))
        >>> propagate(-nn.functional.cross_entropy(spikes.sum(0), torch.tensor([0, 2])))
        >>> optimizer.step()
    """
    if not isinstance(outputs, Tensor):
        raise UsageError(
            f"outputs are {describe(outputs)}, expected one tensor that a network returned: of several, as of "
            "layer.run, give the one that is rewarded"
        )
    if reward is None:
        if outputs.numel() != 1:
            raise UsageError(
                f"outputs are {list(outputs.shape)}: give a reward for each, or one number that is to grow, as minus a "
                "loss"
            )
        require(all_finite(outputs), NonFiniteError, "the number that is to grow is NaN or infinite")
        reward = torch.ones_like(outputs)
    reward = reward if isinstance(reward, Tensor) else as_tensor(reward, "rewards").to(outputs)
    if outputs.shape != reward.shape:
        raise UsageError(f"outputs are {list(outputs.shape)} but the reward is {list(reward.shape)}: give one for each")
    if not outputs.requires_grad:
        raise UsageError(
            "outputs remember no layers: run the network outside torch.no_grad() and with parameters to learn"
        )
    require(all_finite(reward), NonFiniteError, "the reward holds NaN or infinity")
    try:
        check_outputs(outputs)
        with rewarded():
            outputs.backward(reward)
    except RuntimeError as error:
        sentence = misuse(error)
        if sentence is None:
            raise
        raise UsageError(sentence) from None


def _reward(
    formula: Callable[[Tensor, Tensor], Tensor],
    outputs: Values,
    targets: Values,
    class_weights: Values | None,
    ignore: int | float | None,
    window: int | None,
    *,
    spiking: bool = False,
    any_value: bool = False,
    distributions: bool = False,
) -> Tensor:
    """Return a reward, the same shape as the outputs.

    Args:
        formula: from outputs `[T, B, C, *places]` and what they shall be `[B, C, *places]` to the reward.
        outputs: see the head of this module, also for the other arguments.
        spiking: outputs are counted over time and lie between 0 and 1.
        any_value: targets `[B, C, *places]` may be any number.
        distributions: those of a sample have to add up to 1.
    """
    o = _tensor("outputs", outputs).detach()
    if not o.is_floating_point():
        o = o.to(torch.get_default_dtype())
    shape = o.shape
    if o.dim() == 2 and not spiking:
        o = o.unsqueeze(0)
    if o.dim() < 3 or len(o) == 0:
        also = "" if spiking else " or [B, C]"
        raise UsageError(f"outputs are {list(shape)}, expected [T, B, C]{also}, with at least one step")
    if spiking and o.numel():
        low, high = o.aminmax()
        require((low >= 0) & (high <= 1), UsageError, _not_spikes(low, high))
    y = _tensor("targets", targets, o.device)
    if window is not None:
        o, y = _in_windows(o, y, window)
    wanted, kept, labels = _wanted(y, o.shape[1:], ignore, any_value, distributions)
    reward = formula(o, wanted.to(o.dtype))
    scale = _label_weights(class_weights, wanted, labels, any_value)
    if scale is not None:
        reward = reward * scale.to(o.dtype)
    if kept is not None:
        reward = reward.masked_fill(~kept, 0)
    if window is not None:
        reward = reward.unflatten(1, (-1, shape[1] if len(shape) > 2 else shape[0])).transpose(0, 1)
    return reward.reshape(shape)


def _tensor(what: str, values: Values, device: torch.device | None = None) -> Tensor:
    """Return tensors, arrays and lists as a tensor, on that device if there is one."""
    try:
        return torch.as_tensor(values, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{what} must be a tensor, an array or a list of numbers: {reason}") from None


def _not_spikes(low: Tensor, high: Tensor) -> str:
    found = "others" if is_deferred(low.device) else f"{float(low):g}..{float(high):g}"
    return f"outputs of this reward are spikes, 0 or 1, found {found}: for membranes take softmax_reward or another"


def _in_windows(o: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return windows of steps as samples of their own: `[window, N * B, ...]` and `[N * B, ...]`."""
    steps, batch = o.shape[:2]
    if window < 1 or steps % window:
        raise UsageError(f"window must be a divisor of the {steps} steps, found {window}")
    windows = steps // window
    if y.dim() < 2 or y.shape[:2] != (windows, batch):
        raise UsageError(
            f"targets are {list(y.shape)}, expected [{windows}, {batch}, ...]: those of {windows} windows of {window} "
            f"steps and {batch} samples"
        )
    return o.unflatten(0, (windows, window)).transpose(0, 1).flatten(1, 2), y.flatten(0, 1)


def _wanted(
    y: Tensor, shape: torch.Size, ignore: int | float | None, any_value: bool, distributions: bool
) -> tuple[Tensor, Tensor | None, bool]:
    """Check targets against one sample's outputs, `shape` `[B, C, *places]`.

    Returns:
        what the outputs shall be, in that shape; which of them earn rewards, or None for all; and whether the targets
        were class indices.
    """
    indices = (shape[0], *shape[2:])
    if y.shape == shape:
        return *_checked_values(y, ignore, any_value, distributions), False
    if y.shape != indices or y.is_floating_point() or y.is_complex():
        raise UsageError(
            f"targets are {list(y.shape)} of {y.dtype}, expected class indices {list(indices)} of an integer type, or "
            f"a value for each output, {list(shape)}; for targets in every step give window=1"
        )
    y, classes = y.long(), shape[1]
    kept = None
    if ignore is not None:
        kept = y != ignore
        y = torch.where(kept, y, 0)
    if y.numel():
        low, high = y.aminmax()
        found = "others" if is_deferred(y.device) else f"{int(low)}..{int(high)}"
        require(
            (low >= 0) & (high < classes),
            UsageError,
            f"labels must lie in 0..{classes - 1} for {classes} classes, found {found}",
        )
    # on GPUs torch's one_hot ends the process at labels out of range
    every = torch.arange(classes, device=y.device).view(-1, *[1] * (len(shape) - 2))
    return y.unsqueeze(1) == every, None if kept is None else kept.unsqueeze(1), True


def _checked_values(
    y: Tensor, ignore: int | float | None, any_value: bool, distributions: bool
) -> tuple[Tensor, Tensor | None]:
    """Return values for every output, and which of them earn rewards, or None for all."""
    kept = None
    if ignore is not None:
        kept = ~y.isnan() if math.isnan(ignore) else y != ignore
        y = torch.where(kept, y, 0)
    if not y.numel():
        return y, kept
    low, high = y.aminmax()
    inside = low.isfinite() & high.isfinite() if any_value else (low >= 0) & (high <= 1)
    found = "others" if is_deferred(y.device) else f"{float(low):g}..{float(high):g}"
    require(inside, UsageError, f"targets must be {'finite' if any_value else 'from 0 to 1'}, found {found}")
    if distributions:
        if kept is not None:
            kept = kept.all(1, keepdim=True)
        whole = (y.sum(1, dtype=torch.float64) - 1).abs() < 1e-3
        require(
            (whole if kept is None else whole | ~kept.squeeze(1)).all(),
            UsageError,
            "targets of this reward add up to 1 over classes: for several labels take logit_reward or a spike reward, "
            "for numbers squared_error_reward",
        )
    return y, kept


def _label_weights(class_weights: Values | None, wanted: Tensor, labels: bool, any_value: bool) -> Tensor | None:
    """Return by what the rewards of each sample and class count, in a shape that broadcasts with the outputs."""
    if class_weights is None:
        return None
    classes = wanted.shape[1]
    weights = _tensor("class weights", class_weights, wanted.device).double()
    if weights.shape != (classes,):
        raise UsageError(f"class weights are {list(weights.shape)}, expected one for each of {classes} classes")
    require((weights >= 0).all() & weights.isfinite().all(), UsageError, "class weights must be finite and at least 0")
    weights = weights.view(-1, *[1] * (wanted.dim() - 2))
    if labels:
        return (wanted * weights).sum(1, keepdim=True)
    if any_value:
        raise UsageError("class weights are for labels, found targets that are values: scale the reward instead")
    return 1 + wanted * (weights - 1)
