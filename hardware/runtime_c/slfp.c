#include "slfp.h"

#include <string.h>

#define BLOCK 16

const slfp_arithmetic slfp_default = {SLFP_MUL12_TRUNC, 0, -8388607, 8388607, 0};

size_t slfp_size(slfp_shape shape)
{
    return (size_t)shape.channels * shape.height * shape.width;
}

/* Number of states of a layer: membranes, then currents. */
static size_t state_size(const slfp_layer *layer)
{
    if (!layer->weight)
        return 0;
    return slfp_size(layer->out) * (layer->neuron == SLFP_CUBA ? 2 : 1);
}

/* Bytes that a layer hands on in a step. */
static size_t value_bytes(const slfp_layer *layer)
{
    return slfp_size(layer->out) * (1 + layer->further_bytes);
}

void slfp_start(slfp_state *state, const slfp_network *network, int32_t *words, uint8_t *bytes)
{
    const slfp_layer *layer = network->layer;
    size_t spikes = 0, words_used = 0, k;

    for (k = 0; k < network->layers; k++) {
        spikes += value_bytes(layer + k);
        words_used += state_size(layer + k);
    }
    state->network = network;
    state->membranes = words;
    state->sums = words + words_used;
    state->constant_sums = state->sums + network->largest;
    state->spikes = bytes;
    state->running = 0;
    memset(state->membranes, 0, words_used * sizeof *state->membranes);
    memset(state->spikes, 0, spikes);
}

/* sums += value * weights; in blocks of constant size, which compilers vectorise at -O2 too */
static void add(int32_t *restrict sums, const int8_t *restrict weights, size_t count, int32_t value)
{
    size_t k, low = 0;

    if (value == 1) {
        for (; low + BLOCK <= count; low += BLOCK)
            for (k = 0; k < BLOCK; k++)
                sums[low + k] += weights[low + k];
        for (; low < count; low++)
            sums[low] += weights[low];
    } else {
        for (; low < count; low++)
            sums[low] += value * weights[low];
    }
}

static void add_dense(const slfp_layer *layer, const uint8_t *inputs, int32_t *sums)
{
    const size_t outputs = layer->out.channels;
    size_t k;

    for (k = 0; k < layer->in.channels; k++)
        if (inputs[k])
            add(sums, layer->weight + k * outputs, outputs, inputs[k]);
}

/* The outputs low..high - 1, along one axis, that the input at `position` reaches. */
typedef struct {
    size_t low, high;
} range;

static range reached_by(const slfp_layer *layer, int axis, size_t position, size_t outputs)
{
    const size_t kernel = layer->kernel[axis], stride = layer->stride[axis], padded = position + layer->padding[axis];
    range found;

    found.low = padded < kernel ? 0 : (padded - kernel) / stride + 1;
    found.high = padded / stride + 1;
    if (found.high > outputs)
        found.high = outputs;
    return found;
}

static void add_conv(const slfp_layer *layer, const uint8_t *inputs, int32_t *sums)
{
    const size_t channels = layer->in.channels, outputs = layer->out.channels;
    const size_t share = outputs / layer->groups, per_group = channels / layer->groups;
    const size_t kernel = (size_t)layer->kernel[0] * layer->kernel[1];
    size_t c, y, x, i, j;

    for (c = 0; c < channels; c++) {
        const int8_t *taps = layer->weight + c * kernel * share;
        int32_t *group = sums + c / per_group * share;
        for (y = 0; y < layer->in.height; y++) {
            const range rows = reached_by(layer, 0, y, layer->out.height);
            for (x = 0; x < layer->in.width; x++) {
                const int32_t value = *inputs++;
                range columns;
                if (!value)
                    continue;
                columns = reached_by(layer, 1, x, layer->out.width);
                for (i = rows.low; i < rows.high; i++)
                    for (j = columns.low; j < columns.high; j++) {
                        const size_t a = y + layer->padding[0] - i * layer->stride[0];
                        const size_t b = x + layer->padding[1] - j * layer->stride[1];
                        add(group + (i * layer->out.width + j) * outputs, taps + (a * layer->kernel[1] + b) * share,
                            share, value);
                    }
            }
        }
    }
}

