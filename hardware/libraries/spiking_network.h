/* SPDX-License-Identifier: MIT */
/*
 * One spiking network, for programs that have no other:
 *
 *     spiking_network_start();                                 before each sample
 *     for (t = 0; t < SPIKING_NETWORK_STEPS; t++)
 *         spiking_network_step(inputs);                        SPIKING_NETWORK_INPUTS bytes, 0..SPIKING_NETWORK_LEVELS
 *     name = spiking_network_class_name(spiking_network_best());
 *
 * An image is the same in every step; a recording has inputs of its own in each. Not for interrupts: take their values,
 * and call these functions outside. One sample at a time.
 */
#ifndef SPIKING_NETWORK_H
#define SPIKING_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "spiking_network_size.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Forget the sample before. */
void spiking_network_start(void);

/* Take one step. */
void spiking_network_step(const uint8_t *inputs);

/* The class that leads: of equal ones the first, 0..SPIKING_NETWORK_CLASSES - 1. */
size_t spiking_network_best(void);

/* The spikes of a class so far; of an output that does not fire, the sum of its membranes. */
int64_t spiking_network_count(size_t class_number);

const char *spiking_network_class_name(size_t class_number);

#ifdef __cplusplus
}
#endif

#endif
