"""Neurons: their constants, and what they do going forward and back, in plain torch; one file each."""
