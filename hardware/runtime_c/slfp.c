/* SPDX-License-Identifier: MIT */
#include "slfp.h"

/* C++ has no such word, its compilers have another one */
#ifdef __cplusplus
#define restrict __restrict
#define C_FUNCTION extern "C"
#else
#define C_FUNCTION
#endif

/* as in string.h, which bare boards need not have */
C_FUNCTION void *memcpy(void *restrict, const void *restrict, size_t);
C_FUNCTION void *memset(void *, int, size_t);

/* tells the compiler that an address is a multiple of 4 */
#ifdef __GNUC__
#define ALIGNED(address) __builtin_assume_aligned(address, 4)
#else
#define ALIGNED(address) (address)
#endif

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

/*
 * Weights lie packed in words, see slfp.h. One addition adds as many of them as a word has lanes: 16 bits wide for weights of
 * 8 bits, else 8 bits wide, which hold the sum of ROWS rows, of ROWS_4 where weights have 4 bits. Weights a lane apart
 * are a part of their word; it has two parts, or four where weights have 2 bits. What is not negative needs no care for
 * carries, so 2^(bits - 1) is added to weights of 8 bits here; to others 2^(bits - 1) - 1 is added already.
 */
#define ROWS 64
#define ROWS_4 16

/* Rows of weights that are to be added: the word where each begins, and how many times, up to 255. */
typedef struct {
    size_t count;
    uint32_t larger; /* not 0 if a value is larger than 1 */
    uint32_t row[ROWS];
    uint8_t value[ROWS];
} row_list;

/* Define a function that adds up four parts of rows: those of one or of two words of type WORD. */
#define DEFINE_ADD_WORDS(NAME, WORD)                                                                                   \
    static inline void NAME(const uint32_t *weights, const uint32_t *row, size_t count, unsigned bits, WORD *parts)    \
    {                                                                                                                  \
        const uint32_t lanes = bits == 8 ? 0x00ff00ffu : bits == 4 ? 0x0f0f0f0fu : 0x03030303u;                        \
        const uint32_t positive = bits == 8 ? 0x80808080u : 0;                                                         \
        WORD a = {0}, b = {0}, c = {0}, d = {0};                                                                       \
        for (; count; count--) {                                                                                       \
            const WORD *words = (const WORD *)(const void *)(weights + *row++);                                        \
            const WORD first = words[0] ^ positive;                                                                    \
            WORD second = first >> 4;                                                                                  \
            if (bits != 2)                                                                                             \
                second = words[1] ^ positive;                                                                          \
            a += first & lanes;                                                                                        \
            b += first >> bits & lanes;                                                                                \
            c += second & lanes;                                                                                       \
            d += second >> bits & lanes;                                                                               \
        }                                                                                                              \
        parts[0] = a, parts[1] = b, parts[2] = c, parts[3] = d;                                                        \
    }

DEFINE_ADD_WORDS(add_words, uint32_t)

/* How much more than the sum of its weights a lane holds after so many rows. */
static inline int32_t offset_of(unsigned bits, size_t count)
{
    return (int32_t)count * (bits == 8 ? 128 : (1 << (bits - 1)) - 1);
}

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && defined(__thumb2__)
/* Processors with these instructions add two signed bytes of a word to two lanes at once: bytes 0 and 2, or 1 and 3. */
#define ADD_EVEN(lanes, word) __asm__("sxtab16 %0, %0, %1" : "+r"(lanes) : "r"(word))
#define ADD_ODD(lanes, word) __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(lanes) : "r"(word))
#define SIGNED_LANES

/* sums += rows of 16 weights of 8 bits */
static inline void add_16(const uint32_t *weights, const uint32_t *row, size_t count, int32_t *sums)
{
    const uint32_t *const end = row + count;
    uint32_t lanes[8];
    uint32_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    size_t k;

    while (row < end) {
        const uint32_t *words = weights + *row++;
        const uint32_t first = words[0], second = words[1], third = words[2], fourth = words[3];
        ADD_EVEN(a, first);
        ADD_ODD(b, first);
        ADD_EVEN(c, second);
        ADD_ODD(d, second);
        ADD_EVEN(e, third);
        ADD_ODD(f, third);
        ADD_EVEN(g, fourth);
        ADD_ODD(h, fourth);
    }
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d, lanes[4] = e, lanes[5] = f, lanes[6] = g, lanes[7] = h;
    for (k = 0; k < 8; k += 2, sums += 4) {
        sums[0] += (int16_t)(lanes[k] & 0xffff);
        sums[1] += (int16_t)(lanes[k + 1] & 0xffff);
        sums[2] += (int16_t)(lanes[k] >> 16);
        sums[3] += (int16_t)(lanes[k + 1] >> 16);
    }
}
#endif

