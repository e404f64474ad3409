"""Layers, inputs and comparisons for the tests of layers."""

import copy

from torch import nn

from helpers import oracles
from helpers.tensors import assert_near

SYNAPSES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear without bias": (nn.Linear(6, 4, bias=False), (6,)),
    "conv": (nn.Conv2d(2, 3, 3), (2, 5, 4)),
    "conv without bias": (nn.Conv2d(1, 2, 2, bias=False), (1, 3, 4)),
    "conv, stride and padding": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2)), (2, 6, 3)),
    "conv, same": (nn.Conv2d(2, 2, (3, 5), padding="same", dilation=(3, 1)), (2, 4, 5)),
    "conv, valid": (nn.Conv2d(2, 2, 3, padding="valid"), (2, 4, 3)),
    "conv, dilation": (nn.Conv2d(1, 2, 2, dilation=(2, 3)), (1, 4, 5)),
    "conv, groups": (nn.Conv2d(4, 6, 2, groups=2, stride=2, padding=1), (4, 3, 3)),
    "conv, same, uneven": (nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(1, 3)), (2, 3, 4)),
    "conv, circular": (nn.Conv2d(2, 3, 3, stride=2, padding=(1, 2), padding_mode="circular"), (2, 4, 3)),
    "signal": (nn.Conv1d(3, 4, 3), (3, 6)),
    "signal, all arguments": (nn.Conv1d(4, 6, 3, 2, 3, 2, groups=2, bias=False), (4, 7)),
    "signal, same": (nn.Conv1d(2, 2, 4, padding="same"), (2, 5)),
    "signal, reflect": (nn.Conv1d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 4)),
    "volume": (nn.Conv3d(2, 3, 2), (2, 3, 2, 4)),
    "volume, all arguments": (nn.Conv3d(2, 4, (2, 3, 1), (1, 2, 3), (1, 2, 0), (2, 1, 1), groups=2), (2, 3, 3, 4)),
    "volume, replicate": (nn.Conv3d(1, 2, 2, padding=(1, 0, 2), padding_mode="replicate"), (1, 2, 3, 2)),
    "transposed signal": (nn.ConvTranspose1d(2, 4, 3, 2, 1, output_padding=1, groups=2), (2, 4)),
    "transposed": (nn.ConvTranspose2d(3, 2, (3, 2), (2, 1), (1, 0), (1, 0), dilation=(1, 2), bias=False), (3, 3, 2)),
    "transposed volume": (nn.ConvTranspose3d(2, 2, 2), (2, 2, 1, 2)),
}


def build(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A synapse in float64, and the shape of its samples."""
    synapse, shape = copy.deepcopy(SYNAPSES[kind])
    for parameter in synapse.double().parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return synapse, shape


def assert_parameters_near(synapse: nn.Module, expected: oracles.Result) -> None:
    """Parameters receive minus their update."""
    assert_near(-synapse.weight.grad, expected.weight_update)
    if synapse.bias is not None:
        assert_near(-synapse.bias.grad, expected.bias_update)
