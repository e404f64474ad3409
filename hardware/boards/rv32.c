/* SPDX-License-Identifier: MIT */
/* Start, output and timer for 32-bit RISC-V, in machine mode, at the addresses of qemu's `virt`; see board.h. */
#include "board.h"

#define UART ((volatile uint8_t *)0x10000000)
#define FINISHER (*(volatile uint32_t *)0x100000)
#define COMPARE ((volatile uint32_t *)0x2004000) /* the interrupt comes when TIME is so large; 64 bits */
#define TIME ((volatile uint32_t *)0x200bff8)
#define INSTRUCTIONS_A_TICK 100 /* 10 MHz, and in qemu an instruction takes 1 ns */

static void (*timer)(void);
static uint32_t period;

void board_print(const char *text)
{
    while (*text)
        *UART = (uint8_t)*text++;
}

void board_exit(int code)
{
    for (;;)
        FINISHER = code ? 0x13333 : 0x5555;
}

uint64_t board_instructions(void)
{
    uint32_t high, low, again;

    do
        __asm__ volatile("csrr %0, minstreth\n csrr %1, minstret\n csrr %2, minstreth"
                         : "=r"(high), "=r"(low), "=r"(again));
    while (high != again);
    return (uint64_t)high << 32 | low;
}

static void next_interrupt(void)
{
    const uint64_t next = ((uint64_t)TIME[1] << 32 | TIME[0]) + period;

    COMPARE[1] = 0xffffffff;
    COMPARE[0] = (uint32_t)next;
    COMPARE[1] = (uint32_t)(next >> 32);
}

void board_every(uint32_t instructions, void (*function)(void))
{
    timer = function;
    period = instructions / INSTRUCTIONS_A_TICK;
    next_interrupt();
    __asm__ volatile("csrs mie, %0\n csrsi mstatus, 8" : : "r"(1 << 7));
}

void board_wait(void)
{
    __asm__ volatile("wfi");
}

/* The interrupt of the timer; everything else that ends here is a fault. */
__attribute__((interrupt, aligned(4))) static void trap(void)
{
    uint32_t cause;

    __asm__ volatile("csrr %0, mcause" : "=r"(cause));
    if (cause >> 31) {
        next_interrupt();
        timer();
    } else {
        board_print("a fault of the processor\n");
        board_exit(1);
    }
}

static void first(void)
{
    __asm__ volatile("csrw mtvec, %0" : : "r"(trap));
    board_begin();
}

__attribute__((section(".vectors"), naked, used)) static void reset(void)
{
    __asm__ volatile("la sp, stack_top\n tail %0" : : "i"(first));
}
