// SPDX-License-Identifier: MIT
// Runs the samples of golden_samples.h, and says of each which class it is and whether that is the one expected.
// A network of your own: fill an array of SPIKING_NETWORK_INPUTS bytes from a sensor, and give it to
// spiking_network_step().
#include <spiking_network.h>

#include "golden_samples.h"

void setup()
{
    Serial.begin(115200);
    size_t different = 0;
    for (size_t sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        const uint8_t *inputs = golden_inputs + sample * GOLDEN_SAMPLE_BYTES;
        const unsigned long begin = micros();
        spiking_network_start();
        for (size_t t = 0; t < GOLDEN_STEPS; t++)
            spiking_network_step(inputs + t * GOLDEN_STEP_BYTES);
        const unsigned long taken = micros() - begin;
        const size_t best = spiking_network_best();
        Serial.print(spiking_network_class_name(best));
        Serial.print(best == golden_classes[sample] ? "  " : "  differs  ");
        Serial.print(taken);
        Serial.println(" us");
        different += best != golden_classes[sample];
    }
    Serial.println(different ? "FAILED" : "all as expected");
}

void loop()
{
}