/* Values that layers hand on: `size` of them, with `further` bytes each beside the first. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
    uint32_t further;
} values;

static uint32_t value_at(const values *from, size_t k)
{
    uint32_t value = 0, byte;

    for (byte = 0; byte <= from->further; byte++)
        value |= (uint32_t)from->bytes[byte * from->size + k] << 8 * byte;
    return value;
}

static void hand_on(const slfp_layer *layer, uint8_t *bytes, size_t k, uint32_t value)
{
    const size_t size = slfp_size(layer->out);
    uint32_t byte;

    for (byte = 0; byte <= layer->further_bytes; byte++)
        bytes[byte * size + k] = (uint8_t)(value >> 8 * byte & 255);
}

/* sums += weights x inputs */
static void add_inputs(const slfp_layer *layer, const uint8_t *inputs, int32_t *sums)
{
    if (layer->kind == SLFP_DENSE)
        add_dense(layer, inputs, sums);
    else
        add_conv(layer, inputs, sums);
}

/* sums = weights x inputs + bias */
static void multiply(const slfp_layer *layer, const values *inputs, int32_t *sums)
{
    const size_t outputs = layer->out.channels, positions = (size_t)layer->out.height * layer->out.width;
    uint32_t byte = inputs->further;
    size_t k;

    if (!byte)
        for (k = 0; k < positions; k++)
            memcpy(sums + k * outputs, layer->bias, outputs * sizeof *sums);
    else
        memset(sums, 0, positions * outputs * sizeof *sums);
    /* the highest bytes first: each time, what is there counts 256 times */
    for (; byte; byte--) {
        add_inputs(layer, inputs->bytes + byte * inputs->size, sums);
        for (k = 0; k < positions * outputs; k++)
            sums[k] = sums[k] * 256 + (byte == 1 ? layer->bias[k % outputs] : 0);
    }
    add_inputs(layer, inputs->bytes, sums);
}

/* old >> bits, rounded down; for negative numbers >> is implementation-defined in C */
static inline int32_t shift(int32_t old, uint32_t bits)
{
    return old < 0 ? ~(~old >> bits) : old >> bits;
}

static inline int32_t leaked(int32_t old, uint32_t decay, slfp_leak leak)
{
    const uint32_t kept = (1u << SLFP_DECAY_BITS) - decay, low = (1u << SLFP_DECAY_BITS) - 1;
    uint32_t size;
    int32_t lost, left;

    switch (leak) {
    case SLFP_SHIFT:
        lost = shift(old, decay);
        return old - (lost + (lost == 0 && old > 0));
    case SLFP_MUL12_FLOOR:
        /* in two parts, as below: high * kept, and low * kept, which is not negative */
        return shift(old, SLFP_DECAY_BITS) * (int32_t)kept +
               (int32_t)(((uint32_t)old & low) * kept >> SLFP_DECAY_BITS);
    default:
        size = (uint32_t)(old < 0 ? -old : old);
        /* size * kept needs 36 bits: in two parts that need 32 */
        left = (int32_t)((size >> SLFP_DECAY_BITS) * kept + ((size & low) * kept >> SLFP_DECAY_BITS));
        return old < 0 ? -left : left;
    }
}

/* Saturate, or wrap if `wraps` is not 0: then it is largest - smallest, a mask. */
static inline int32_t limited(int32_t value, int32_t smallest, int32_t largest, uint32_t wraps)
{
    if (wraps)
        value = (int32_t)(((uint32_t)value - (uint32_t)smallest) & wraps) + smallest;
    value = value > largest ? largest : value;
    return value < smallest ? smallest : value;
}

/* One step of states that leak and add up their inputs: currents, and membranes that do not fire. */
static inline void integrate(const slfp_layer *layer, const slfp_arithmetic *arithmetic, slfp_leak leak, uint32_t decay,
                             const int32_t *restrict sums, int32_t *restrict states)
{
    const size_t size = slfp_size(layer->out);
    const int32_t unit = (int32_t)1 << layer->frac_bits;
    const int32_t smallest = arithmetic->smallest, largest = arithmetic->largest;
    const uint32_t wraps = arithmetic->wraps ? (uint32_t)largest - (uint32_t)smallest : 0;
    size_t k;

    for (k = 0; k < size; k++) {
        const int32_t sum = leaked(states[k], decay, leak) + sums[k] * unit;
        states[k] = limited(sum, smallest, largest, wraps);
    }
}

