/* SPDX-License-Identifier: MIT */
/* What a program on a bare board needs beside slfp.h: text, a count of instructions, a timer, an end. No C library. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Write a text where qemu shows it; on your board send it through a UART. */
void board_print(const char *text);

/* Instructions since the first call; in qemu with `-icount shift=0`. Call it at least every 200 million of them. */
uint64_t board_instructions(void);

/* Call a function from a timer's interrupt, again and again, with about so many instructions between; not together with
 * board_instructions. */
void board_every(uint32_t instructions, void (*function)(void));

/* Sleep until an interrupt has been handled. */
void board_wait(void);

/* End the program in qemu: 0 is success. */
void board_exit(int code);

/* Fill the memory, run main and end with what it returns; the code after a reset calls it. */
void board_begin(void);

#ifdef __cplusplus
}
#endif

int main(void);

#endif
