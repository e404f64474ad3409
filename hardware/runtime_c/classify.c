/* SPDX-License-Identifier: MIT */
/*
 * classify [STEPS] < samples
 *
 * Reads samples to the end, as `spiking-lfp convert` writes them, bytes 0..levels: constant inputs as [inputs], others as
 * [steps][inputs]. Prints a line for each sample: the class whose neuron spikes most, of equal ones the
 * first, and its number of spikes; where the last layer does not fire, the class whose membrane adds up to most.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static network_memory memory;
static uint8_t inputs[NETWORK_INPUTS];
static int64_t counts[NETWORK_CLASSES];
static slfp_state state;

static int fail(const char *what)
{
    fprintf(stderr, "classify: %s\n", what);
    return 1;
}

int main(int count, char **arguments)
{
    const unsigned long steps = count > 1 ? strtoul(arguments[1], NULL, 10) : network.steps;
    const int adds_up = network.layer[network.layers - 1].neuron == SLFP_LI;
    unsigned long t;
    size_t k, best;

    if (steps == 0)
        return fail("STEPS must be a number greater than 0");
    for (;;) {
        slfp_start(&state, &network, memory.words, memory.bytes);
        for (k = 0; k < NETWORK_CLASSES; k++)
            counts[k] = 0;
        for (t = 0; t < steps; t++) {
            const uint8_t *spikes;
            const int32_t *membranes;
            if (t == 0 || !network.constant) {
                const size_t found = fread(inputs, 1, sizeof inputs, stdin);
                if (t == 0 && found == 0 && !ferror(stdin))
                    return fflush(stdout) ? fail("classes cannot be written") : 0;
                if (found != sizeof inputs)
                    return fail("the last sample is incomplete");
                for (k = 0; k < sizeof inputs; k++)
                    if (inputs[k] > network.levels)
                        return fail("an input is larger than the network's levels");
            }
            slfp_step(&state, inputs);
            spikes = slfp_spikes(&state, network.layers - 1);
            membranes = slfp_membranes(&state, network.layers - 1);
            for (k = 0; k < NETWORK_CLASSES; k++)
                counts[k] += adds_up ? membranes[k] : spikes[k];
        }
        for (k = best = 0; k < NETWORK_CLASSES; k++)
            if (counts[k] > counts[best])
                best = k;
        if (printf("%s\t%" PRId64 "\n", network_class_names[best], counts[best]) < 0)
            return fail("classes cannot be written");
    }
}
