// SPDX-License-Identifier: MIT
// Runs a network of integer LIF layers, event-driven; hardware/README.md describes the contents of the memories.
//
// The host writes the inputs of a sample (all of it, or of its first step) while `idle`, from the first word to the last,
// and raises `go` for one cycle.
// With spikes as inputs the core is `waiting` before each further step, for their words and `go`. Spikes are output as
// words while `out_valid` is set: of all spiking layers, in the order of layers, rows, columns, channels. `done` is set
// for one cycle after the last step; then `cycles` is the number of clock cycles of the sample without those of `idle`
// and `waiting`.
`include "parameters.vh"
`default_nettype none

module slfp_core #(
    parameter LANES = `SLFP_LANES,                  // neurons computed in parallel
    parameter ADDS = `SLFP_ADDS,                    // weights that each lane adds in a cycle
    parameter WEIGHT_BITS = `SLFP_WEIGHT_BITS,
    parameter ANALOGUE = `SLFP_ANALOGUE,            // 1: with pixels, and a multiplier per weight
    parameter DENSE = `SLFP_DENSE,                  // 1: without rows, columns, kernels and pooling; with a list of inputs
    parameter ADDR = `SLFP_ADDR,                    // bits of an address, 8..32
    parameter DIM = `SLFP_DIM,                      // bits of a height, width, number of channels, 8..16
    parameter TABLE_WORDS = `SLFP_TABLE_WORDS,      // depths of the memories, at least 2
    parameter WEIGHT_WORDS = `SLFP_WEIGHT_WORDS,
    parameter CHANNEL_WORDS = `SLFP_CHANNEL_WORDS,
    parameter NEURON_WORDS = `SLFP_NEURON_WORDS,
    parameter MEMBRANE_WORDS = `SLFP_MEMBRANE_WORDS,
    parameter ACC_WORDS = `SLFP_ACC_WORDS,
    parameter SPIKE_WORDS = `SLFP_SPIKE_WORDS,
    parameter PIXEL_WORDS = `SLFP_PIXEL_WORDS,
    parameter LIST_WORDS = `SLFP_LIST_WORDS,
    parameter LOADED = `SLFP_LOADED,                // 1: weights are in RAM, which the host writes through `load_we`
    parameter IN_BITS = ANALOGUE != 0 && LANES < 8 ? 8 : LANES
) (
    input wire clk,
    input wire rst,
    input wire go,
    input wire [15:0] steps,
    input wire in_we,
    input wire [ADDR-1:0] in_addr,
    input wire [IN_BITS-1:0] in_data,
    input wire load_we,
    input wire [ADDR-1:0] load_addr,
    input wire [LANES*ADDS*WEIGHT_BITS-1:0] load_data,
    output wire idle,
    output wire waiting,
    output wire out_valid,
    output wire [LANES-1:0] out_spikes,
    output reg done,
    output reg [31:0] cycles
);
    localparam [2:0] ROWS = 6;                      // words of the table for a layer
    localparam LIF_STAGES = 6;
    localparam TERM = ANALOGUE != 0 ? WEIGHT_BITS + 9 : WEIGHT_BITS;
    localparam [3:0] HEADER = 0, CLEAR = 1, IDLE = 2, TABLE = 3, BEGIN = 4, EVENTS = 5, LIF = 6, POOL = 7, NEXT = 8,
        WAIT = 9;

    reg [3:0] state;
    reg [2:0] row;
    reg [7:0] last_layer, layer;
    reg [15:0] step;
    reg constant;

    // ---- the layer table, read into registers at the start of a layer

    reg [ADDR-1:0] table_addr;
    wire [127:0] table_q;
    wire table_re = (state == HEADER && row == 0) || (state == TABLE && row != ROWS);

    slfp_rom #(.WIDTH(128), .DEPTH(TABLE_WORDS), .ADDR(ADDR), .FILE("table.hex")) rom_table (
        .clk(clk), .re(table_re), .raddr(table_addr), .q(table_q)
    );

    reg pool, analogue;
    reg [1:0] reset, reset_last;      // of the layer in the table, of the neurons in the last stage
    reg [2:0] frac;
    reg [12:0] kept;
    reg [DIM-1:0] in_y_end, in_x_end, in_k_end, out_h, out_w;
    reg [7:0] kernel_h, kernel_w, stride_h, stride_w, ry_0, qy_0, rx_0, qx_0;
    reg [ADDR-1:0] block_end, spans, reach, in_base, out_base, out_end, mem_base, acc_base, neuron_base, chan_base;
    reg [ADDR-1:0] row_0, col_0, row_a_0, col_a_0, row_inc, row_step, col_step, row_a_inc;
    localparam [ADDR-1:0] ZERO = 0;
    localparam [DIM-1:0] ONE = 1;
    wire [31:0] table_0 = table_q[31:0], table_1 = table_q[63:32], table_2 = table_q[95:64], table_3 = table_q[127:96];

    // if all layers are dense synthesis takes away what depends on fields that are the same for all of them
    always @(posedge clk)
        if (state == TABLE)
            case (row)
                1: begin
                    {kept, frac, reset, analogue} <= table_0[19:1];
                    pool <= DENSE == 0 && table_0[0];
                    {in_y_end, in_x_end} <= {table_1[16+:DIM], table_1[0+:DIM]};
                    in_k_end <= table_2[DIM-1:0];
                    in_base <= table_3[ADDR-1:0];
                end
                2: begin
                    chan_base <= table_0[ADDR-1:0];
                    {kernel_h, kernel_w, stride_h, stride_w} <= DENSE != 0 ? 32'h01010101 : table_1;
                    {ry_0, qy_0, rx_0, qx_0} <= DENSE != 0 ? 32'd0 : table_2;
                    row_0 <= DENSE != 0 ? ZERO : table_3[ADDR-1:0];
                end
                3: begin
                    col_0 <= DENSE != 0 ? ZERO : table_0[ADDR-1:0];
                    row_a_0 <= DENSE != 0 ? ZERO : table_1[ADDR-1:0];
                    col_a_0 <= DENSE != 0 ? ZERO : table_2[ADDR-1:0];
                    row_inc <= table_3[ADDR-1:0];
                end
                4: begin
                    reach <= table_0[ADDR-1:0];
                    row_step <= table_1[ADDR-1:0];
                    col_step <= table_2[ADDR-1:0];
                    row_a_inc <= table_3[ADDR-1:0];
                end
                5: begin
                    {out_h, out_w} <= DENSE != 0 ? {ONE, ONE} : {table_0[16+:DIM], table_0[0+:DIM]};
                    spans <= table_1[ADDR-1:0];
                    acc_base <= table_2[ADDR-1:0];
                    block_end <= table_3[ADDR-1:0];
                end
                6: begin
                    out_base <= table_0[ADDR-1:0];
                    out_end <= table_1[ADDR-1:0];
                    mem_base <= table_2[ADDR-1:0];
                    neuron_base <= table_3[ADDR-1:0];
                end
                default: ;
            endcase

    // ---- events: inputs that are not zero, and the weights and accumulators that each of them needs

    wire first = step == 0;
    reg ending;                       // the last step; settles while the table is read
    always @(posedge clk) ending <= step + 1'b1 == steps;
    wire scanning, ev_valid, ev_accept, scan_re, chan_re, tapping, emit;
    wire [ADDR-1:0] scan_addr, chan_addr, ev_weight, ev_target, tap_weight, tap_target;
    wire [2*ADDR-1:0] chan_q;
    wire [7:0] ev_value, ev_ry, ev_rx, tap_value, pixel_q;
    wire [DIM-1:0] ev_qy, ev_qx;
    wire [LANES-1:0] spike_q, list_spikes;
    wire [ADDR-1:0] list_count, list_channel;

    slfp_rom #(.WIDTH(2 * ADDR), .DEPTH(CHANNEL_WORDS), .ADDR(ADDR), .FILE("channels.hex")) rom_channels (
        .clk(clk), .re(chan_re), .raddr(chan_addr), .q(chan_q)
    );

    slfp_scan #(.LANES(LANES), .DENSE(DENSE), .DIM(DIM), .ADDR(ADDR)) scan (
        .clk(clk), .rst(rst),
        // When `row` is 5 the fields that `start` needs are there, and the last words of the layer before are written in
        // time. The sums of an image are kept for all steps.
        .start(state == TABLE && row == 5 && !pool && (!analogue || first)),
        .busy(scanning), .analogue(analogue), .y_end(in_y_end), .x_end(in_x_end), .k_end(in_k_end), .in_base(in_base),
        .chan_base(chan_base), .stride_h(stride_h), .stride_w(stride_w),
        .ry_0(ry_0), .qy_0(qy_0), .rx_0(rx_0), .qx_0(qx_0),
        .row_w_0(row_0), .col_w_0(col_0), .row_a_0(row_a_0), .col_a_0(col_a_0),
        .row_w_inc(row_inc), .reach_w(reach), .row_a_inc(row_a_inc), .blocks_a(spans),
        .re(scan_re), .raddr(scan_addr), .spikes(DENSE != 0 ? list_spikes : spike_q), .pixel(pixel_q),
        .count(list_count), .channel(list_channel),
        .chan_re(chan_re), .chan_addr(chan_addr),
        .chan_weight(chan_q[ADDR-1:0]), .chan_block(chan_q[2*ADDR-1:ADDR]),
        .valid(ev_valid), .accept(ev_accept), .value(ev_value), .weight(ev_weight), .target(ev_target),
        .ry(ev_ry), .qy(ev_qy), .rx(ev_rx), .qx(ev_qx)
    );

    slfp_taps #(.DIM(DIM), .ADDR(ADDR)) taps (
        .clk(clk), .rst(rst), .busy(tapping),
        .kernel_h(kernel_h), .kernel_w(kernel_w), .stride_h(stride_h), .stride_w(stride_w),
        .out_h(out_h), .out_w(out_w), .reach(reach),
        .row_w_step(row_step), .col_w_step(col_step), .row_a_inc(row_a_inc), .blocks_a(spans),
        .valid(ev_valid), .accept(ev_accept), .value_in(ev_value), .weight_in(ev_weight), .target_in(ev_target),
        .ry(ev_ry), .qy(ev_qy), .rx(ev_rx), .qx(ev_qx),
        .emit(emit), .value(tap_value), .weight(tap_weight), .target(tap_target)
    );

    // ---- pixels, if the core has analogue inputs; or a list of the words of a layer's inputs that are not zero

    wire lif_start, lif_write;
    wire [LANES-1:0] fired;

    generate
        if (DENSE != 0) begin : listed
            // the host writes words from the first to the last
            wire start = in_we && in_addr == 0;
            wire we = in_we ? |in_data : lif_write && |fired;
            wire [IN_BITS+LANES-1:0] wide = {{IN_BITS{1'b0}}, fired};
            wire [IN_BITS-1:0] found = in_we ? in_data : wide[IN_BITS-1:0];
            wire [IN_BITS-1:0] q;
            reg [ADDR-1:0] count;
            reg [ADDR-1:0] channel;           // of the word that is written next
            localparam [ADDR-1:0] NEXT_PIXEL = 1, NEXT_WORD = LANES;
            wire [ADDR-1:0] place = start ? {ADDR{1'b0}} : count;
            wire [ADDR-1:0] mine = start ? {ADDR{1'b0}} : channel;

            slfp_ram #(.WIDTH(ADDR + IN_BITS), .DEPTH(LIST_WORDS), .ADDR(ADDR)) ram_list (
                .clk(clk), .re(scan_re), .raddr(scan_addr), .q({list_channel, q}),
                .we(we), .waddr(place), .d({mine, found})
            );
            assign list_count = count;
            assign list_spikes = q[LANES-1:0];
            if (ANALOGUE != 0) begin : pixel
                assign pixel_q = q[7:0];
            end else begin : no_pixel
                assign pixel_q = 8'd0;
            end
            wire unused_wide = &{1'b0, wide};

            always @(posedge clk)
                if (lif_start) begin
                    count <= 0;
                    channel <= 0;
                end else begin
                    if (start || we) count <= place + {{(ADDR - 1){1'b0}}, we};
                    if (in_we || lif_write) channel <= mine + (in_we && constant ? NEXT_PIXEL : NEXT_WORD);
                end
        end else begin : no_list
            assign {list_spikes, list_count, list_channel} = 0;
            if (ANALOGUE != 0) begin : pixels
                slfp_ram #(.WIDTH(8), .DEPTH(PIXEL_WORDS), .ADDR(ADDR)) ram_pixels (
                    .clk(clk), .re(scan_re), .raddr(scan_addr), .q(pixel_q),
                    .we(in_we && constant), .waddr(in_addr), .d(in_data[7:0])
                );
            end else begin : no_pixels
                assign pixel_q = 8'd0;
            end
        end
    endgenerate

    // ---- weights are added to accumulators: a weight is read in one cycle, its accumulator in the next, then written
    // A span is ADDS words of weights, or of accumulators, which are read and written together; neurons take a word of it.

    localparam PART = ADDS > 1 ? $clog2(ADDS) : 1;
    localparam [31:0] ADDS_END = ADDS - 1;
    localparam [PART-1:0] PART_END = ADDS_END[PART-1:0];

    wire lif_read = state == LIF;
    reg [ADDR-1:0] neuron, neuron_end, acc_at, mem_at, mem_to, out_at, out_to;
    reg [PART-1:0] part, part_1;      // of the span: the word that the neurons read, that they have read
    reg arrive, fetch, add, forward;
    reg [7:0] arrive_value, fetch_value;
    reg [ADDR-1:0] arrive_target, fetch_target, add_target;
    // words in the pipeline of the neurons, and whether there is none
    reg [LIF_STAGES:0] lif;
    reg lif_empty;
    assign lif_write = lif[LIF_STAGES];
    wire [LANES*ADDS*WEIGHT_BITS-1:0] weight_q;
    // accumulators are cleared when the neurons have read them, those of an image after the last step
    wire keep = analogue && !ending;
    wire clear = state == CLEAR;
    wire acc_re = fetch || lif_read;
    wire [ADDR-1:0] acc_raddr = lif_read ? acc_at : fetch_target;
    wire acc_we = add || clear;
    wire acc_clear = lif[0] && !keep;
    wire [ADDR-1:0] acc_waddr = clear ? acc_at : add_target;

    generate
        if (LOADED != 0) begin : loaded
            slfp_store #(.WIDTH(LANES * ADDS * WEIGHT_BITS), .DEPTH(WEIGHT_WORDS), .ADDR(ADDR)) ram_weights (
                .clk(clk), .re(emit), .raddr(tap_weight), .q(weight_q),
                .we(load_we), .waddr(load_addr), .d(load_data)
            );
        end else begin : fixed
            slfp_rom #(
                .WIDTH(LANES * ADDS * WEIGHT_BITS), .DEPTH(WEIGHT_WORDS), .ADDR(ADDR), .FILE("weights.hex")
            ) rom_weights (
                .clk(clk), .re(emit), .raddr(tap_weight), .q(weight_q)
            );
        end
    endgenerate

    always @(posedge clk)
        if (rst) begin
            {arrive, fetch, add} <= 3'b000;
            lif <= 0;
            lif_empty <= 1'b1;
        end else begin
            // with pixels weights go through a register before the product
            arrive <= ANALOGUE != 0 && emit;
            {arrive_value, arrive_target} <= {tap_value, tap_target};
            {fetch, add} <= {ANALOGUE != 0 ? arrive : emit, fetch};
            lif <= {lif[LIF_STAGES-1:0], lif_read};
            lif_empty <= !(|{lif[LIF_STAGES-1:0], lif_read});
            fetch_value <= ANALOGUE != 0 ? arrive_value : tap_value;
            fetch_target <= acc_base + (ANALOGUE != 0 ? arrive_target : tap_target);
            add_target <= acc_raddr;
            part_1 <= part;
            // the accumulator that is read is written in this cycle
            forward <= add && add_target == fetch_target;
        end

    // ---- neurons

    wire [LANES*24-1:0] bias_q, theta_q;

    slfp_rom #(.WIDTH(LANES * 24), .DEPTH(NEURON_WORDS), .ADDR(ADDR), .FILE("biases.hex")) rom_biases (
        .clk(clk), .re(lif_read), .raddr(neuron), .q(bias_q)
    );
    slfp_rom #(.WIDTH(LANES * 24), .DEPTH(NEURON_WORDS), .ADDR(ADDR), .FILE("thetas.hex")) rom_thetas (
        .clk(clk), .re(lif_read), .raddr(neuron), .q(theta_q)
    );

    genvar lane, k;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire [(1<<PART)*32-1:0] accs;     // 32 bits each, so that synthesis sees no product in their choice
            wire signed [23:0] membrane_q, membrane_next;

            for (k = 0; k < ADDS; k = k + 1) begin : adds
                wire signed [WEIGHT_BITS-1:0] weight = weight_q[(k*LANES+lane)*WEIGHT_BITS+:WEIGHT_BITS];
                wire signed [23:0] acc_q;
                reg signed [TERM-1:0] term;
                reg signed [23:0] last_sum;
                wire signed [23:0] sum = (forward ? last_sum : acc_q) + {{(24 - TERM){term[TERM-1]}}, term};

                if (ANALOGUE != 0) begin : product
                    reg signed [WEIGHT_BITS-1:0] factor;
                    always @(posedge clk) begin
                        factor <= weight;
                        term <= factor * $signed({1'b0, fetch_value});
                    end
                end else begin : copy
                    always @(posedge clk) term <= weight;
                end

                always @(posedge clk) if (add) last_sum <= sum;

                slfp_ram #(.WIDTH(24), .DEPTH(ACC_WORDS), .ADDR(ADDR)) ram_acc (
                    .clk(clk), .re(acc_re), .raddr(acc_raddr), .q(acc_q),
                    .we(acc_we || (acc_clear && part_1 == k)), .waddr(acc_waddr), .d(add ? sum : 24'd0)
                );
                assign accs[k*32+:32] = {8'd0, acc_q};
            end

            for (k = ADDS; k < 1 << PART; k = k + 1) begin : no_adds
                assign accs[k*32+:32] = 32'd0;
            end

            slfp_ram #(.WIDTH(24), .DEPTH(MEMBRANE_WORDS), .ADDR(ADDR)) ram_membranes (
                .clk(clk), .re(lif_read), .raddr(mem_at), .q(membrane_q),
                .we(lif_write), .waddr(mem_to), .d(membrane_next)
            );
            slfp_lif lif (
                .clk(clk), .first_step(first), .subtract(reset == 2'd1), .reset(reset_last), .frac(frac), .kept(kept),
                .membrane(membrane_q), .acc(accs[{part_1, 5'd0}+:24]), .bias(bias_q[lane*24+:24]),
                .theta(theta_q[lane*24+:23]), .last_spike(spike_q[lane]), .next(membrane_next), .spike(fired[lane])
            );
            wire unused_accs = &{1'b0, accs};
        end
    endgenerate

    assign out_valid = lif_write;
    assign out_spikes = fired;

    // ---- spikes: inputs and outputs of all layers

    wire pooling, pool_re, pool_we;
    wire [ADDR-1:0] pool_raddr, pool_waddr;
    wire [LANES-1:0] pool_d;

    generate
        if (DENSE == 0) begin : some
            slfp_pool #(.LANES(LANES), .DIM(DIM), .ADDR(ADDR)) pools (
                .clk(clk), .rst(rst), .start(state == BEGIN && pool), .busy(pooling),
                .kernel(kernel_h), .out_h(out_h), .out_w(out_w), .block_end(block_end), .in_base(in_base), .out_base(out_base),
                .row(row_inc), .row_step(row_step), .col(reach), .col_step(col_step),
                .re(pool_re), .raddr(pool_raddr), .q(spike_q), .we(pool_we), .waddr(pool_waddr), .d(pool_d)
            );
        end else begin : none
            assign {pooling, pool_re, pool_we, pool_raddr, pool_waddr, pool_d} = 0;
        end
    endgenerate

    slfp_ram #(.WIDTH(LANES), .DEPTH(SPIKE_WORDS), .ADDR(ADDR)) ram_spikes (
        .clk(clk),
        .re(lif_read || (DENSE == 0 && (pool_re || scan_re))),
        .raddr(DENSE != 0 || lif_read ? out_at : pool_re ? pool_raddr : scan_addr),
        .q(spike_q),
        .we(lif_write || (DENSE == 0 && (pool_we || (in_we && !constant)))),
        .waddr(DENSE != 0 || lif_write ? out_to : pool_we ? pool_waddr : in_addr),
        .d(DENSE != 0 || lif_write ? fired : pool_we ? pool_d : in_data[LANES-1:0])
    );

    // ---- state machine

    assign lif_start = state == EVENTS && !scanning && !tapping && !arrive && !fetch;
    assign idle = state == IDLE;
    assign waiting = state == WAIT;
    wire neuron_last = neuron == neuron_end, span_last = part == PART_END || neuron_last;

    always @(posedge clk)
        if (rst) begin
            state <= HEADER;
            row <= 0;
            table_addr <= 0;
            acc_at <= 0;
            done <= 1'b0;
            constant <= 1'b0;
        end else begin
            done <= 1'b0;
            if (!idle && !waiting) cycles <= cycles + 1'b1;
            if (state == HEADER || state == TABLE) begin
                row <= row + 1'b1;
                if (table_re) table_addr <= table_addr + 1'b1;
            end
            if (lif_write) begin
                mem_to <= mem_to + 1'b1;
                out_to <= out_to + 1'b1;
            end
            case (state)
                HEADER:
                    if (row == 1) begin
                        {constant, last_layer} <= table_0[8:0];
                        state <= CLEAR;
                    end
                CLEAR: begin
                    acc_at <= acc_at + 1'b1;
                    if (acc_at + 1'b1 == table_1[ADDR-1:0]) state <= IDLE;
                end
                IDLE:
                    if (go) begin
                        cycles <= 0;
                        step <= 0;
                        layer <= 0;
                        row <= 0;
                        table_addr <= 1;
                        state <= TABLE;
                    end
                TABLE: if (row == ROWS) state <= BEGIN;
                BEGIN: begin
                    neuron <= neuron_base;
                    neuron_end <= neuron_base + block_end;
                    acc_at <= acc_base;
                    part <= 0;
                    {mem_at, mem_to} <= {2{mem_base}};
                    {out_at, out_to} <= {2{out_base}};
                    reset_last <= reset;
                    state <= pool ? POOL : EVENTS;
                end
                EVENTS: if (lif_start) state <= LIF;
                LIF: begin
                    part <= span_last ? {PART{1'b0}} : part + 1'b1;
                    if (span_last) acc_at <= acc_at + 1'b1;
                    mem_at <= mem_at + 1'b1;
                    out_at <= out_at + 1'b1;
                    neuron <= neuron_last ? neuron_base : neuron + 1'b1;
                    if (out_at == out_end) state <= NEXT;
                end
                POOL: if (!pooling) state <= NEXT;
                NEXT:
                    // the last words are on their way while the table of the next layer is read
                    if (layer != last_layer) begin
                        row <= 0;
                        layer <= layer + 1'b1;
                        state <= TABLE;
                    end else if (lif_empty || (constant && !ending)) begin
                        row <= 0;
                        layer <= 0;
                        table_addr <= 1;
                        step <= step + 1'b1;
                        done <= ending;
                        state <= ending ? IDLE : constant ? TABLE : WAIT;
                    end
                WAIT: if (go) state <= TABLE;
                default: state <= HEADER;
            endcase
        end

    wire unused = &{1'b0, table_0, table_1, table_2, table_3, theta_q, fetch_value, load_we, load_addr, load_data};
endmodule

`default_nettype wire
