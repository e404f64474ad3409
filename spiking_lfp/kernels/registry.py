"""The table of kernels: what is made fast, for which neuron, rule and device. What has no entry runs the reference."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from spiking_lfp.integers import IntegerLIF
from spiking_lfp.neurons import LIFNeuron, RecurrentLIFNeuron
from spiking_lfp.neurons.cuba import CubaLIFNeuron
from spiking_lfp.rules import Epsilon

FLOATS = (torch.float32, torch.float64)
Function = Callable[..., Any]


@dataclass(frozen=True)
class Kernel:
    """A function that does what a reference does, faster.

    Attributes:
        where: `module:function` below `spiking_lfp.kernels`, imported when it is first needed.
        fields: of the neuron that it heeds; a neuron with others is not for it.
    """

    where: str
    fields: tuple[str, ...] = ()

    @cache  # noqa: B019 (kernels live as long as the table)
    def heeds(self, kind: type | None) -> bool:
        """Tell whether the kernel knows every field of this kind of neuron."""
        return kind is None or {each.name for each in fields(kind)} == set(self.fields)

    @cache  # noqa: B019
    def load(self) -> Function:
        """Return the function."""
        module, _, name = self.where.partition(":")
        function: Function = getattr(import_module(f"spiking_lfp.kernels.{module}"), name)
        return function


LIF = ("beta", "threshold", "reset")
CUBA = (*LIF, "alpha")
INTEGER_LIF = ("theta", "decay", "frac_bits", "reset", "arithmetic")
# operation, neuron, rule, device; None where it does not matter. Types are met exactly, never their subclasses.
TABLE: dict[tuple[str, type | None, type | None, str], Kernel] = {
    ("forward", LIFNeuron, None, "cpu"): Kernel("cpu.lif:forward", LIF),
    ("forward", LIFNeuron, None, "cuda"): Kernel("cuda.lif:forward", LIF),
    ("forward", RecurrentLIFNeuron, None, "cpu"): Kernel("cpu.recurrent:forward", (*LIF, "recurrent")),
    ("forward", CubaLIFNeuron, None, "cpu"): Kernel("cpu.cuba:forward", CUBA),
    ("forward", IntegerLIF, None, "cpu"): Kernel("cpu.integer:forward", INTEGER_LIF),
    ("feedback", LIFNeuron, Epsilon, "cpu"): Kernel("cpu.lif:feedback_epsilon", LIF),
    ("feedback", LIFNeuron, None, "cpu"): Kernel("cpu.lif:feedback", LIF),
    ("feedback", CubaLIFNeuron, Epsilon, "cpu"): Kernel("cpu.cuba:feedback_epsilon", CUBA),
    ("feedback", LIFNeuron, Epsilon, "cuda"): Kernel("cuda.lif:feedback_epsilon", LIF),
    ("feedback", RecurrentLIFNeuron, Epsilon, "cpu"): Kernel("cpu.recurrent:feedback_epsilon", (*LIF, "recurrent")),
    ("pack spikes", None, None, "cpu"): Kernel("cpu.packing:pack_spikes"),
    ("dense current", None, None, "cpu"): Kernel("cpu.spike_products:dense_current"),
    ("dense adjoints", None, None, "cpu"): Kernel("cpu.spike_products:dense_adjoints"),
    ("convolution current", None, None, "cpu"): Kernel("cpu.spike_products:conv_current"),
    ("convolution adjoints", None, None, "cpu"): Kernel("cpu.spike_products:conv_adjoints"),
    ("sparse current", None, None, "cpu"): Kernel("cpu.sparse:current"),
    ("sparse outer", None, None, "cpu"): Kernel("cpu.sparse:outer"),
    ("max pool", None, None, "cpu"): Kernel("cpu.pool:max_pool"),
    ("max pool feedback", None, None, "cpu"): Kernel("cpu.pool:max_pool_feedback"),
    ("descent", None, None, "cpu"): Kernel("cpu.updates:descent"),
    ("clip units", None, None, "cpu"): Kernel("cpu.updates:clip_units"),
    ("uniform", None, None, "cpu"): Kernel("cpu.noise:uniform_"),
}


def find(operation: str, like: Tensor, neuron: type | None = None, rule: type | None = None) -> Function | None:
    """Return the kernel for tensors like this one, or None if the reference has to run.

    Args:
        operation: its name in the table.
        like: a tensor of the device and dtype that are meant.
        neuron: the kind of neuron.
        rule: the kind of rule.
    """
    device = device_of(like)
    if device is None:
        return None
    for kind in (rule, None) if rule is not None else (None,):
        kernel = TABLE.get((operation, neuron, kind, device))
        if kernel is not None and kernel.heeds(neuron):
            return kernel.load()
    return None


def device_of(tensor: Tensor) -> str | None:
    """Return the device whose kernels take this tensor, or None."""
    kind = tensor.device.type
    if kind == "cpu" and tensor.dtype in FLOATS:
        return "cpu"
    if kind == "cuda" and tensor.dtype in (*FLOATS, torch.bfloat16) and _has_triton():
        return "cuda"
    return None


@cache
def _has_triton() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 3)
