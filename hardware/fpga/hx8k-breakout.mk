# an iCE40-HX8K Breakout Board, 12 MHz
BOARD = hx8k-breakout
FAMILY = ice40
PART = --hx8k --package ct256
SYNTHESIS = synth_ice40 -device hx
BOARD_DEFINES =
OSCILLATOR = 12
CLOCK = 24
FLASH = iceprog
