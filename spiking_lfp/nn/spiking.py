"""Layers of spiking neurons: a synapse and its neurons, exact spikes forward and LFP feedback backward."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from spiking_lfp.arguments import describe
from spiking_lfp.checks import is_deferred, require
from spiking_lfp.errors import UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.execution import Execution, Real
from spiking_lfp.lfp.functions import SpikingFunction, SpikingSpec
from spiking_lfp.lfp.reading import check_precision, read_synapse, refused
from spiking_lfp.lfp.synapses import CONVOLUTIONS, Convolution, Dense, PaddedConvolution, Synapse
from spiking_lfp.lfp.tape import check_below
from spiking_lfp.neurons import RESETS, LIFNeuron, Neuron, RecurrentLIFNeuron, Reset, State
from spiking_lfp.neurons.adaptive import AdaptiveLIFNeuron
from spiking_lfp.neurons.base import Counterparts
from spiking_lfp.neurons.cuba import CubaLIFNeuron
from spiking_lfp.neurons.li import LINeuron
from spiking_lfp.neurons.recurrent import MappedRecurrentLIFNeuron
from spiking_lfp.nn.carry import current_carry
from spiking_lfp.nn.layers import Inputs, Spikes, SynapticLayer, opaque
from spiking_lfp.rules import Rule

Membrane = Float[Tensor, "batch *n"]

# the layer of each kind of neuron
LAYERS: dict[type[Neuron], type["SpikingLayer"]] = {}


class SpikingLayer(SynapticLayer):
    """Base of the layers with neurons: a synapse, the constants of its neurons as buffers, and how they are run.

    A subclass names its kind of neuron and takes its constants.

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        rule: LFP rule, `Epsilon()` if None.
        reset: what a spike does to the membrane.
        norm: batch normalisation of the current, or None; see `nn.norm`.
        constants: of the neuron, by name: numbers, or tensors broadcastable to one sample's neurons.

    Attributes:
        kind: of its neurons.
        execution: how the forward pass is carried out: `Real()`, `Integer(...)` or `Recorded(...)`.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if the membrane or the feedback holds NaN or infinity.

    Example:
        >>> from spiking_lfp.neurons import LIFNeuron
        >>> class Sharp(SpikingLayer):  # a layer whose neurons forget fast
        ...     kind = LIFNeuron
        ...     def __init__(self, synapse, beta=0.3, threshold=1.0, rule=None):
        ...         super().__init__(synapse, rule, reset="zero", beta=beta, threshold=threshold)
        >>> Sharp(nn.Linear(4, 3))(torch.rand(10, 2, 4)).shape
        torch.Size([10, 2, 3])
    """

    kind: ClassVar[type[Neuron]]
    execution: Execution = Real()

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            LAYERS.setdefault(cls.kind, cls)

    def __init__(
        self,
        synapse: nn.Module,
        rule: Rule | None = None,
        reset: Reset = "subtract",
        norm: nn.Module | None = None,
        **constants: float | Tensor,
    ) -> None:
        super().__init__(synapse, rule, norm)
        if not hasattr(self, "kind"):
            raise UsageError(f"{type(self).__name__} has to say which kind of neuron it has: kind = LIFNeuron")
        self.reset: Reset = reset
        limits = self.kind.limits()
        for name in constants:
            if name not in limits:
                raise UsageError(f"{self.kind.__name__} has no constant {name!r}: it has {', '.join(limits)}")
        for name in limits:
            if name not in constants:
                raise UsageError(f"{type(self).__name__} has to give {name}, a constant of {self.kind.__name__}")
            # float64, so that a network turned to any dtype meets the number that was meant
            try:
                value = torch.as_tensor(constants[name], dtype=torch.float64)
            except (TypeError, ValueError, RuntimeError):
                raise UsageError(f"{name} must be a number or a tensor, found {constants[name]!r}") from None
            self.register_buffer(name, value if value.requires_grad else value.clone())
        # the constants that were checked, and how often they had been written to
        self._checked: dict[str, tuple[Tensor, int]] = {}
        self._check_constants("")

    @property
    def counterparts(self) -> Counterparts:
        """What its neurons are elsewhere; nothing for subclasses, which may run them in another way."""
        return self.kind.counterparts if type(self) is LAYERS[self.kind] else Counterparts()

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        """Check the constants that are loaded; a hook in their place would be stored with the network."""
        super()._load_from_state_dict(*arguments, **named)
        self._check_constants(self.name)

    def _check_constants(self, layer: str) -> None:
        """Raise a UsageError for constants out of range; those that did not change since are not looked at again."""
        if self.reset not in RESETS:
            raise refused(layer, f"reset must be one of {', '.join(RESETS)}, found {self.reset!r}")
        for name, (holds, words) in self.kind.limits().items():
            value = self._buffers.get(name)
            before, version = self._checked.get(name, (None, 0))
            if before is not None and before is value and version == _version(value) and not value.requires_grad:
                continue
            found: object = getattr(self, name) if value is None else value
            if not isinstance(found, Tensor):
                raise refused(layer, f"{name} must be a number or a tensor, found {found!r}")
            if found.requires_grad:
                raise refused(
                    layer, f"{name} requires a gradient, but constants of neurons do not learn: give {name}.detach()"
                )
            if not found.is_meta:
                shown = "others" if is_deferred(found.device) else _shown(found)
                require(holds(found).all(), UsageError, str(refused(layer, f"{name} must be {words}, found {shown}")))
            self._checked[name] = found, _version(found)

    def neuron(self, dtype: torch.dtype) -> Neuron:
        """Return the neuron with the layer's constants in `dtype`.

        Raises:
            UsageError: if they are out of range.
        """
        self._check_constants(self.name)
        values = {name: getattr(self, name).to(dtype) for name in self.kind.limits()}
        return self.kind(**values, reset=self.reset)  # type: ignore[call-arg]

    def forward(self, x: Inputs) -> Spikes:
        """Return the spikes `[T, B, *n]` of the sequence `x` `[T, B, *i]`, starting from a state at rest."""
        carry = current_carry()
        if carry is None:
            return self._run(x, None)[0]
        spikes, state = self._run(x, carry.take(len(self.kind.states)))
        carry.give(*state)
        return spikes

    def run(self, x: Inputs, state: State | None = None) -> tuple[Spikes, State]:
        """Run a part of a longer sequence.

        Args:
            x: the inputs of the next steps, `[T, B, *i]`.
            state: the final states `[B, *n]` of the part before, the membrane first, or None to start at rest. Feedback
                flows through them to that part; detach them to stop the feedback there.

        Returns:
            spikes `[T, B, *n]` and the final states.
        """
        names = self.kind.states
        if state is not None and (
            not isinstance(state, tuple | list) or len(state) != len(names) or not all(map(torch.is_tensor, state))
        ):
            found = [describe(each) for each in state] if isinstance(state, tuple | list) else describe(state)
            raise UsageError(
                f"layer {self.name}: expected the states {' and '.join(names)} as a tuple of {len(names)} tensors, as "
                f"run returns them, found {found}"
            )
        return self._run(x, state)

    @opaque
    def _run(self, x: Inputs, state: State | None) -> tuple[Spikes, State]:
        synapse, weight, bias, normalised = self._weights_for(x)
        check_below(self.name, (x, *(state or ())))
        through, recurrent = self._recurrent()
        # kernels read it as numbers of the weights' type
        if recurrent is not None and (recurrent.dtype, recurrent.device) != (weight.dtype, weight.device):
            raise UsageError(
                f"layer {self.name}: weights are {weight.dtype} on {weight.device}, its recurrent ones are "
                f"{recurrent.dtype} on {recurrent.device}; move one of them with .to()"
            )
        neuron = self.neuron(weight.dtype)
        check_precision(self.name, (x, weight))
        spec = SpikingSpec(synapse, self.rule, self.name, neuron, self.execution, through, **normalised)
        with full_precision(x):
            spikes, *final = SpikingFunction.apply(x, weight, bias, recurrent, spec, *(state or ()))
        return spikes, tuple(final)

    def _recurrent(self) -> tuple[Synapse | None, Tensor | None]:
        """Return the map and the weights through which the neurons see their own spikes, if they do."""
        return None, None

    def extra_repr(self) -> str:
        """Show the constants."""

        def show(value: Tensor) -> str:
            return f"{value.item():g}" if value.dim() == 0 else f"per neuron {list(value.shape)}"

        constants = "".join(f"{name}={show(getattr(self, name))}, " for name in self.kind.limits())
        shown = f"{constants}reset={self.reset!r}, rule={self.rule}"
        return shown if isinstance(self.execution, Real) else f"{shown}, {self.execution}"


class LIF(SpikingLayer):
    """A synapse and its leaky integrate-and-fire neurons: exact spikes forward, LFP feedback backward.

        U[t] = beta * U[t-1] + W x[t] + b - threshold * S[t-1]        S[t] = 1 if U[t] > threshold else 0

    (LFP eq. A.14, A.15; snnTorch's `Leaky`.) Feedback on the spikes becomes feedback on `x` and updates of `W` and `b`
    (LFP eq. 2-4, 8, 9; the membrane's past is one of the contributions).

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        beta: part of the membrane that a step keeps, 0 < beta <= 1; a number, or a tensor broadcastable to one sample's
            neurons.
        threshold: firing threshold, greater than 0; likewise.
        reset: "subtract" the threshold one step after a spike, set the membrane to "zero", or "none".
        rule: LFP rule, `Epsilon()` if None.
        norm: batch normalisation of the current `W x + b`: `ThresholdBatchNorm`, or one of torch, such as a network
            from elsewhere has; see `nn.norm`.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if the membrane or the feedback holds NaN or infinity.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(784, 100)), LIF(nn.Linear(100, 10)))
        >>> spikes = network(constant(torch.rand(32, 784), steps=25))  # [T, B, 10], 0 or 1
        >>> propagate(spikes, spike_count_reward(spikes, torch.arange(32) % 10))
        >>> torch.optim.SGD(network.parameters(), lr=0.1).step()
    """

    kind: ClassVar[type[LIFNeuron]] = LIFNeuron
    beta: Tensor
    threshold: Tensor

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: Reset = "subtract",
        rule: Rule | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(synapse, rule, reset, norm, beta=beta, threshold=threshold)

    def run(  # type: ignore[override]
        self, x: Inputs, membrane: Membrane | None = None
    ) -> tuple[Spikes, Membrane]:
        """Run a part of a longer sequence.

        Args:
            x: the inputs of the next steps, `[T, B, *i]`.
            membrane: the final membrane `[B, *n]` of the part before, or None to start at rest. Feedback flows through
                it to that part; detach it to stop the feedback there.

        Returns:
            spikes `[T, B, *n]` and the final membrane, which is the whole state.
        """
        if not (membrane is None or torch.is_tensor(membrane)):
            raise UsageError(
                f"layer {self.name}: expected a membrane, one tensor as run returns it, found {describe(membrane)}"
            )
        spikes, (final,) = self._run(x, None if membrane is None else (membrane,))
        return spikes, final


class RecurrentLIF(LIF):
    """LIF neurons that see the spikes of their own layer, one step later.

        U[t] = beta * U[t-1] + W x[t] + b + V S[t-1] - threshold * S[t-1]

    `S[t-1]` is one more input: it receives feedback, `S[t-1] * (V^T q[t])`, which joins that of the layers above, and
    `V` is updated as `W` is. The state is the membrane alone, as in `LIF`, since it tells the spikes too: what the next
    part of a sequence owes them comes back through it. `V` of a convolution is a convolution, step by step in plain
    torch.

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        beta: as in `LIF`, and so are threshold, reset, rule and norm.
        recurrent: `V` of `n` neurons, an `nn.Linear(n, n, bias=False)`; of `n` channels, a convolution of as many axes
            from `n` to `n` channels, without bias, that keeps their sides. If None, one with torch's initial weights,
            of channels with a kernel of side 3.

    Raises:
        UsageError: as `LIF`, for a `recurrent` of another kind or shape, and when it is to run in integers.

    Example:
        >>> layer = RecurrentLIF(nn.Conv2d(1, 4, 3), recurrent=nn.Conv2d(4, 4, 5, padding=2, bias=False))
        >>> layer(torch.ones(10, 2, 1, 8, 8)).shape
        torch.Size([10, 2, 4, 6, 6])
    """

    kind = RecurrentLIFNeuron
    recurrent: nn.Module

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: Reset = "subtract",
        rule: Rule | None = None,
        recurrent: nn.Module | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(synapse, beta, threshold, reset, rule, norm)
        kind, n = self._neurons()
        if recurrent is None:
            like: Any = {"device": synapse.weight.device, "dtype": synapse.weight.dtype, "bias": False}
            recurrent = nn.Linear(n, n, **like) if kind is nn.Linear else kind(n, n, 3, padding=1, **like)
        self.recurrent = recurrent
        self._own("")

    def neuron(self, dtype: torch.dtype) -> Neuron:
        """Return the neuron with the layer's constants in `dtype`, and its weights; see `SpikingLayer.neuron`."""
        self._check_constants(self.name)
        beta, threshold = self.beta.to(dtype), self.threshold.to(dtype)
        through, weight = self._recurrent()
        if isinstance(through, Dense):
            return RecurrentLIFNeuron(beta, threshold, self.reset, recurrent=weight)
        return MappedRecurrentLIFNeuron(beta, threshold, self.reset, recurrent=weight, through=through)

    def _recurrent(self) -> tuple[Synapse, Tensor]:
        if self.rule.uniform:
            raise UsageError(f"layer {self.name}: recurrent layers do not take {self.rule}")
        return self._own(self.name)

    def _neurons(self) -> tuple[Any, int]:
        """Return the kind of module that `recurrent` has to be, and the number of neurons or of their channels."""
        synapse: Any = self.synapse
        if isinstance(synapse, nn.Linear):
            return nn.Linear, synapse.out_features if isinstance(synapse, LazyModuleMixin) else len(synapse.weight)
        return CONVOLUTIONS[len(synapse.kernel_size) - 1], synapse.out_channels

    def _own(self, layer: str) -> tuple[Synapse, Tensor]:
        """Return `V` and its map, as they take part now."""
        kind, n = self._neurons()
        module: Any = self.recurrent
        synapse, weight, bias = read_synapse(module, layer)
        fits, expected = bias is None and isinstance(module, kind), f"nn.Linear({n}, {n}, bias=False)"
        if isinstance(synapse, Dense):
            fits = fits and tuple(weight.shape) == (n, n)
        if kind is not nn.Linear:
            expected = f"an nn.{kind.__name__} from {n} to {n} channels that keeps their sides, without bias"
            convolves = isinstance(synapse, Convolution | PaddedConvolution) and synapse.keeps_sides()
            fits = fits and convolves and len(weight) == weight.shape[1] * module.groups == n
        if not fits:
            raise refused(layer, f"recurrent must be {expected}, found {module}")
        return synapse, weight


