/*
 * Runs integer spiking networks: C99, integers only, no heap, no recursion; of the standard library only memset and
 * memcpy. Bit for bit what spiking_lfp/integers says.
 *
 *     #include "network.h"
 *
 *     static network_memory memory;
 *     slfp_state state;
 *     slfp_start(&state, &network, memory.words, memory.bytes);      before each sample
 *     for (t = 0; t < network.steps; t++) {
 *         slfp_step(&state, inputs);                                 network.inputs bytes
 *         spikes = slfp_spikes(&state, network.layers - 1);          one byte, 0 or 1, per class
 *         ...                                                        the class that spikes most is predicted
 *     }
 *
 * network.h holds the weights: include it in one file of a program. Several networks may share slfp.c.
 */
#ifndef SLFP_H
#define SLFP_H

#include <stddef.h>
#include <stdint.h>

#define SLFP_DECAY_BITS 12

typedef enum { SLFP_DENSE, SLFP_CONV, SLFP_MAX_POOL } slfp_kind;

/* Kinds of neurons; spiking_lfp/integers has a file for each. */
typedef enum { SLFP_LIF, SLFP_CUBA } slfp_neuron;

typedef enum { SLFP_ZERO, SLFP_SUBTRACT, SLFP_SUBTRACT_DECAYED } slfp_reset;

/*
 * What a step leaves of a membrane V, by the number `decay` of its layer:
 *     mul12_trunc    V * (4096 - decay) / 4096, truncated towards zero
 *     mul12_floor    likewise, rounded down
 *     shift          V - (V >> decay), or V - 1 where V > 0 and that is nothing
 */
typedef enum { SLFP_MUL12_TRUNC, SLFP_MUL12_FLOOR, SLFP_SHIFT } slfp_leak;

/* How membranes are computed. */
typedef struct {
    slfp_leak leak;
    int32_t at_threshold;      /* 1: a neuron spikes at its threshold too; 0: above it only */
    int32_t smallest, largest; /* of a membrane */
    uint8_t wraps;             /* 1: beyond them it goes round; 0: it ends there */
} slfp_arithmetic;

/* mul12_trunc, above the threshold, ends at +-(2^23 - 1): that of layers which name no other. */
extern const slfp_arithmetic slfp_default;

typedef struct {
    uint32_t channels, height, width;
} slfp_shape;

/*
 * One layer. Values lie in the order (channel, row, column), the last one fastest, so that flattening moves nothing
 * and needs no layer. A dense layer has as many channels as features, 1 x 1 each.
 *
 * Weights are laid out by input, so that an input that spikes adds one run of memory per tap to the sums:
 *     dense        weight[input][output]
 *     convolution  weight[input channel][kernel row][kernel column][output of the channel's group]
 */
typedef struct {
    const char *name;
    slfp_kind kind;
    slfp_shape in, out;
    uint32_t kernel[2], stride[2], padding[2]; /* height, width */
    uint32_t groups;
    const int8_t *weight;
    const int32_t *bias;  /* by output channel */
    const int32_t *theta; /* by output channel */
    slfp_reset reset;
    uint32_t decay; /* 0..4095 of 4096 are lost in each step, or bits of a shift */
    uint32_t frac_bits;
    slfp_neuron neuron;
    uint32_t current_decay; /* of SLFP_CUBA: that of its current, as `decay` */
    const slfp_arithmetic *arithmetic; /* NULL: slfp_default */
} slfp_layer;

typedef struct {
    const slfp_layer *layer;
    size_t layers;
    size_t first;   /* the first layer with neurons */
    size_t inputs;  /* bytes of a sample's step */
    size_t neurons; /* of all layers */
    size_t largest; /* neurons of the largest layer */
    uint32_t steps;
    uint32_t levels;  /* largest input value */
    uint8_t constant; /* 1: the same inputs in every step; 0: a sample's inputs are spikes, step by step */
    const char *const *class_names;
} slfp_network;

/* Where a network is in a sample. Its memory is the caller's; network.h says how much. */
typedef struct {
    const slfp_network *network;
    int32_t *membranes; /* of all neurons; in a convolution (row, column, channel); a layer's currents after them */
    int32_t *sums;      /* of the layer that is running, in the same order */
    int32_t *kept;      /* sums of the first layer, if inputs are constant */
    uint8_t *spikes;    /* of the last step, all layers */
    uint8_t running;    /* 0 before the first step */
} slfp_state;

/* Bring the network to rest. `words` and `bytes` are those of the network's network_memory. */
void slfp_start(slfp_state *state, const slfp_network *network, int32_t *words, uint8_t *bytes);

/*
 * Take one step with inputs 0..levels, `network->inputs` bytes. If inputs are constant, the first layer multiplies
 * those of the first step and keeps the sums.
 */
void slfp_step(slfp_state *state, const uint8_t *inputs);

/* The spikes of a layer in the last step, 0 or 1, slfp_size(layer->out) bytes. */
const uint8_t *slfp_spikes(const slfp_state *state, size_t layer);

/* How many values a shape has. */
size_t slfp_size(slfp_shape shape);

#endif
