"""The command `spiking-lfp`."""