/* sums += weights of a part: its lanes hold `offset` more, and are of every `step`th output */
static inline void spread(int32_t *sums, size_t outputs, size_t step, uint32_t part, unsigned width, int32_t offset)
{
    size_t k;

    for (k = 0; k < outputs; k += step) {
        sums[k] += (int32_t)(part & ((1u << width) - 1)) - offset;
        part >>= width;
    }
}

#if defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
#define WIDE 4
typedef uint32_t wide __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
DEFINE_ADD_WORDS(add_wide, wide)
#endif

/* sums += rows, whose weights have `bits` bits */
static inline void add_rows(const uint32_t *weights, const uint32_t *row, size_t count, unsigned bits, int32_t *sums,
                            size_t outputs)
{
    const size_t of_word = 32 / bits, step = bits == 2 ? 4 : 2, words = 4 / step, block = words * of_word;
    const unsigned width = bits == 8 ? 16 : 8;
    const int32_t offset = offset_of(bits, count);
    uint32_t parts[4];
    size_t k;

#ifdef WIDE
    for (; outputs >= WIDE * block; outputs -= WIDE * block, sums += WIDE * block, weights += WIDE * words) {
        wide many[4];
        size_t j;
        add_wide(weights, row, count, bits, many);
        for (k = 0; k < 4; k++)
            for (j = 0; j < WIDE; j++)
                spread(sums + (k / step * WIDE + j) * of_word + k % step, of_word, step, many[k][j], width, offset);
    }
#endif
#ifdef SIGNED_LANES
    for (; bits == 8 && outputs >= 16; outputs -= 16, sums += 16, weights += 4)
        add_16(weights, row, count, sums);
#endif
    for (; outputs >= block; outputs -= block, sums += block, weights += words) {
        add_words(weights, row, count, bits, parts);
        for (k = 0; k < 4; k++)
            spread(sums + k / step * of_word + k % step, of_word, step, parts[k], width, offset);
    }
    if (outputs) {
        add_words(weights, row, count, bits, parts);
        for (k = 0; k < 4; k++) {
            const size_t first = k / step * of_word + k % step;
            if (first < outputs)
                spread(sums + first, outputs - first < of_word ? outputs - first : of_word, step, parts[k], width, offset);
        }
    }
}

/* Weight k of a word. */
static inline int32_t weight_of(uint32_t word, unsigned k, unsigned bits)
{
    return bits == 8 ? (int8_t)(word >> 8 * k & 255) : (int32_t)(word >> k * bits & ((1u << bits) - 1)) - offset_of(bits, 1);
}

/* sums += value x a row, whose weights have `bits` bits: four at a time */
static inline void add_fours(const uint32_t *weights, unsigned bits, int32_t *restrict sums, size_t outputs, int32_t value)
{
    size_t k;

    for (k = 0; k + 4 <= outputs; k += 4) {
        const uint32_t four = weights[k * bits / 32] >> k * bits % 32;
        sums[k] += value * weight_of(four, 0, bits);
        sums[k + 1] += value * weight_of(four, 1, bits);
        sums[k + 2] += value * weight_of(four, 2, bits);
        sums[k + 3] += value * weight_of(four, 3, bits);
    }
    for (; k < outputs; k++)
        sums[k] += value * weight_of(weights[k * bits / 32], (unsigned)(k % (32 / bits)), bits);
}

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_WORDS
#ifdef WIDE
#define BLOCK 16

/* in blocks of constant size, which compilers vectorise */
static inline void add_block(int32_t *restrict sums, const int8_t *restrict weights)
{
    size_t k;

    for (k = 0; k < BLOCK; k++)
        sums[k] += weights[k];
}
#else
#define BLOCK 4

static inline void add_block(int32_t *restrict sums, const int8_t *restrict weights)
{
    sums[0] += weights[0];
    sums[1] += weights[1];
    sums[2] += weights[2];
    sums[3] += weights[3];
}
#endif
#endif

