// SPDX-License-Identifier: MIT
// The testbench slfp_tb.v in C++, for Verilator: the same arguments, the same files.

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "Vslfp_core.h"
#include "verilated.h"

namespace {

Vslfp_core* core;
FILE *inputs, *spikes, *cycles_file;
long samples, steps, words;

long argument(int count, char** values, const char* name, long smallest, long largest) {
    const size_t length = std::strlen(name);
    for (int k = 1; k < count; ++k)
        if (!std::strncmp(values[k], name, length)) {
            char* end;
            const long found = std::strtol(values[k] + length, &end, 10);
            if (end != values[k] + length && !*end && found >= smallest && found <= largest) return found;
            std::fprintf(stderr, "slfp_main: %s, expected a whole number from %ld to %ld\n", values[k], smallest, largest);
            std::exit(2);
        }
    std::fprintf(stderr, "slfp_main: %s is missing\n", name);
    std::exit(2);
}

FILE* open_file(const char* name, const char* mode) {
    FILE* file = std::fopen(name, mode);
    if (file) return file;
    std::fprintf(stderr, "slfp_main: cannot open %s\n", name);
    std::exit(2);
}

// one clock cycle; outputs are read before the rising edge
void cycle() {
    core->eval();
    if (core->out_valid)
        std::fprintf(spikes, "%0*llx\n", (SLFP_LANES + 3) / 4, static_cast<unsigned long long>(core->out_spikes));
    core->clk = 1;
    core->eval();
    core->clk = 0;
}

void write_inputs(long sample) {
    core->in_we = 1;
    for (long k = 0; k < words; ++k) {
        unsigned long long word;
        if (std::fscanf(inputs, "%llx", &word) != 1) {
            std::fprintf(stderr, "slfp_main: inputs.hex ends within sample %ld\n", sample);
            std::exit(2);
        }
        core->in_addr = k;
        core->in_data = word;
        cycle();
    }
    core->in_we = 0;
    core->go = 1;
    cycle();
    core->go = 0;
}

}  // namespace

int main(int count, char** values) {
    samples = argument(count, values, "+samples=", 0, INT_MAX);
    steps = argument(count, values, "+steps=", 1, 65535);
    words = argument(count, values, "+words=", 1, INT_MAX);
    inputs = open_file("inputs.hex", "r");
    spikes = open_file("spikes.hex", "w");
    cycles_file = open_file("cycles.txt", "w");
    core = new Vslfp_core;
    core->clk = core->go = core->in_we = 0;
    core->steps = steps;
    core->rst = 1;
    cycle();
    core->rst = 0;
    for (long sample = 0; sample < samples; ++sample) {
        while (!core->idle) cycle();
        write_inputs(sample);
        while (!core->done) {
            if (core->waiting)
                write_inputs(sample);
            else
                cycle();
        }
        std::fprintf(cycles_file, "%u\n", static_cast<unsigned>(core->cycles));
    }
    core->final();
    delete core;
    return std::fclose(spikes) || std::fclose(cycles_file) ? 2 : 0;
}