/* One step of the membranes of a layer with `gain` times its inputs; `spikes` are those of the last step before it. */
static inline void update_membranes(const slfp_layer *layer, const slfp_arithmetic *arithmetic, slfp_leak leak,
                                    const int32_t *restrict inputs, int32_t gain, int32_t *restrict membranes,
                                    uint8_t *restrict spikes)
{
    const size_t outputs = layer->out.channels, positions = (size_t)layer->out.height * layer->out.width;
    const int32_t unit = (int32_t)1 << layer->frac_bits, at = arithmetic->at_threshold;
    const int32_t smallest = arithmetic->smallest, largest = arithmetic->largest;
    const uint32_t wraps = arithmetic->wraps ? (uint32_t)largest - (uint32_t)smallest : 0;
    /* whether a spike subtracts the threshold: in the next step before the comparison, in this step after it */
    const int32_t before = layer->reset == SLFP_SUBTRACT, after = layer->reset == SLFP_SUBTRACT_DECAYED;
    const int32_t stays = layer->reset != SLFP_ZERO;
    size_t position, o;

    for (position = 0; position < positions; position++)
        for (o = 0; o < outputs; o++) {
            uint8_t *spike = spikes + o * positions + position;
            const int32_t threshold = layer->theta[o] * unit;
            const int32_t subtracted = threshold * (before & *spike);
            const int32_t sum = leaked(*membranes, layer->decay, leak) + *inputs++ * gain - subtracted;
            const int32_t value = limited(sum, smallest, largest, wraps), fires = value > threshold - at;
            *spike = (uint8_t)fires;
            *membranes++ = (value - threshold * (after & fires)) * (stays | !fires);
        }
}

/* One step of the neurons of a layer. */
static inline void update(const slfp_layer *layer, const slfp_arithmetic *arithmetic, slfp_leak leak,
                          const int32_t *sums, int32_t *state, uint8_t *spikes)
{
    const int32_t *inputs = sums;
    int32_t gain = (int32_t)1 << layer->frac_bits;

    if (layer->neuron == SLFP_LI) {
        integrate(layer, arithmetic, leak, layer->decay, sums, state);
        return;
    }
    if (layer->neuron == SLFP_CUBA) {
        int32_t *currents = state + slfp_size(layer->out);
        integrate(layer, arithmetic, leak, layer->current_decay, sums, currents);
        inputs = currents;
        gain = 1;
    }
    update_membranes(layer, arithmetic, leak, inputs, gain, state, spikes);
}

static void update_neurons(const slfp_layer *layer, const int32_t *sums, int32_t *membranes, uint8_t *spikes)
{
    const slfp_arithmetic *arithmetic = layer->arithmetic ? layer->arithmetic : &slfp_default;

    /* a loop for each leak, so that the switch is outside of it */
    switch (arithmetic->leak) {
    case SLFP_SHIFT:
        update(layer, arithmetic, SLFP_SHIFT, sums, membranes, spikes);
        break;
    case SLFP_MUL12_FLOOR:
        update(layer, arithmetic, SLFP_MUL12_FLOOR, sums, membranes, spikes);
        break;
    default:
        update(layer, arithmetic, SLFP_MUL12_TRUNC, sums, membranes, spikes);
    }
}

static void pool(const slfp_layer *layer, const uint8_t *inputs, uint8_t *spikes)
{
    size_t c, y, x, i, j;

    for (c = 0; c < layer->out.channels; c++)
        for (y = 0; y < layer->out.height; y++)
            for (x = 0; x < layer->out.width; x++) {
                const uint8_t *corner =
                    inputs + (c * layer->in.height + y * layer->stride[0]) * layer->in.width + x * layer->stride[1];
                unsigned any = 0;
                for (i = 0; i < layer->kernel[0]; i++)
                    for (j = 0; j < layer->kernel[1]; j++)
                        any |= corner[i * layer->in.width + j];
                *spikes++ = (uint8_t)any;
            }
}

