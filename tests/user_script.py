"""A user's script, which mypy checks with the package: its public names have types, and are not `Any`."""

from typing import assert_type

import torch
from torch import Tensor, nn

import spiking_lfp
from spiking_lfp import AlphaBeta, UsageError, constant, mlp

network = mlp((1, 2, 2), 3, hidden=(4,), threshold=0.2)
assert_type(network, nn.Sequential)
assert_type(constant(torch.rand(5, 1, 2, 2), 3), Tensor)
assert_type(spiking_lfp.LIF(nn.Linear(4, 3)), spiking_lfp.LIF)
try:
    assert_type(AlphaBeta(alpha=3.0).alpha, float)
except UsageError as error:
    assert_type(error, UsageError)
