"""Converts networks from and to other packages where every spike stays the same, and refuses all others.

Converted are chains, `nn.Sequential` or norse's `SequentialState`, of `nn.Linear` or convolutions of torch with
neurons directly after each, pooling, dropout and flattening. Parameters are copied, not shared. All states start at 0
on both sides. Weights are float32 or float64.

`nn.Dropout` becomes ours, which drops the same inputs in every step, and goes back; both must be in `eval()`.

A batch normalisation between synapse and neurons becomes the `norm` of our layer, from snnTorch, where it learns on, or
is folded, from norse and to both. Spikes are then those of the other side in `eval()`, up to rounding.
"""

from spiking_lfp.deploy.interop.norse import from_norse, to_norse
from spiking_lfp.deploy.interop.snntorch import from_snntorch, to_snntorch

__all__ = ["from_norse", "from_snntorch", "to_norse", "to_snntorch"]
