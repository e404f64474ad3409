"""Figures of runs, samples and networks, as files: PNG, PDF, SVG and more, and GIF."""

from spiking_lfp.plots.curves import learning_curve
from spiking_lfp.plots.moving import animation
from spiking_lfp.plots.runs import draw_run
from spiking_lfp.plots.stills import explanation, frame_strip, spike_raster
from spiking_lfp.plots.tables import confusion

__all__ = ["animation", "confusion", "draw_run", "explanation", "frame_strip", "learning_curve", "spike_raster"]
