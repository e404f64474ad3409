/*
 * run [STEPS] < samples > spikes
 *
 * Reads samples to the end: constant inputs as [inputs] bytes 0..levels, spikes as [steps][inputs] bytes 0 or 1.
 * Writes [steps][neurons] bytes 0 or 1 for each sample: the neurons of all layers, layer by layer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static network_memory memory;
static uint8_t inputs[NETWORK_INPUTS];
static slfp_state state;

static int fail(const char *what)
{
    fprintf(stderr, "run: %s\n", what);
    return 1;
}

int main(int count, char **arguments)
{
    const unsigned long steps = count > 1 ? strtoul(arguments[1], NULL, 10) : network.steps;
    unsigned long t;
    size_t k;

    if (steps == 0)
        return fail("STEPS must be a number greater than 0");
    for (;;) {
        slfp_start(&state, &network, memory.words, memory.bytes);
        for (t = 0; t < steps; t++) {
            if (t == 0 || !network.constant) {
                const size_t found = fread(inputs, 1, sizeof inputs, stdin);
                if (t == 0 && found == 0 && !ferror(stdin))
                    return fflush(stdout) ? fail("spikes cannot be written") : 0;
                if (found != sizeof inputs)
                    return fail("the last sample is incomplete");
                for (k = 0; k < sizeof inputs; k++)
                    if (inputs[k] > network.levels)
                        return fail("an input is larger than the network's levels");
            }
            slfp_step(&state, inputs);
            for (k = 0; k < network.layers; k++) {
                const size_t size = slfp_size(network.layer[k].out);
                if (network.layer[k].kind == SLFP_MAX_POOL)
                    continue;
                if (fwrite(slfp_spikes(&state, k), 1, size, stdout) != size)
                    return fail("spikes cannot be written");
            }
        }
    }
}
