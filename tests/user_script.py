"""A user's script, which mypy checks with the package, and a test runs: public names have types, and are not `Any`."""

from typing import assert_type

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spiking_lfp as lfp
from spiking_lfp.data import EventRecipe, load_samples
from spiking_lfp.training import TrainConfig


class Residual(nn.Module):
    """Two layers, the second of which is skipped, too."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first = lfp.LIF(nn.Linear(inputs, hidden), beta=0.9)
        self.second = lfp.LIF(nn.Linear(hidden, hidden), rule=lfp.ZPlusZMinus())
        self.readout = lfp.LIF(nn.Linear(hidden, classes), threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        outputs: Tensor = self.readout(lfp.add(hidden, self.second(hidden)))
        return outputs


values, labels = torch.rand(60, 8), torch.arange(60) % 3
loader = DataLoader(TensorDataset(values, labels), batch_size=20, shuffle=True)
run = lfp.fit(Residual(8, 16, 3), loader, (values, labels), out="runs/residual", epochs=2, steps=5, progress=False)
assert_type(run.predict(values[:4]).names, list[str])
assert_type(run.evaluate((values, labels)).accuracy, float)
print([epoch["test"]["accuracy"] for epoch in run.history])
network = lfp.load("runs/residual", network=Residual(8, 16, 3))
if isinstance(network, nn.Module):
    spikes: Tensor = network(lfp.constant(values, 5))
    print(spikes.shape, lfp.spike_count_reward(spikes, labels).shape)

chain = nn.Sequential(lfp.LIF(nn.Linear(8, 16)), lfp.LIF(nn.Linear(16, 3), threshold=0.1))
lfp.fit(chain, (values, labels), (values, labels), out="runs/chain", epochs=1, steps=5, progress=False)
exported = lfp.export("runs/chain", (values, labels), to=["artifact", "c"], out="out")
print(exported.files["c"], len(exported.network.layers), exported.refused)
try:
    assert_type(lfp.AlphaBeta(alpha=3.0).alpha, float)
except lfp.UsageError as error:
    print(error)

# settings that are left out have defaults for type checkers, too
assert_type(EventRecipe(steps=5, augment=("shift=2",), copies=2).steps, int)
assert_type(TrainConfig(data="n-mnist", lr=2e-3).epochs, int)
print(load_samples("mnist-subset", EventRecipe(steps=5)).train.batch(torch.arange(2))[0].shape)
