"""Endless sequences: a network that goes on where it stopped."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spiking_lfp.checks import Values, as_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.execution import Recorded
from spiking_lfp.nn.carry import Carry, carried, check_steps_are_independent, run_part
from spiking_lfp.nn.layers import failures_named
from spiking_lfp.nn.spiking import spiking_layers


class Stateful:
    """Runs a network on a sequence that comes part by part, as the windows of `read_stream`.

    Neurons go on with the states that the part before left them with, so that the outputs of all parts are those of the
    whole sequence at once, however it is cut: to the bit in integers (`run_in_integers`), and in real numbers where
    products are event-driven, up to the rounding of their sums where more than a quarter of a layer's inputs spike.
    Nothing is kept of the parts themselves.

    Args:
        network: in evaluation mode; made of layers of this package, and of modules that process every step
            independently.

    Attributes:
        network: that one.

    Raises:
        UsageError: naming what in the network needs all steps at once; when it runs, for a network in training mode,
            and for another batch or shape than that of the part before.

    Example:
        >>> from spiking_lfp import LIF
        >>> network = Stateful(nn.Sequential(LIF(nn.Linear(4, 3))).eval())
        >>> parts = [network(torch.ones(steps, 1, 4)) for steps in (1, 5, 2)]
        >>> torch.equal(torch.cat(parts), network.network(torch.ones(8, 1, 4)))
        True
    """

    def __init__(self, network: nn.Module) -> None:
        check_steps_are_independent(network)
        self.network = network
        self._states: list[Tensor] = []
        self._kind: tuple[torch.Size, torch.dtype, torch.device] | None = None

    def __call__(self, x: Values) -> Float[Tensor, "steps batch *o"]:
        """Return the outputs `[T, B, ...]` of the next steps `x` `[T, B, ...]`, which autograd does not follow."""
        x = as_tensor(x, "the inputs")
        training = next((name for name, module in self.network.named_modules() if module.training), None)
        if training is not None:
            raise UsageError(
                f"{training or 'the network'} is in training mode: call network.eval(), or train by run_in_chunks"
            )
        for name, layer in spiking_layers(self.network).items():
            if isinstance(layer.execution, Recorded):
                raise UsageError(f"layer {name} returns a recording, which has an end: leave the context of recorded")
        if len(x) == 0:
            raise UsageError(f"expected one step or more, found x {list(x.shape)}")
        kind = x.shape[1:], x.dtype, x.device
        if self._kind not in (None, kind):
            expected, found = (f"{list(shape)} of {dtype} on {device}" for shape, dtype, device in (self._kind, kind))
            raise UsageError(
                f"expected steps {expected} as before, found {found}: call reset() where another sequence begins"
            )
        carry = Carry(self._states, 1.0, recomputing=False)
        with torch.no_grad(), failures_named(self.network), carried(carry):
            outputs = run_part(self.network, x)
        carry.check_used_up()
        self._states, self._kind = carry.final_states, kind
        return outputs

    def reset(self) -> None:
        """Let all neurons begin at rest with the next part."""
        self._states, self._kind = [], None
