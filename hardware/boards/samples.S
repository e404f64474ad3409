/* SPDX-License-Identifier: MIT */
/* The samples of a file, in flash, for classify.c. */
    .section .rodata.samples, "a"
    .balign 4
    .global samples_start, samples_end
samples_start:
    .incbin SAMPLES
samples_end:
    .byte 0