/* sums += value x a row of a layer: it begins at word `row`, or at weight `row` if rows are not padded */
static void add_row(const slfp_layer *layer, size_t row, int32_t *restrict sums, size_t outputs, int32_t value)
{
    const unsigned bits = layer->weight_bits, in_word = 32 / bits;
    const uint32_t *weights = layer->weight + row;
    size_t k = 0;

    if (!layer->row_words) {
        for (; k < outputs; k++, row++)
            sums[k] += value * weight_of(layer->weight[row / in_word], (unsigned)(row % in_word), bits);
        return;
    }
#ifdef LITTLE_ENDIAN_WORDS
    if (bits == 8) {
        const int8_t *bytes = (const int8_t *)weights;
        if (value == 1)
            for (; k + BLOCK <= outputs; k += BLOCK)
                add_block(sums + k, bytes + k);
        for (; k < outputs; k++)
            sums[k] += value * bytes[k];
        return;
    }
#endif
    if (bits == 8)
        add_fours(weights, 8, sums, outputs, value);
    else if (bits == 4)
        add_fours(weights, 4, sums, outputs, value);
    else
        add_fours(weights, 2, sums, outputs, value);
}

static void add_spikes(const slfp_layer *layer, const row_list *list, int32_t *sums)
{
    const size_t outputs = layer->out.channels;
    size_t done, few;

    switch (layer->weight_bits) {
    case 8:
        add_rows(layer->weight, list->row, list->count, 8, sums, outputs);
        break;
    case 4:
        for (done = 0; done < list->count; done += few) {
            few = list->count - done < ROWS_4 ? list->count - done : ROWS_4;
            add_rows(layer->weight, list->row + done, few, 4, sums, outputs);
        }
        break;
    default:
        add_rows(layer->weight, list->row, list->count, 2, sums, outputs);
    }
}

/* sums += values x rows, whose weights have `bits` bits: four outputs at a time */
static inline void add_values(const slfp_layer *layer, const row_list *list, unsigned bits, int32_t *sums)
{
    const uint32_t mask = (1u << bits) - 1, positive = bits == 8 ? 0x80808080u : 0;
    const size_t outputs = layer->out.channels;
    size_t total = 0, o, k;

    for (k = 0; k < list->count; k++)
        total += list->value[k];
    for (o = 0; o < outputs; o += 4) {
        const uint32_t *weights = layer->weight + o * bits / 32;
        const unsigned shift = (unsigned)(o * bits % 32);
        uint32_t a = 0, b = 0, c = 0, d = 0;
        for (k = 0; k < list->count; k++) {
            const uint32_t four = (weights[list->row[k]] ^ positive) >> shift, value = list->value[k];
            a += (four & mask) * value;
            b += (four >> bits & mask) * value;
            c += (four >> 2 * bits & mask) * value;
            d += (four >> 3 * bits & mask) * value;
        }
        sums[o] += (int32_t)a - offset_of(bits, total);
        if (o + 1 < outputs)
            sums[o + 1] += (int32_t)b - offset_of(bits, total);
        if (o + 2 < outputs)
            sums[o + 2] += (int32_t)c - offset_of(bits, total);
        if (o + 3 < outputs)
            sums[o + 3] += (int32_t)d - offset_of(bits, total);
    }
}

/* sums += values x rows of a list, which is empty then */
static void add_list(const slfp_layer *layer, row_list *list, int32_t *sums)
{
    const size_t outputs = layer->out.channels;
    size_t k;

    /* so few that lanes would not pay */
    if (list->count <= (layer->weight_bits == 8 ? 2 : 1))
        for (k = 0; k < list->count; k++)
            add_row(layer, list->row[k], sums, outputs, list->value[k]);
    else if (!list->larger)
        add_spikes(layer, list, sums);
    else if (layer->weight_bits == 8)
        add_values(layer, list, 8, sums);
    else if (layer->weight_bits == 4)
        add_values(layer, list, 4, sums);
    else
        add_values(layer, list, 2, sums);
    list->count = list->larger = 0;
}

/* The number of the first input from `k` on that is not 0. */
static inline size_t next_input(const values *inputs, size_t k)
{
    const uint8_t *bytes = inputs->bytes;
    const size_t size = inputs->size;
    uint32_t four;

    if (inputs->further) {
        while (k < size && !value_at(inputs, k))
            k++;
        return k;
    }
    /* most are 0: a word of them at once */
    for (; k < size && (uintptr_t)(bytes + k) % 4; k++)
        if (bytes[k])
            return k;
    for (; k + 4 <= size; k += 4) {
        memcpy(&four, ALIGNED(bytes + k), 4);
        if (four)
            break;
    }
    while (k < size && !bytes[k])
        k++;
    return k;
}

