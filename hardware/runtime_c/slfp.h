/* SPDX-License-Identifier: MIT */
/*
 * Runs integer spiking networks: C99, integers only, no heap, no recursion; of the standard library only memset and
 * memcpy. Bit for bit the neurons of spiking_lfp/integers.
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
 * The last layer may be one that does not fire (SLFP_LI): then the class is predicted whose slfp_membranes, over all
 * steps, add up to most.
 *
 * network.h holds the weights: include it in one file of a program. Several networks may share slfp.c: each network.h in a
 * file of its own. All of it is C++20, too, and slfp.c as C may be linked with C++.
 */
#ifndef SLFP_H
#define SLFP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLFP_DECAY_BITS 12

/*
 * SLFP_MAX_POOL is the OR of spikes; SLFP_LARGEST the largest, SLFP_SUM_POOL the sum of any values in a window. The
 * neurons of SLFP_RECURRENT, a dense layer, see their own spikes of the step before. SLFP_PAD has a border around its
 * inputs: its windows are of one value.
 */
typedef enum {
    SLFP_DENSE, SLFP_CONV, SLFP_MAX_POOL, SLFP_LARGEST, SLFP_SUM_POOL, SLFP_ADD, SLFP_RECURRENT,
    SLFP_PAD
} slfp_layer_kind;

/* The neurons of spiking_lfp/integers, which has a file for each. */
typedef enum { SLFP_LIF, SLFP_CUBA, SLFP_LI } slfp_neuron_kind;

typedef enum { SLFP_ZERO, SLFP_SUBTRACT, SLFP_SUBTRACT_DECAYED } slfp_reset;

/*
 * The leak: a membrane V after one step, by the `decay` of its layer or output:
 *     mul12_trunc    V * (4096 - decay) / 4096, truncated towards zero
 *     mul12_floor    the same, rounded down
 *     shift          V - (V >> decay), or V - 1 where V > 0 and V >> decay is 0
 */
typedef enum { SLFP_MUL12_TRUNC, SLFP_MUL12_FLOOR, SLFP_SHIFT } slfp_leak;

/* The arithmetic of the membranes of a layer. */
typedef struct {
    slfp_leak leak;
    int32_t at_threshold;      /* 1: a neuron spikes where membrane >= threshold; 0: where it is > */
    int32_t smallest, largest; /* membranes */
    uint8_t wraps;             /* 1: overflow wraps around; 0: it saturates */
} slfp_arithmetic;

/* mul12_trunc, >, saturates at +-(2^23 - 1): of layers without an arithmetic of their own. */
extern const slfp_arithmetic slfp_default;

typedef struct {
    uint32_t channels, height, width;
} slfp_shape;

/*
 * One layer. Values are in the order (channel, row, column), the last one fastest, so flattening does not change them
 * and needs no layer. A dense layer has as many channels as features, 1 x 1 each.
 *
 * Values are one byte each. Larger ones, such as sums, have further bytes: the lowest byte of all values comes first,
 * then the next one of all values.
 *
 * Weights are in rows, so that an input spike adds one row to the sums, for each place of a kernel:
 *     dense        weight[input][output]
 *     recurrent    the same, and then weight[neuron][output], of which a spike counts as `factor`
 *     convolution  weight[input channel][kernel row][kernel column][output of the channel's group]
 * Each has 8 bits, in two's complement; or 4 or 2, and then 2^(bits - 1) - 1 is added to it. They are packed in words, the
 * first one in the lowest bits. Rows are padded to row_words words; or not at all, if row_words is 0. A further word,
 * which is not used, follows the last row.
 */
typedef struct {
    const char *name;
    slfp_layer_kind kind;
    slfp_shape in, out;
    uint32_t kernel[2], stride[2], padding[2]; /* height, width */
    uint32_t groups;
    const uint32_t *weight;
    uint32_t weight_bits, row_words;
    const int32_t *bias;  /* by output channel */
    const int32_t *theta; /* by output channel; not of SLFP_LI, nor is reset */
    slfp_reset reset;
    uint32_t decay; /* a step loses decay / 4096, decay 0..4095, or of SLFP_SHIFT 1 / 2^decay */
    uint32_t frac_bits;
    slfp_neuron_kind neuron;
    uint32_t current_decay; /* of SLFP_CUBA: decay of the current */
    const slfp_arithmetic *arithmetic; /* NULL: slfp_default */
    const uint32_t *sources;           /* whose outputs it takes: k + 1 is layer k, 0 the inputs; NULL: the one before */
    uint32_t summands;                 /* of SLFP_ADD: how many sources */
    uint32_t further_bytes;            /* of each value that it hands on, beside the first */
    uint32_t factor;                   /* of SLFP_RECURRENT: what a spike of its own counts as */
    const int32_t *fill;               /* of SLFP_PAD: the value in the border, by channel */
    const uint32_t *decays;            /* by output channel, in place of decay; NULL: that for all */
    const uint32_t *current_decays;    /* likewise, in place of current_decay */
} slfp_layer;

typedef struct {
    const slfp_layer *layer;
    size_t layers;
    size_t first;   /* the first layer with neurons */
    size_t inputs;  /* bytes of one step of a sample */
    size_t neurons; /* of all layers */
    size_t largest; /* neurons of the largest layer */
    uint32_t steps;
    uint32_t levels;  /* largest input value */
    uint8_t constant; /* 1: the same inputs in every step; 0: different ones, spikes or 0..levels */
    const char *const *class_names;
} slfp_network;

/* The state of a network. The caller provides its memory, whose size is in network.h. */
typedef struct {
    const slfp_network *network;
    int32_t *membranes;     /* of all layers, each (row, column, channel), followed by its currents if it has any */
    int32_t *sums;          /* of the layer that is running, in the same order */
    int32_t *constant_sums; /* sums of the first layer, if inputs are constant */
    uint8_t *spikes;        /* values that the layers handed on in the last step, all layers */
    uint8_t running;        /* 0 before the first step */
} slfp_state;

/* Set all states to 0, before each sample. `words` and `bytes` are those of the network's network_memory. */
void slfp_start(slfp_state *state, const slfp_network *network, int32_t *words, uint8_t *bytes);

/*
 * Take one step with inputs 0..levels, `network->inputs` bytes. If inputs are constant, give the same in every step of
 * a sample; the sums of the first layer with neurons are kept.
 */
void slfp_step(slfp_state *state, const uint8_t *inputs);

/* The spikes of a layer in the last step, 0 or 1, slfp_size(layer->out) bytes. */
const uint8_t *slfp_spikes(const slfp_state *state, size_t layer);

/* The membranes of a layer after the last step, slfp_size(layer->out) words in the order (row, column, channel). */
const int32_t *slfp_membranes(const slfp_state *state, size_t layer);

/* The number of values of a shape. */
size_t slfp_size(slfp_shape shape);

#ifdef __cplusplus
}
#endif

#endif
