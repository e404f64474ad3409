/* SPDX-License-Identifier: MIT */
/*
 * A network behind a sensor: an interrupt brings the inputs of one step at a time, the program takes the steps between the
 * interrupts, and says after the last step of a sample which class it is.
 *
 * Here the sensor is a timer that reads the golden run. Put yours in its place: read it in `sensor`, in the interrupt
 * that says that it has new values. Inputs are bytes 0..network.levels; spikes are 0 and 1.
 */
#include "board.h"
#include "golden.h"
#include "network.h"

#define PERIOD 100000 /* instructions between two interrupts */

static network_memory memory;
static slfp_state state;
static uint8_t inputs[2][NETWORK_INPUTS];
static int64_t counts[NETWORK_CLASSES];
/* steps whose inputs have arrived, and steps taken: two at most wait */
static volatile uint32_t arrived, taken;

static void sensor(void)
{
    static const uint8_t *next = golden_inputs;
    uint8_t *to = inputs[arrived % 2];
    uint32_t k;

    /* with a sensor that does not wait, this step is lost: the network is too slow for it */
    if (arrived - taken == 2 || arrived == (uint32_t)GOLDEN_SAMPLES * GOLDEN_STEPS)
        return;
    for (k = 0; k < NETWORK_INPUTS; k++)
        to[k] = next[k];
    arrived++;
    /* an image is the same in every step */
    if (!network.constant || arrived % GOLDEN_STEPS == 0)
        next += NETWORK_INPUTS;
}

int main(void)
{
    const int adds_up = network.layer[network.layers - 1].neuron == SLFP_LI;
    uint32_t sample, t, k, best;

    board_every(PERIOD, sensor);
    for (sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        slfp_start(&state, &network, memory.words, memory.bytes);
        for (k = 0; k < NETWORK_CLASSES; k++)
            counts[k] = 0;
        for (t = 0; t < GOLDEN_STEPS; t++) {
            const uint8_t *spikes;
            const int32_t *membranes;
            while (arrived == taken)
                board_wait();
            slfp_step(&state, inputs[taken % 2]);
            taken++;
            spikes = slfp_spikes(&state, network.layers - 1);
            membranes = slfp_membranes(&state, network.layers - 1);
            for (k = 0; k < NETWORK_CLASSES; k++)
                counts[k] += adds_up ? membranes[k] : spikes[k];
        }
        for (k = best = 0; k < NETWORK_CLASSES; k++)
            if (counts[k] > counts[best])
                best = k;
        board_print(network_class_names[best]);
        board_print("\n");
    }
    return 0;
}
