"""Rewards at the output, and the one door through which they enter a network."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spiking_lfp.checks import Values, all_finite, as_tensor, is_deferred, require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.lfp.tape import check_outputs, misuse, rewarded

Labels = Int[Tensor, " batch"]
# from outputs and labels to a value for each output
Reward = Callable[[Tensor, Tensor], Tensor]


def spike_count_reward(
    spikes: Float[Tensor, "steps batch classes"], labels: Labels
) -> Float[Tensor, "steps batch classes"]:
    """Reward the spikes of the true class and punish the others, less the surer they are (LFP eq. A.16).

        r =  1     * (1 - sigmoid(sum_t o - T/2))        for the true class, silent steps too: that starts the learning
        r = -o[t]  * (1 - sigmoid(sum_t |o - 1| - T/2))  for every other class

    Args:
        spikes: output spikes `o`, `[T, B, C]`.
        labels: class indices `[B]`.

    Returns:
        reward `[T, B, C]`; training divides it by T.

    Raises:
        UsageError: if labels are no class indices, or not one per sample.
    """
    true = _one_hot(labels, spikes.shape[1:])
    spikes = spikes.detach()
    steps = len(spikes)
    count = spikes.sum(0)
    encourage = true * torch.sigmoid(steps / 2 - count)
    # for exact spikes sum_t |o - 1| = T - sum_t o
    discourage = (1 - true) * torch.sigmoid(count - steps / 2)
    return encourage - spikes * discourage


def spike_rate_reward(
    spikes: Float[Tensor, "steps batch classes"], labels: Labels
) -> Float[Tensor, "steps batch classes"]:
    """Reward the true class for what is missing to a spike in every step, punish the others for what they fire.

        r =  1 - n/T          for the true class, silent steps too, with n = sum_t o
        r = -o[t] * n/T       for every other class

    The same shape for every T, where that of eq. A.16 falls within a few spikes around T/2: for few steps it is flat,
    so that learning does not end, and for many it ends once counts are a few spikes from T/2. Not in the LFP paper.

    Args:
        spikes: output spikes `o`, `[T, B, C]`.
        labels: class indices `[B]`.

    Returns:
        reward `[T, B, C]`; training divides it by T.

    Raises:
        UsageError: if labels are no class indices, or not one per sample.
    """
    true = _one_hot(labels, spikes.shape[1:])
    spikes = spikes.detach()
    rate = spikes.mean(0)
    return true * (1 - rate) - spikes * ((1 - true) * rate)


def logit_reward(
    logits: Float[Tensor, "*steps batch classes"], labels: Labels
) -> Float[Tensor, "*steps batch classes"]:
    """Return the feedback `o * (y - sigmoid(o))` for analogue outputs (LFP eq. 7).

    Args:
        logits: outputs `o`, `[B, C]` or `[T, B, C]`.
        labels: class indices `[B]`.
    """
    true = _one_hot(labels, logits.shape[-2:])
    logits = logits.detach()
    return logits * (true - torch.sigmoid(logits))


def cross_entropy_reward(
    scores: Float[Tensor, "*steps batch classes"], labels: Labels
) -> Float[Tensor, "*steps batch classes"]:
    """Return minus the gradient of the cross entropy of `scores`, `y - softmax(scores)`; for a `MonoReadout`.

    Args:
        scores: `[B, C]` or `[T, B, C]`, where each step is judged by itself.
        labels: class indices `[B]`.
    """
    return _one_hot(labels, scores.shape[-2:]) - scores.detach().softmax(-1)


def correctness_reward(
    logits: Float[Tensor, "*steps batch classes"], labels: Labels
) -> Float[Tensor, "*steps batch classes"]:
    """Give the true class +1 where the largest output is right and -1 where it is wrong (LFP app. A.1).

    Args:
        logits: outputs, `[B, C]` or `[T, B, C]`, where each step is judged by itself.
        labels: class indices `[B]`.
    """
    true = _one_hot(labels, logits.shape[-2:])
    right = (logits.detach().argmax(-1) == labels).unsqueeze(-1)
    return torch.where(right, true, -true).to(logits.dtype)


# what a spiking network can be trained by
REWARDS: dict[str, Reward] = {"spike-count": spike_count_reward, "spike-rate": spike_rate_reward}


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
    """
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


def _one_hot(labels: Tensor, shape: torch.Size) -> Tensor:
    """Return `labels` `[B]` as ones among zeros, `[B, C]`, checked against `shape` = (B, C)."""
    batch, classes = shape
    if labels.dim() != 1 or labels.is_floating_point():
        raise UsageError(f"labels must be class indices [B], found {list(labels.shape)} of {labels.dtype}")
    if len(labels) != batch:
        raise UsageError(f"found {len(labels)} labels for {batch} samples")
    labels = labels.long()
    if batch:
        low, high = labels.aminmax()
        found = "others" if is_deferred(labels.device) else f"{int(low)}..{int(high)}"
        require(
            (low >= 0) & (high < classes),
            UsageError,
            f"labels must lie in 0..{classes - 1} for {classes} classes, found {found}",
        )
    # on GPUs torch's one_hot ends the process at labels out of range
    return (labels.unsqueeze(1) == torch.arange(classes, device=labels.device)).long()
