/* SPDX-License-Identifier: MIT */
/*
 * run [STEPS] < samples > spikes
 *
 * Reads samples to the end, bytes 0..levels: constant inputs as [inputs], others as [steps][inputs].
 * Writes [steps][neurons] bytes 0 or 1 for each sample: the neurons of all layers, layer by layer; those of a layer that
 * does not fire as their membranes, four bytes each, the lowest first.
 */
#include <stdio.h>

#include "network.h"
#include "steps.h"

static network_memory memory;
static uint8_t inputs[NETWORK_INPUTS];
static slfp_state state;

static int fail(const char *what)
{
    fprintf(stderr, "run: %s\n", what);
    return 1;
}

/* Write the membranes of a layer in the order (channel, row, column); return 0 if that fails. */
static int write_membranes(const slfp_layer *layer, const int32_t *membranes)
{
    const size_t outputs = layer->out.channels, positions = (size_t)layer->out.height * layer->out.width;
    size_t o, position, byte;

    for (o = 0; o < outputs; o++)
        for (position = 0; position < positions; position++) {
            const uint32_t value = (uint32_t)membranes[position * outputs + o];
            for (byte = 0; byte < 4; byte++)
                if (putchar((int)(value >> 8 * byte & 255)) == EOF)
                    return 0;
        }
    return 1;
}

int main(int count, char **arguments)
{
    const uint32_t steps = called_steps("run", count, arguments, network.steps);
    uint32_t t;
    size_t k;

    if (steps == 0)
        return 1;
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
                if (!network.layer[k].weight)
                    continue;
                if (network.layer[k].neuron == SLFP_LI) {
                    if (!write_membranes(network.layer + k, slfp_membranes(&state, k)))
                        return fail("membranes cannot be written");
                } else if (fwrite(slfp_spikes(&state, k), 1, size, stdout) != size)
                    return fail("spikes cannot be written");
            }
        }
    }
}
