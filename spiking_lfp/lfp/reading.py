"""Reading the modules that hold synapses: what takes part in a pass now, and what cannot be honoured by reading."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import prune

from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.synapses import KINDS, Synapse, synapse_of


def read_synapse(module: nn.Module, layer: str = "") -> tuple[Synapse, Tensor, Tensor | None]:
    """Return the linear map of `module` as it is now, its weight and its bias, masked where they are pruned.

    Layers read a synapse and do not call it, so that what would happen in a call is refused.

    Args:
        module: one of `KINDS`, `nn.Linear` or a convolution.
        layer: the layer it belongs to, for errors.

    Raises:
        UsageError: for any other module: one with a forward pass of its own, with hooks, or whose weights are computed
            from others, and for weights that are no plain tensors.
    """
    own: dict[str, Any] = module._parameters if type(module) in KINDS else {}
    if (
        type(own.get("weight")) is nn.Parameter
        and "bias" in own
        and not module._forward_pre_hooks
        and not module._forward_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
        and "forward" not in module.__dict__
    ):
        weight, bias = own["weight"], own["bias"]  # as torch makes them
    else:
        weight, bias = _read_with_care(module, layer)
    try:
        return synapse_of(module, weight), weight, bias
    except UsageError as error:
        raise refused(layer, str(error)) from None


def check_precision(layer: str, tensors: Iterable[Tensor]) -> None:
    """Refuse to hand on feedback in float16, in which one over a rule's epsilon is infinite.

    Raises:
        UsageError: if one of the `tensors` is to get feedback in it.
    """
    if torch.is_grad_enabled() and any(each.dtype == torch.float16 and each.requires_grad for each in tensors):
        raise refused(
            layer,
            "float16 holds no feedback, since one over the epsilon of a rule is infinite in it: learn in bfloat16, "
            "float32 or float64; without learning, float16 runs inside torch.no_grad()",
        )


def materialize(module: nn.Module, inputs: Tensor) -> None:
    """Let an `nn.LazyLinear` or a lazy convolution take its size from the inputs of a step, `[B, *i]`."""
    if isinstance(module, LazyModuleMixin):
        lazy: Any = module
        lazy._infer_parameters(module, (inputs,))


def plain_synapse(module: nn.Module, layer: str) -> nn.Module:
    """Return a copy of a synapse, pruned for good where it is masked.

    Raises:
        UsageError: as `read_synapse`.
    """
    read_synapse(module, layer)
    made = deepcopy(module)
    for mask in masks_of(made):
        prune.remove(made, mask._tensor_name)
    return made


# what runs when a module is called
_CALLED = ("forward", "_conv_forward", "__call__", "_call_impl")
_EXPECTED = f"nn.Linear or a convolution ({', '.join(f'nn.{kind.__name__}' for kind in KINDS[1:])})"


def _read_with_care(module: nn.Module, layer: str) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a synapse that is not as torch makes one."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}".removeprefix("builtins.")
    if type(module).__module__.startswith("torch.nn.modules."):
        kind = type(module).__name__
    base = next((each for each in KINDS if isinstance(module, each)), None)
    lazy = isinstance(module, LazyModuleMixin)
    if base is None:
        raise refused(
            layer,
            f"a synapse must be an {_EXPECTED}, found {kind}; what wraps one (adapters, quantised or "
            "compiled modules) would not be run: merge it into the weights, or wrap the whole network",
        )
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise refused(layer, f"the synapse {kind} has no size yet: run its layer once, or make it with its size")
    calls = [getattr(type(module), name) is getattr(base, name) for name in _CALLED if hasattr(base, name)]
    if not lazy and ("forward" in vars(module) or not all(calls)):
        raise refused(
            layer,
            f"the synapse {kind} has a forward pass of its own, which the layer would not run: use one of "
            f"torch's own, {_EXPECTED}",
        )
    hooks = [hook for hook in module._forward_pre_hooks.values() if not lazy or hook != module._infer_parameters]
    masks = masks_of(module)
    masked = {mask._tensor_name: mask.apply_mask(module) for mask in masks}
    others = len(hooks) > len(masks)
    found: dict[str, Tensor | None] = {}
    for name in ("weight", "bias"):
        # where torch finds them: sharding and functional calls put them beside the parameters
        value = masked.get(name, module._parameters.get(name, module._buffers.get(name)))
        found[name] = module.__dict__.get(name) if value is None else value
        if isinstance(getattr(type(module), name, None), property) or (others and name in vars(module)):
            raise refused(
                layer,
                f"the synapse {kind} computes its {name} from others (a parametrization, as weight_norm or "
                "spectral_norm), which LFP does not update: remove it",
            )
    if others or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise refused(
            layer,
            "the synapse has hooks, which would not run, since the layer reads its weights and does not call it: "
            "register them on the layer",
        )
    weight, bias = found["weight"], found["bias"]
    for name, value in found.items():
        if type(value).__name__ == "FakeTensor":
            raise refused(
                layer,
                "torch.export and torch.onnx.export cannot follow layers with neurons: bring the network elsewhere by "
                "spiking_lfp.export, or to snnTorch by to_snntorch",
            )
        if type(value) not in (Tensor, nn.Parameter) and (name == "weight" or value is not None):
            raise refused(
                layer,
                f"the {name} of the synapse is a {type(value).__name__}, expected a plain tensor: turn it into one, or "
                "quantise the network when it is exported",
            )
    for name, values in masked.items():
        setattr(module, name, values.detach())  # for those who read it, and for copies
    assert weight is not None
    return weight, bias


def masks_of(module: nn.Module) -> list[Any]:
    """Return what `torch.nn.utils.prune` hung on a module."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, prune.BasePruningMethod)]


def refused(layer: str, sentence: str) -> UsageError:
    """Return the error of a layer, or of one that is being made, which has no name yet."""
    return UsageError(f"layer {layer}: {sentence}" if layer else sentence)
