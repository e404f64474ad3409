# an iCEBreaker: iCE40UP5K, 12 MHz
BOARD = icebreaker
FAMILY = ice40
PART = --up5k --package sg48
SYNTHESIS = synth_ice40 -dsp -device u
BOARD_DEFINES = -DPLL_PAD -DLED_LOW
OSCILLATOR = 12
CLOCK = 12
FLASH = iceprog
