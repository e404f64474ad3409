"""Figures of runs, samples and networks, as PNG and GIF files."""

from spiking_lfp.plots.curves import learning_curve
from spiking_lfp.plots.moving import animation
from spiking_lfp.plots.stills import explanation, frame_strip, spike_raster
from spiking_lfp.plots.tables import confusion

__all__ = ["animation", "confusion", "explanation", "frame_strip", "learning_curve", "spike_raster"]
