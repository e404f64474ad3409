/* SPDX-License-Identifier: MIT */
/* Runs the samples of golden_samples.h, and says of each which class it is and whether that is the one expected. */
#include <spiking_network.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "golden_samples.h"

int main(void)
{
    size_t sample, t, different = 0;

    for (sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        const uint8_t *inputs = golden_inputs + sample * GOLDEN_SAMPLE_BYTES;
        const uint32_t begin = k_cycle_get_32();
        size_t best;

        spiking_network_start();
        for (t = 0; t < GOLDEN_STEPS; t++)
            spiking_network_step(inputs + t * GOLDEN_STEP_BYTES);
        best = spiking_network_best();
        printk("%s  %u cycles%s\n", spiking_network_class_name(best), (unsigned int)(k_cycle_get_32() - begin),
               best == golden_classes[sample] ? "" : "  differs");
        different += best != golden_classes[sample];
    }
    printk("%s\n", different ? "FAILED" : "all as expected");
    return 0;
}
