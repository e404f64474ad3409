"""Which inputs spoke for a class: the feedback that they get when its output is rewarded."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spiking_lfp.checks import raise_deferred
from spiking_lfp.errors import UsageError


def input_feedback(
    network: nn.Module, x: Float[Tensor, "steps batch *i"], classes: Int[Tensor, " batch"]
) -> Float[Tensor, "steps batch *i"]:
    """Return the LFP feedback of every input in every step, for a reward of 1 / T for one class in all T steps.

    By LFP eq. 2 and 3 an input gets `x * (W^T q)` of the first layer: positive where it helped the class's neuron
    towards its threshold, negative where it held it back, and nothing where it was silent. It is what layer-wise
    relevance propagation calls relevance, handed on by the rules of the network's layers. Silent steps are rewarded
    too, as in training, so that there is an answer for classes that do not spike.

    Feedback is conserved as far as the rules do. By LFP-epsilon a LIF neuron that got `rho` hands on

        rho * V[t] / (|U[t-1]| + |V[t] - U[t-1]| + epsilon)

    to its inputs, its bias and its own past together: `rho` where its membrane rises from 0 or above, less where it
    leaks or its inputs cancel out. All inputs together thus get 1, but for epsilon, if every neuron with feedback rises
    in every step and there are no biases. `NormalizeFeedback` changes the scale of the whole batch,
    and under a `MonoReadout` the reward of its class's score is handed on with the right sign and a size of its own.

    Args:
        network: from `x` to spikes `[T, B, classes]`; its parameters and their `.grad` stay as they are. Have it in
            evaluation mode, so that no input is dropped.
        x: the inputs.
        classes: for each sample the class that is rewarded.

    Raises:
        UsageError: if a class is none of the network's.
        NonFiniteError: if the feedback holds NaN or infinity, with the layer's name.
    """
    with torch.enable_grad():
        # not cloned: layers notice what is the same in every step, and spike just as they do without feedback
        x = x.detach().requires_grad_()
        spikes = network(x)
    outputs = spikes.shape[-1]
    if len(classes) != x.shape[1] or bool(((classes < 0) | (classes >= outputs)).any()):
        raise UsageError(
            f"expected a class in 0..{outputs - 1} for each of {x.shape[1]} samples, found {classes.tolist()}"
        )
    reward = torch.zeros_like(spikes)
    reward[:, torch.arange(len(classes)), classes] = 1 / len(spikes)
    # not by propagate, which would leave updates in .grad
    (feedback,) = torch.autograd.grad(spikes, x, reward)
    raise_deferred()
    return feedback
