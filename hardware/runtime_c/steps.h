/* SPDX-License-Identifier: MIT */
/* The argument STEPS of run.c and classify.c. */
#ifndef STEPS_H
#define STEPS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The steps that a program is called with, those of its network if it is called without; 0 after a message. */
static uint32_t called_steps(const char *program, int count, char **arguments, uint32_t of_network)
{
    unsigned long steps;
    char *end;

    if (count < 2)
        return of_network;
    if (count > 2) {
        fprintf(stderr, "%s: there are %d arguments, expected STEPS or none: samples are read from stdin\n", program, count - 1);
        return 0;
    }
    errno = 0;
    steps = strtoul(arguments[1], &end, 10);
    /* strtoul takes a number below 0 for a huge one */
    if (steps == 0 || errno || steps != (uint32_t)steps || *end || strchr(arguments[1], '-')) {
        fprintf(stderr, "%s: STEPS is '%s', expected a whole number from 1 to 4294967295, or none for the network's own\n",
                program, arguments[1]);
        return 0;
    }
    return (uint32_t)steps;
}

#endif
