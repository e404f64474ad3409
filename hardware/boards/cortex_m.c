/* SPDX-License-Identifier: MIT */
/* Start, output by semihosting, and SysTick as a timer, for any Cortex-M; see board.h. */
#include "board.h"

#define SYSTICK ((volatile uint32_t *)0xe000e010) /* control, reload, current: counts down, 24 bits */
#define TICKS 0xffffffu
#define ENABLED 5u /* by the clock of the processor */
#define INTERRUPTS 2u

extern uint32_t stack_top;

static void (*timer)(void);

/* a call of the debugger, or of qemu */
static void host(uint32_t what, uintptr_t value)
{
    register uint32_t r0 __asm__("r0") = what;
    register uintptr_t r1 __asm__("r1") = value;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void board_print(const char *text)
{
    host(4, (uintptr_t)text); /* SYS_WRITE0 */
}

void board_exit(int code)
{
    for (;;)
        host(24, code ? 0x20023 : 0x20026); /* SYS_EXIT: a run-time error, or the end of the application */
}

/* ticks since the call before */
static uint32_t ticks(void)
{
    static uint32_t before = TICKS;
    const uint32_t now = SYSTICK[2], passed = (before - now) & TICKS;

    before = now;
    return passed;
}

uint64_t board_instructions(void)
{
    static uint32_t measured;
    static uint64_t all;
    const uint32_t loops = 1000000;

    if (!measured) {
        /* how many ticks two million instructions take */
        uint32_t left = loops;
        SYSTICK[1] = TICKS;
        SYSTICK[2] = 0;
        SYSTICK[0] = ENABLED;
        ticks();
        __asm__ volatile(".syntax unified\n1: subs %0, #1\n bne 1b" : "+l"(left) : : "cc");
        measured = ticks();
    }
    all += ticks();
    return all * 2 * loops / measured;
}

void board_every(uint32_t instructions, void (*function)(void))
{
    timer = function;
    SYSTICK[1] = instructions & TICKS;
    SYSTICK[2] = 0;
    SYSTICK[0] = ENABLED | INTERRUPTS;
}

void board_wait(void)
{
    __asm__ volatile("wfi");
}

static void fault(void)
{
    board_print("a fault of the processor\n");
    board_exit(1);
}

static void tick(void)
{
    timer();
}

/* the end of the stack, reset, faults and other exceptions, SysTick */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, board_begin, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, tick,
};
