/* SPDX-License-Identifier: MIT */
/* What every bare board has in common: memory at the start, and the two functions that compilers call. */
#include "board.h"

#include <stddef.h>

/* from board.ld */
extern uint32_t data_start, data_end, data_in_flash, bss_start, bss_end;

void *memset(void *to, int value, size_t count);
void *memcpy(void *restrict to, const void *restrict from, size_t count);

void *memset(void *to, int value, size_t count)
{
    uint8_t *byte = to;

    for (; count; count--)
        *byte++ = (uint8_t)value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    uint8_t *byte = to;
    const uint8_t *source = from;

    for (; count; count--)
        *byte++ = *source++;
    return to;
}

void board_begin(void)
{
    const uint32_t *from = &data_in_flash;
    uint32_t *to;

    for (to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (to = &bss_start; to < &bss_end;)
        *to++ = 0;
    board_exit(main());
}