/* sums += factor x inputs x rows, the first of which is `first` */
static inline void add_dense(const slfp_layer *layer, const values *inputs, size_t first, uint32_t factor, int32_t *sums)
{
    const size_t outputs = layer->out.channels, row = layer->row_words ? layer->row_words : outputs;
    row_list list;
    size_t k;

    list.count = list.larger = 0;
    for (k = next_input(inputs, 0); k < inputs->size; k = next_input(inputs, k + 1)) {
        const uint32_t value = factor * (inputs->further ? value_at(inputs, k) : inputs->bytes[k]);
        if (!layer->row_words || value > 255) {
            add_row(layer, (first + k) * row, sums, outputs, (int32_t)value);
            continue;
        }
        list.row[list.count] = (uint32_t)((first + k) * row);
        list.value[list.count] = (uint8_t)value;
        list.larger |= value & ~1u;
        if (++list.count == ROWS)
            add_list(layer, &list, sums);
    }
    if (list.count)
        add_list(layer, &list, sums);
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

static void add_conv(const slfp_layer *layer, const values *inputs, int32_t *sums)
{
    const size_t channels = layer->in.channels, outputs = layer->out.channels;
    const size_t share = outputs / layer->groups, per_group = channels / layer->groups;
    const size_t row = layer->row_words ? layer->row_words : share;
    const size_t kernel = (size_t)layer->kernel[0] * layer->kernel[1], plane = (size_t)layer->in.height * layer->in.width;
    size_t k, i, j;

    for (k = next_input(inputs, 0); k < inputs->size; k = next_input(inputs, k + 1)) {
        const size_t c = k / plane, y = k % plane / layer->in.width, x = k % layer->in.width;
        const int32_t value = inputs->further ? (int32_t)value_at(inputs, k) : inputs->bytes[k];
        const range rows = reached_by(layer, 0, y, layer->out.height), columns = reached_by(layer, 1, x, layer->out.width);
        int32_t *group = sums + c / per_group * share;
        for (i = rows.low; i < rows.high; i++)
            for (j = columns.low; j < columns.high; j++) {
                const size_t a = y + layer->padding[0] - i * layer->stride[0];
                const size_t b = x + layer->padding[1] - j * layer->stride[1];
                add_row(layer, (c * kernel + a * layer->kernel[1] + b) * row,
                        group + (i * layer->out.width + j) * outputs, share, value);
            }
    }
}

/* sums = weights x inputs + bias, and recurrent weights x spikes, those of the step before */
static void multiply(const slfp_layer *layer, const values *inputs, const uint8_t *spikes, int32_t *sums)
{
    const values own = {spikes, slfp_size(layer->out), 0};
    const size_t outputs = layer->out.channels, positions = (size_t)layer->out.height * layer->out.width;
    size_t k;

    for (k = 0; k < positions; k++)
        memcpy(sums + k * outputs, layer->bias, outputs * sizeof *sums);
    if (layer->kind == SLFP_CONV) {
        add_conv(layer, inputs, sums);
        return;
    }
    add_dense(layer, inputs, 0, 1, sums);
    if (layer->kind == SLFP_RECURRENT)
        add_dense(layer, &own, inputs->size, layer->factor, sums);
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

/* The leak of states by decays of their outputs, or by one for all if these are NULL. */
static void leak_alone(const slfp_layer *layer, slfp_leak leak, const uint32_t *decays, uint32_t decay, int32_t *states)
{
    const size_t outputs = layer->out.channels, positions = (size_t)layer->out.height * layer->out.width;
    size_t position, o;

    for (position = 0; position < positions; position++)
        for (o = 0; o < outputs; o++, states++)
            *states = leaked(*states, decays ? decays[o] : decay, leak);
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
    slfp_leak leak = arithmetic->leak;
    slfp_layer leakless;

    if (layer->decays || layer->current_decays) {
        leak_alone(layer, leak, layer->decays, layer->decay, membranes);
        if (layer->neuron == SLFP_CUBA)
            leak_alone(layer, leak, layer->current_decays, layer->current_decay, membranes + slfp_size(layer->out));
        /* the loops below have one decay for all: that with which nothing leaks any more */
        leakless = *layer;
        leakless.decay = leakless.current_decay = 0;
        leak = SLFP_MUL12_TRUNC;
        layer = &leakless;
    }
    /* a loop for each leak, so that the switch is outside of it */
    switch (leak) {
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

/* The largest or the sum of the values in each window; what is outside counts as 0, or as the layer's fill. */
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
                        uint32_t value = 0;
                        if (row < in.height && column < in.width)
                            value = value_at(inputs, (c * in.height + row) * in.width + column);
                        else if (layer->fill)
                            value = (uint32_t)layer->fill[c];
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
            const int keep = network->constant && k == network->first && layer->kind != SLFP_RECURRENT;
            int32_t *sums = keep ? state->constant_sums : state->sums;
            if (!keep || !state->running)
                multiply(layer, &from, spikes, sums);
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
