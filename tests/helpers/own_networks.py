"""A network and values of one's own, for tests of `fit`."""

from typing import Any

import torch
from torch import Tensor, nn

import spiking_lfp as lfp

VALUES = torch.rand(23, 6, generator=torch.Generator().manual_seed(1))


LABELS = (VALUES[:, 0] > VALUES[:, 1]).long()


PAIR = (VALUES, LABELS)


SMALL: dict[str, Any] = {"steps": 4, "epochs": 2, "batch_size": 5, "progress": False, "log_every": 1}


# with an encoder of one's own, which says how many steps there are
ENCODED = {name: value for name, value in SMALL.items() if name != "steps"}


class Skip(nn.Module):
    """A network of one's own, with a path around a layer."""

    def __init__(self, inputs: int = 6, width: int = 8) -> None:
        super().__init__()
        self.entry = lfp.LIF(nn.Linear(inputs, width), threshold=0.2)
        self.block = lfp.LIF(nn.Linear(width, width), threshold=0.2)
        self.head = lfp.LIF(nn.Linear(width, 2), threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.entry(x.flatten(2))
        out: Tensor = self.head(lfp.add(spikes, self.block(spikes)))
        return out


def network(seed: int = 0) -> Skip:
    torch.manual_seed(seed)
    return Skip()


def weights(module: nn.Module) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in module.parameters()]
