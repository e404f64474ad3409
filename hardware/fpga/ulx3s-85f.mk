# a ULX3S with an ECP5 LFE5U-85F, 25 MHz
BOARD = ulx3s-85f
FAMILY = ecp5
PART = --85k --package CABGA381 --speed 6
SYNTHESIS = synth_ecp5
BOARD_DEFINES =
OSCILLATOR = 25
CLOCK = 25
FLASH = openFPGALoader -b ulx3s
