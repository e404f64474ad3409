/* SPDX-License-Identifier: MIT */
/*
 * classify [STEPS] < samples
 *
 * Reads samples to the end, as `spiking-lfp convert` writes them, bytes 0..levels: constant inputs as [inputs], others as
 * [steps][inputs]. Prints a line for each sample: the class whose neuron spikes most, of equal ones the first, and its
 * number of spikes; where the last layer does not fire, the class whose membrane adds up to most. On a board the samples
 * are in flash: `make classes SAMPLES=FILE`.
 */
#include "network.h"

#ifdef BOARD
#include "board.h"

/* from samples.S */
extern const uint8_t samples_start[], samples_end[];

static size_t read_samples(uint8_t *to, size_t count)
{
    static const uint8_t *next = samples_start;
    size_t k;

    for (k = 0; k < count && next < samples_end; k++)
        to[k] = *next++;
    return k;
}

static int print_class(const char *name, int64_t count)
{
    char digits[22], *digit = digits + 21;
    uint64_t left = count < 0 ? -(uint64_t)count : (uint64_t)count;

    *digit = 0;
    do
        *--digit = (char)('0' + left % 10);
    while (left /= 10);
    if (count < 0)
        *--digit = '-';
    board_print(name);
    board_print("\t");
    board_print(digit);
    board_print("\n");
    return 0;
}

static int fail(const char *what)
{
    board_print("classify: ");
    board_print(what);
    board_print("\n");
    return 1;
}
#else
#include <inttypes.h>
#include <stdio.h>

#include "steps.h"

static size_t read_samples(uint8_t *to, size_t count)
{
    return fread(to, 1, count, stdin);
}

static int print_class(const char *name, int64_t count)
{
    return printf("%s\t%" PRId64 "\n", name, count) < 0;
}

static int fail(const char *what)
{
    fprintf(stderr, "classify: %s\n", what);
    return 1;
}
#endif

static network_memory memory;
static uint8_t inputs[NETWORK_INPUTS];
static int64_t counts[NETWORK_CLASSES];
static slfp_state state;

static int classify(uint32_t steps)
{
    const int adds_up = network.layer[network.layers - 1].neuron == SLFP_LI;
    uint32_t t;
    size_t k, best;

    for (;;) {
        slfp_start(&state, &network, memory.words, memory.bytes);
        for (k = 0; k < NETWORK_CLASSES; k++)
            counts[k] = 0;
        for (t = 0; t < steps; t++) {
            const uint8_t *spikes;
            const int32_t *membranes;
            if (t == 0 || !network.constant) {
                const size_t found = read_samples(inputs, sizeof inputs);
                if (t == 0 && found == 0)
                    return 0;
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
        if (print_class(network_class_names[best], counts[best]))
            return fail("classes cannot be written");
    }
}

#ifdef BOARD
int main(void)
{
    return classify(network.steps);
}
#else
int main(int count, char **arguments)
{
    const uint32_t steps = called_steps("classify", count, arguments, network.steps);
    int code;

    if (steps == 0)
        return 1;
    code = classify(steps);
    if (!code && ferror(stdin))
        code = fail("samples cannot be read");
    return fflush(stdout) && !code ? fail("classes cannot be written") : code;
}
#endif