class CubaLIF(SpikingLayer):
    """A synapse and leaky integrate-and-fire neurons with a synaptic current of its own decay.

        I[t] = alpha * I[t-1] + W x[t] + b        U[t] = beta * U[t-1] + I[t] - threshold * S[t-1]

    snnTorch's `Synaptic` with reset "subtract", spike for spike; NIR's `CubaLIF`. Feedback goes through both states,
    see `CubaLIFNeuron`.

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        alpha: part of the current that a step keeps, 0 <= alpha <= 1; a number, or a tensor broadcastable to one
            sample's neurons.
        beta: part of the membrane that a step keeps, as in `LIF`, and so are threshold, reset, rule and norm.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if a state or the feedback holds NaN or infinity.

    Example:
        >>> layer = CubaLIF(nn.Linear(4, 3), alpha=0.8, beta=0.9)
        >>> spikes, (membrane, current) = layer.run(torch.ones(10, 2, 4))
        >>> spikes.shape, current.shape
        (torch.Size([10, 2, 3]), torch.Size([2, 3]))
    """

    kind = CubaLIFNeuron

    def __init__(
        self,
        synapse: nn.Module,
        alpha: float | Tensor = 0.8,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: Reset = "subtract",
        rule: Rule | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(synapse, rule, reset, norm, alpha=alpha, beta=beta, threshold=threshold)


class AdaptiveLIF(SpikingLayer):
    """A synapse and leaky integrate-and-fire neurons whose threshold rises with their own spikes and decays (ALIF).

        a[t] = rho * a[t-1] + S[t-1]        S[t] = 1 if U[t] > threshold + adaptation * a[t] else 0

    `U` and its feedback are those of `LIF`; see `AdaptiveLIFNeuron`. Run by plain torch; formats and integer hardware
    refuse it.

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        beta: as in `LIF`, and so are threshold, reset, rule and norm.
        rho: part of `a` that a step keeps, 0 < rho <= 1; a number, or a tensor broadcastable to one sample's neurons.
        adaptation: by how much a spike raises the threshold, at least 0; likewise.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if a state or the feedback holds NaN or infinity.

    Example:
        >>> layer = AdaptiveLIF(nn.Linear(1, 1, bias=False), adaptation=0.5)
        >>> _ = nn.init.constant_(layer.synapse.weight, 0.8)
        >>> layer(torch.ones(12, 1, 1)).flatten().int().tolist()  # it fires less and less
        [0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0]
    """

    kind = AdaptiveLIFNeuron

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        rho: float | Tensor = 0.95,
        adaptation: float | Tensor = 0.2,
        reset: Reset = "subtract",
        rule: Rule | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(synapse, rule, reset, norm, beta=beta, threshold=threshold, rho=rho, adaptation=adaptation)


class LI(SpikingLayer):
    """A synapse and leaky integrators, which do not fire: their membranes are the output, a readout of spikes below.

        V[t] = beta * V[t-1] + W x[t] + b

    Feedback is that of a linear layer on all inputs so far, see `LINeuron`; `Affine` is the same without a memory.

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        beta: part of the membrane that a step keeps, 0 < beta <= 1, 1 to add up all steps; a number, or a tensor
            broadcastable to one sample's neurons.
        rule: LFP rule, `Epsilon()` if None.
        norm: as in `LIF`.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if the membrane or the feedback holds NaN or infinity.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 50)), LI(nn.Linear(50, 1)))
        >>> membrane = network(torch.rand(10, 2, 4))  # [T, B, 1]
        >>> propagate(membrane, squared_error_reward(membrane, [[0.5], [-0.5]]))  # each sample has a value
    """

    kind = LINeuron
    beta: Tensor

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        rule: Rule | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__(synapse, rule, "none", norm, beta=beta)

    def neuron(self, dtype: torch.dtype) -> Neuron:
        """Return the neuron with the layer's constant in `dtype`."""
        return LINeuron(self.beta.to(dtype))

    def extra_repr(self) -> str:
        """Show the constants."""
        return super().extra_repr().replace("reset='none', ", "")


def _version(constant: Tensor) -> int:
    """Return how often a tensor was written to."""
    return -1 if constant.is_inference() else constant._version


def _shown(constant: Tensor) -> str:
    low, high = constant.min().item(), constant.max().item()
    return str(low) if constant.dim() == 0 else f"{low}..{high}"


def spiking_layers(network: nn.Module) -> dict[str, SpikingLayer]:
    """Return the layers with neurons of `network`, those that do not fire too, by their path in it."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SpikingLayer)}


def firing_layers(network: nn.Module) -> dict[str, SpikingLayer]:
    """Return the layers of `network` whose outputs are spikes by their path in it."""
    return {name: layer for name, layer in spiking_layers(network).items() if layer.kind.spiking}