/* The largest or the sum of the values in each window; what is outside counts as 0. */
static void pool_values(const slfp_layer *layer, const values *inputs, uint8_t *bytes)
{
    const slfp_shape in = layer->in, out = layer->out;
    size_t c, y, x, i, j;

    for (c = 0; c < out.channels; c++)
        for (y = 0; y < out.height; y++)
            for (x = 0; x < out.width; x++) {
                uint32_t found = 0;
                for (i = 0; i < layer->kernel[0]; i++)
                    for (j = 0; j < layer->kernel[1]; j++) {
                        /* before the first row or column they wrap around, and are too large */
                        const size_t row = y * layer->stride[0] + i - layer->padding[0];
                        const size_t column = x * layer->stride[1] + j - layer->padding[1];
                        uint32_t value;
                        if (row >= in.height || column >= in.width)
                            continue;
                        value = value_at(inputs, (c * in.height + row) * in.width + column);
                        if (layer->kind == SLFP_SUM_POOL)
                            found += value;
                        else if (value > found)
                            found = value;
                    }
                hand_on(layer, bytes, (c * out.height + y) * out.width + x, found);
            }
}

/* What a source hands on: 0 are the inputs, k + 1 is layer k. */
static values from_source(const slfp_state *state, const uint8_t *inputs, size_t source)
{
    values found;

    found.bytes = source ? slfp_spikes(state, source - 1) : inputs;
    found.size = source ? slfp_size(state->network->layer[source - 1].out) : state->network->inputs;
    found.further = source ? state->network->layer[source - 1].further_bytes : 0;
    return found;
}

static void add_sources(const slfp_state *state, const slfp_layer *layer, const uint8_t *inputs, uint8_t *bytes)
{
    const values sum = {bytes, slfp_size(layer->out), layer->further_bytes};
    size_t k, summand;

    for (summand = 0; summand < layer->summands; summand++) {
        const values from = from_source(state, inputs, layer->sources[summand]);
        for (k = 0; k < sum.size; k++)
            hand_on(layer, bytes, k, (summand ? value_at(&sum, k) : 0) + value_at(&from, k));
    }
}

void slfp_step(slfp_state *state, const uint8_t *inputs)
{
    const slfp_network *network = state->network;
    int32_t *membranes = state->membranes;
    uint8_t *spikes = state->spikes;
    values from = from_source(state, inputs, 0);
    size_t k;

    for (k = 0; k < network->layers; k++) {
        const slfp_layer *layer = network->layer + k;
        if (layer->sources)
            from = from_source(state, inputs, layer->sources[0]);
        if (layer->kind == SLFP_MAX_POOL) {
            pool(layer, from.bytes, spikes);
        } else if (layer->kind == SLFP_ADD) {
            add_sources(state, layer, inputs, spikes);
        } else if (!layer->weight) {
            pool_values(layer, &from, spikes);
        } else {
            const int keep = network->constant && k == network->first;
            int32_t *sums = keep ? state->constant_sums : state->sums;
            if (!keep || !state->running)
                multiply(layer, &from, sums);
            update_neurons(layer, sums, membranes, spikes);
            membranes += state_size(layer);
        }
        from.bytes = spikes;
        from.size = slfp_size(layer->out);
        from.further = layer->further_bytes;
        spikes += value_bytes(layer);
    }
    state->running = 1;
}

const uint8_t *slfp_spikes(const slfp_state *state, size_t layer)
{
    const uint8_t *spikes = state->spikes;
    size_t k;

    for (k = 0; k < layer; k++)
        spikes += value_bytes(state->network->layer + k);
    return spikes;
}

const int32_t *slfp_membranes(const slfp_state *state, size_t layer)
{
    const int32_t *membranes = state->membranes;
    size_t k;

    for (k = 0; k < layer; k++)
        membranes += state_size(state->network->layer + k);
    return membranes;
}
