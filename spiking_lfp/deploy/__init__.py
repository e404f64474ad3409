"""From a trained network to integer hardware: quantised, written to files, simulated, verified, reported."""
