"""Optimisers and learning-rate schedules by name."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR

Parameters = Iterable[nn.Parameter]
# each makes an optimiser from parameters, learning rate, momentum (of sgd) and beta2 (of the others)
OPTIMIZERS: dict[str, Callable[[Parameters, float, float, float], Optimizer]] = {
    "adam": lambda parameters, lr, _, beta2: Adam(parameters, lr, (0.9, beta2), fused=True),
    "adamw": lambda parameters, lr, _, beta2: AdamW(parameters, lr, (0.9, beta2), fused=True),
    # LFP eq. 5
    "sgd": lambda parameters, lr, momentum, _: SGD(parameters, lr, momentum, dampening=momentum),
}
# each makes a schedule from an optimiser and the number of updates
SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": lambda optimizer, updates: ConstantLR(optimizer, 1.0),
    "linear": lambda optimizer, updates: LinearLR(optimizer, 1.0, 0.0, updates),
    "cosine": CosineAnnealingLR,
    # momentum stays: cycling it changes what Adam's first updates do
    "one-cycle": lambda optimizer, updates: OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], updates, cycle_momentum=False
    ),
}
