/* SPDX-License-Identifier: MIT */
/*
 * slfp.c for WebAssembly, with a reader of networks as spiking_lfp/deploy/formats/wasm.py writes them: one module runs any
 * network. A page calls
 *
 *     image(size)          the address where it puts such a network, 0 if there is no memory
 *     load()               reads it; 0 if there is no memory
 *     inputs()             the address of the inputs, one byte each
 *     start()              before each sample
 *     step()
 *     spikes(layer)        the address of what a layer handed on in the last step, one byte each
 *     membranes(layer)     of a layer that does not fire: the address of its membranes
 *     operations(layer)    synaptic operations of a layer in the last step: inputs that are not 0 times their fan-out,
 *                          without those of its own spikes
 */
#include "../runtime_c/slfp.c"

#define EXPORT(name) __attribute__((export_name(#name)))
#define PAGE 65536u

/* A checksum of the files that this was built from: a test sees whether they have changed since. */
EXPORT(sources) const char *sources(void)
{
    return SOURCES;
}

extern uint8_t __heap_base;
static uintptr_t used;
static const uint32_t *words; /* of the image, the next one */
static slfp_network network;
static slfp_state state;
static uint8_t *input_bytes;

/* Memory for `size` bytes, set to 0; NULL if there is none. */
static void *reserve(size_t size)
{
    uintptr_t address, end;

    if (!used)
        used = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    address = used;
    if (size > 0x7fffffffu - address)
        return NULL;
    end = (address + size + 15) & ~(uintptr_t)15;
    if (end > __builtin_wasm_memory_size(0) * PAGE) {
        const size_t pages = (end - __builtin_wasm_memory_size(0) * PAGE + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1)
            return NULL;
    }
    used = end;
    return (void *)address;
}

EXPORT(image) void *image(size_t size)
{
    words = reserve(size);
    return (void *)words;
}

static const void *array(void)
{
    const uint32_t count = *words++;
    const void *first = count ? words : NULL;

    words += count;
    return first;
}

static void pair(uint32_t *into)
{
    into[0] = *words++;
    into[1] = *words++;
}

static void shape(slfp_shape *into)
{
    into->channels = *words++;
    into->height = *words++;
    into->width = *words++;
}

static void read_layer(slfp_layer *layer, slfp_arithmetic *arithmetic)
{
    layer->kind = (slfp_layer_kind)*words++;
    shape(&layer->in);
    shape(&layer->out);
    pair(layer->kernel);
    pair(layer->stride);
    pair(layer->padding);
    layer->groups = *words++;
    layer->weight_bits = *words++;
    layer->row_words = *words++;
    layer->reset = (slfp_reset)*words++;
    layer->decay = *words++;
    layer->frac_bits = *words++;
    layer->neuron = (slfp_neuron_kind)*words++;
    layer->current_decay = *words++;
    layer->summands = *words++;
    layer->further_bytes = *words++;
    layer->factor = *words++;
    arithmetic->leak = (slfp_leak)*words++;
    arithmetic->at_threshold = (int32_t)*words++;
    arithmetic->smallest = (int32_t)*words++;
    arithmetic->largest = (int32_t)*words++;
    arithmetic->wraps = (uint8_t)*words++;
    layer->arithmetic = arithmetic;
    layer->sources = array();
    layer->weight = array();
    layer->bias = array();
    layer->theta = array();
    layer->fill = array();
    layer->decays = array();
    layer->current_decays = array();
}

EXPORT(load) int load(void)
{
    size_t values = 0, states = 0, first_size = 0, k;
    slfp_layer *layers;
    slfp_arithmetic *arithmetics;
    int32_t *state_words;
    uint8_t *bytes;

    network.layers = *words++;
    network.inputs = *words++;
    network.constant = (uint8_t)*words++;
    network.first = network.layers;
    layers = reserve(network.layers * sizeof *layers);
    arithmetics = reserve(network.layers * sizeof *arithmetics);
    if (!layers || !arithmetics)
        return 0;
    for (k = 0; k < network.layers; k++) {
        const slfp_layer *layer = layers + k;
        const size_t size = (read_layer(layers + k, arithmetics + k), slfp_size(layer->out));
        values += value_bytes(layer);
        states += state_size(layer);
        if (!layer->weight)
            continue;
        if (network.first == network.layers) {
            network.first = k;
            first_size = size;
        }
        if (size > network.largest)
            network.largest = size;
    }
    network.layer = layers;
    state_words = reserve((states + network.largest + first_size) * sizeof *state_words);
    bytes = reserve(values);
    input_bytes = reserve(network.inputs);
    if (!state_words || !bytes || !input_bytes)
        return 0;
    slfp_start(&state, &network, state_words, bytes);
    return 1;
}

EXPORT(inputs) uint8_t *inputs(void)
{
    return input_bytes;
}

EXPORT(start) void start(void)
{
    slfp_start(&state, &network, state.membranes, state.spikes);
}

EXPORT(step) void step(void)
{
    slfp_step(&state, input_bytes);
}

EXPORT(spikes) const uint8_t *spikes(size_t layer)
{
    return slfp_spikes(&state, layer);
}

EXPORT(membranes) const int32_t *membranes(size_t layer)
{
    return slfp_membranes(&state, layer);
}

EXPORT(operations) double operations(size_t number)
{
    const slfp_layer *layer = network.layer + number;
    const values from = from_source(&state, input_bytes, layer->sources ? layer->sources[0] : number);
    const size_t plane = (size_t)layer->in.height * layer->in.width;
    double total = 0;
    size_t k;

    if (!layer->weight)
        return 0;
    for (k = next_input(&from, 0); k < from.size; k = next_input(&from, k + 1)) {
        if (layer->kind == SLFP_CONV) {
            const range rows = reached_by(layer, 0, k % plane / layer->in.width, layer->out.height);
            const range columns = reached_by(layer, 1, k % layer->in.width, layer->out.width);
            if (rows.high > rows.low && columns.high > columns.low)
                total += (double)((rows.high - rows.low) * (columns.high - columns.low) * (layer->out.channels / layer->groups));
        } else
            total += layer->out.channels;
    }
    return total;
}
