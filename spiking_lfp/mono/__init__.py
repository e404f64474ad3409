"""Networks that are monotone from the second layer on, and their training without back-propagation (mDFA).

Source: Lechner, Learning representations for binary classification without backpropagation, ICLR 2020.
"""

from spiking_lfp.mono.alignment import METHODS, FeedbackAlignment
from spiking_lfp.mono.networks import (
    ACTIVATIONS,
    INITIALS,
    FeedforwardNet,
    Monotone,
    convolutional,
    from_sigmoid,
    fully_connected,
    loss_gradient,
)
from spiking_lfp.mono.readout import MonoReadout

__all__ = [
    "ACTIVATIONS",
    "INITIALS",
    "METHODS",
    "FeedbackAlignment",
    "FeedforwardNet",
    "MonoReadout",
    "Monotone",
    "convolutional",
    "from_sigmoid",
    "fully_connected",
    "loss_gradient",
]
