/* SPDX-License-Identifier: MIT */
/* Replays the golden run of golden.h and prints how many spikes, or membranes of a layer that does not fire, differ in
 * each layer; exits with 1 if any does. On a board it prints how many instructions a sample takes, too. */
#include "golden.h"
#include "network.h"

#ifdef BOARD
#include "board.h"
#else
#include <stdio.h>

static void board_print(const char *text)
{
    fputs(text, stdout);
}

static uint64_t board_instructions(void)
{
    return 0;
}
#endif

static network_memory memory;
static slfp_state state;

/* How many membranes of a layer differ from the golden ones, which are in the order (channel, row, column). */
static size_t differing(const slfp_layer *layer, const int32_t *membranes, const int32_t *golden)
{
    const size_t outputs = layer->out.channels, size = slfp_size(layer->out), positions = size / outputs;
    size_t n, count = 0;

    for (n = 0; n < size; n++)
        count += golden[n] != membranes[n % positions * outputs + n / positions];
    return count;
}

static void print_number(uint64_t number)
{
    char digits[21], *digit = digits + 20;

    *digit = 0;
    do
        *--digit = (char)('0' + number % 10);
    while (number /= 10);
    board_print(digit);
}

int main(void)
{
    /* by layer: spikes that differ, and all spikes */
    static size_t different[NETWORK_LAYERS], spikes[NETWORK_LAYERS];
    const uint8_t *inputs = golden_inputs;
    size_t sample, t, k, n, wrong = 0, all = 0;
    uint64_t instructions = 0, before;

    for (sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        before = board_instructions();
        slfp_start(&state, &network, memory.words, memory.bytes);
        instructions += board_instructions() - before;
        for (t = 0; t < GOLDEN_STEPS; t++) {
            before = board_instructions();
            slfp_step(&state, inputs);
            instructions += board_instructions() - before;
            if (!network.constant || t + 1 == GOLDEN_STEPS)
                inputs += NETWORK_INPUTS;
            for (k = 0; k < network.layers; k++) {
                const uint8_t *found = slfp_spikes(&state, k), *expected = golden_spikes[k];
                const size_t size = slfp_size(network.layer[k].out);
                size_t bit = (sample * GOLDEN_STEPS + t) * size;
                if (golden_membranes[k]) {
                    spikes[k] += size;
                    different[k] += differing(network.layer + k, slfp_membranes(&state, k), golden_membranes[k] + bit);
                }
                if (!expected)
                    continue;
                for (n = 0; n < size; n++, bit++) {
                    const int golden = expected[bit / 8] >> (bit % 8) & 1;
                    spikes[k] += (size_t)golden;
                    different[k] += golden != found[n];
                }
            }
        }
    }
    for (k = 0; k < network.layers; k++)
        if (golden_spikes[k] || golden_membranes[k]) {
            board_print("layer ");
            board_print(network.layer[k].name);
            board_print(": ");
            print_number(spikes[k]);
            board_print(golden_spikes[k] ? " spikes, " : " membranes, ");
            print_number(different[k]);
            board_print(" differ\n");
            wrong += different[k];
            all += spikes[k];
        }
    if (all == 0)
        board_print("there are no spikes to compare\n");
    if (instructions) {
        print_number(instructions / GOLDEN_SAMPLES);
        board_print(" instructions a sample\n");
    }
    return wrong != 0 || all == 0;
}
