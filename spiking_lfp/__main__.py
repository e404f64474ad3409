"""`python -m spiking_lfp` is the command `spiking-lfp`."""

from spiking_lfp.cli.main import main

main()
