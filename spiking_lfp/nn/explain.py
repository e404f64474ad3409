"""Explanations: the feedback that inputs receive when the output of a class is rewarded."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_lfp.checks import Values, as_tensor, lengths_within, raise_deferred
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.tape import check_way_to
from spiking_lfp.nn.layers import evaluation_mode, failures_named


def input_feedback(
    network: nn.Module, x: Values, classes: Values, lengths: Values | None = None
) -> Float[Tensor, "steps batch *i"]:
    """Return the LFP feedback of every input in every step, for a reward of 1 / T for one class in all T steps.

    By LFP eq. 2 and 3 an input gets `x * (W^T q)` of the first layer: positive where it drove the class's neuron
    towards its threshold, negative where it held it back, and 0 where it was silent. Layer-wise relevance propagation
    calls this relevance; here it is propagated by the rules of the network's layers. Silent steps are rewarded, too, as
    in training, so that classes that do not spike can be explained.

    Feedback is conserved as far as the rules conserve it. By LFP-epsilon a LIF neuron that receives `rho` passes

        rho * V[t] / (|U[t-1]| + |V[t] - U[t-1]| + epsilon)

    on to its inputs, its bias and its own past together: `rho` where its membrane rises from 0 or above, less where it
    leaks or its inputs cancel. The feedback of all inputs thus sums to 1, except for epsilon, if every neuron with
    feedback rises in every step and there are no biases. `NormalizeFeedback` changes the scale of the whole batch, and
    a `MonoReadout` passes the reward of a class's score on with the right sign, but not its magnitude.

    Args:
        network: computes spikes `[T, B, classes]` from `x`; it runs in evaluation mode, so that no input is dropped;
            neither it nor the `.grad` of its parameters are changed.
        x: the inputs, `[T, B, *i]`.
        classes: for each sample the class that is rewarded, `[B]`, of any integer type.
        lengths: how many steps of each sample count, `[B]`, the others are padding that earns no reward; None if all
            do.

    Raises:
        UsageError: if the network does not have a class, its outputs are no `[T, B, classes]`, `x` are integers,
            there is not a length for each sample, within its steps, or between inputs and outputs is an operation that
            hands on a gradient, or nothing.
        NonFiniteError: if the feedback holds NaN or infinity, with the layer's name.

    Returns:
        the feedback, `[T, B, *i]`.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3))).eval()
        >>> x = constant(torch.rand(2, 4), steps=10)
        >>> classes = network(x).sum(0).argmax(1)  # those it predicts
        >>> input_feedback(network, x, classes).sum(0).shape
        torch.Size([2, 4])
    """
    x, classes = as_tensor(x, "the inputs"), as_tensor(classes, "the classes")
    if not x.is_floating_point():
        raise UsageError(
            f"the inputs are {x.dtype}, expected real numbers of the network's type: convert them by .to()"
        )
    with torch.enable_grad():
        # not a clone: layers recognise inputs that are the same in every step, and then compute the very same spikes
        x = x.detach().requires_grad_()
        with failures_named(network), evaluation_mode(network):
            spikes = network(x)
    if not isinstance(spikes, Tensor) or spikes.dim() != 3:
        found = list(spikes.shape) if isinstance(spikes, Tensor) else type(spikes).__name__
        raise UsageError(f"the network returned {found}, expected outputs [T, B, classes], one for each class")
    outputs = spikes.shape[2]
    if classes.dim() == 1 and not (classes.is_floating_point() or classes.is_complex()):
        classes = classes.long()  # uint8 and truth values would select by being true
    fits = classes.dtype == torch.int64 and classes.shape == x.shape[1:2]
    if not fits or bool(((classes < 0) | (classes >= outputs)).any()):
        raise UsageError(
            f"expected a class in 0..{outputs - 1} for each of {x.shape[1]} samples, found {classes.tolist()}"
        )
    reward = torch.zeros_like(spikes)
    steps = torch.full_like(classes, len(spikes)) if lengths is None else lengths_within(lengths, spikes)
    counts = (torch.arange(len(spikes), device=steps.device)[:, None] < steps).to(reward)
    reward[:, torch.arange(len(classes)), classes] = counts / steps.to(reward)
    check_way_to(x, spikes)
    # not by propagate, which would leave updates in .grad
    (feedback,) = torch.autograd.grad(spikes, x, reward)
    raise_deferred()
    return feedback
