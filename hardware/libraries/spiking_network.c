/* SPDX-License-Identifier: MIT */
#include "spiking_network.h"

#include "network.h"

static network_memory memory;
static slfp_state state;
static int64_t counts[NETWORK_CLASSES];

void spiking_network_start(void)
{
    size_t k;

    slfp_start(&state, &network, memory.words, memory.bytes);
    for (k = 0; k < NETWORK_CLASSES; k++)
        counts[k] = 0;
}

void spiking_network_step(const uint8_t *inputs)
{
    const size_t last = network.layers - 1;
    size_t k;

    slfp_step(&state, inputs);
    if (network.layer[last].neuron == SLFP_LI) {
        const int32_t *membranes = slfp_membranes(&state, last);
        for (k = 0; k < NETWORK_CLASSES; k++)
            counts[k] += membranes[k];
    } else {
        const uint8_t *spikes = slfp_spikes(&state, last);
        for (k = 0; k < NETWORK_CLASSES; k++)
            counts[k] += spikes[k];
    }
}

size_t spiking_network_best(void)
{
    size_t k, best = 0;

    for (k = 1; k < NETWORK_CLASSES; k++)
        if (counts[k] > counts[best])
            best = k;
    return best;
}

int64_t spiking_network_count(size_t class_number)
{
    return counts[class_number];
}

const char *spiking_network_class_name(size_t class_number)
{
    return network_class_names[class_number];
}
