// SPDX-License-Identifier: MIT
// Scans the inputs of a layer and emits one event, with its position, for each that is not zero.
//
// Inputs are in the order (y, x, channel): spikes as words of LANES channels, pixels as one byte each. A word is read
// while the events of the one before are emitted; a word of zeros takes one cycle, meanwhile or not. An event takes one
// cycle if it is accepted at once. For the row of each pixel (y + padding) the module computes, by addition only, what a
// convolution needs: the remainder `ry` and quotient `qy` by the stride, the offset `row_w` of kernel row `ry` in the
// weight memory, the offset `row_a` of output row `qy` in the accumulators; and so for columns.
`default_nettype none

module slfp_scan #(
    parameter LANES = 8,
    parameter DENSE = 0,                 // 1: one row and one column
    parameter DIM = 16,
    parameter ADDR = 16
) (
    input wire clk,
    input wire rst,
    input wire start,
    output wire busy,
    // the layer
    input wire analogue,
    input wire [DIM-1:0] y_end,          // the last row, column, word or pixel of a position
    input wire [DIM-1:0] x_end,
    input wire [DIM-1:0] k_end,
    input wire [ADDR-1:0] in_base,
    input wire [ADDR-1:0] chan_base,
    input wire [7:0] stride_h,
    input wire [7:0] stride_w,
    input wire [7:0] ry_0,
    input wire [7:0] qy_0,
    input wire [7:0] rx_0,
    input wire [7:0] qx_0,
    input wire [ADDR-1:0] row_w_0,
    input wire [ADDR-1:0] col_w_0,
    input wire [ADDR-1:0] row_a_0,
    input wire [ADDR-1:0] col_a_0,
    input wire [ADDR-1:0] row_w_inc,
    input wire [ADDR-1:0] reach_w,
    input wire [ADDR-1:0] row_a_inc,
    input wire [ADDR-1:0] blocks_a,
    // input memory; a word is valid one cycle after `re`, until the next
    output wire re,
    output wire [ADDR-1:0] raddr,
    input wire [LANES-1:0] spikes,
    input wire [7:0] pixel,
    // if DENSE the memory is a list of words that are not zero, with the channel of each: how many there are
    input wire [ADDR-1:0] count,
    input wire [ADDR-1:0] channel,
    // channel table, with the same timing
    output wire chan_re,
    output wire [ADDR-1:0] chan_addr,
    input wire [ADDR-1:0] chan_weight,
    input wire [ADDR-1:0] chan_block,
    // events
    output wire valid,
    input wire accept,
    output reg [7:0] value,
    output wire [ADDR-1:0] weight,
    output wire [ADDR-1:0] target,
    output reg [7:0] ry,
    output reg [DIM-1:0] qy,
    output reg [7:0] rx,
    output reg [DIM-1:0] qx
);
    localparam BIT = LANES > 1 ? $clog2(LANES) : 1;
    localparam [ADDR-1:0] ONE = 1, WIDE = LANES;
    localparam [LANES-1:0] ANY = 1;      // of a pixel, which is one event
    localparam [1:0] OFF = 0, FIRST = 1, RUN = 2;

    function [BIT-1:0] place_of;         // of the only bit that is set
        input [LANES-1:0] bits;
        integer k, at;
        begin
            place_of = 0;
            for (k = 0; k < LANES; k = k + 1)
                for (at = 0; at < BIT; at = at + 1) if (k[at]) place_of[at] = place_of[at] | bits[k];
        end
    endfunction

    reg [1:0] state;
    reg [ADDR-1:0] place;
    // the word that was read, if there is one, and its position
    reg fresh;
    reg [ADDR-1:0] chan;
    reg [DIM-1:0] k, x, y, y_out, x_out;
    reg [7:0] y_rest, x_rest;
    reg [ADDR-1:0] row_w, col_w, row_a, col_a;
    // the word before: events that are not read from the channel table yet, its channel, the offsets of its position
    reg [LANES-1:0] pending;
    reg [7:0] pixel_1;
    reg [ADDR-1:0] chan_1, weight_1, target_1;
    reg held;                            // the event read from the channel table is not accepted yet

    wire [LANES-1:0] left = pending & (pending - 1'b1);
    wire next = |pending && (!held || accept);
    // of positions with a row and a column the last event has to be accepted before those of another word
    wire free = DENSE != 0 ? !(|left) && (next || !(|pending)) : !(|pending) && (!held || accept);
    // a list has no words of zeros
    wire found = DENSE != 0 || (analogue ? |pixel : |spikes);
    wire load = fresh && (free || !found);
    wire k_last = k == k_end, x_last = x == x_end, y_last = y == y_end;
    wire last = DENSE != 0 ? place == count : k_last && x_last && y_last;

    assign busy = state != OFF;
    assign re = state == FIRST || (load && !last);
    assign raddr = place;
    assign chan_re = next;
    assign chan_addr = chan_1 + {{(ADDR - BIT){1'b0}}, place_of(pending & ~left)};
    assign valid = held;
    assign weight = chan_weight + weight_1;
    assign target = chan_block + target_1;

    wire over = !held && !(|pending) && (!fresh || (last && !found));

    always @(posedge clk)
        if (rst) begin
            state <= OFF;
            {fresh, held} <= 2'b00;
            pending <= 0;
        end else begin
            case (state)
                OFF:
                    if (start) begin
                        state <= FIRST;
                        place <= DENSE != 0 ? {ADDR{1'b0}} : in_base;
                        chan <= chan_base;
                        {k, x, y} <= 0;
                        {y_rest, x_rest} <= {ry_0, rx_0};
                        y_out <= {{(DIM - 8){1'b0}}, qy_0};
                        x_out <= {{(DIM - 8){1'b0}}, qx_0};
                        {row_w, col_w} <= {row_w_0, col_w_0};
                        {row_a, col_a} <= {row_a_0, col_a_0};
                    end
                FIRST: state <= DENSE != 0 && count == 0 ? OFF : RUN;
                default: if (over) state <= OFF;
            endcase
            if (re) place <= place + 1'b1;
            fresh <= (state == FIRST && !(DENSE != 0 && count == 0)) || (fresh && !(load && last));
            held <= next || (held && !accept);
            if (next) begin
                pending <= left;
                value <= analogue ? pixel_1 : 8'd1;
            end
            if (load && found) begin
                pending <= analogue ? ANY : spikes;
                pixel_1 <= pixel;
                chan_1 <= DENSE != 0 ? chan_base + channel : chan;
                weight_1 <= row_w + col_w;
                target_1 <= row_a + col_a;
                {ry, qy, rx, qx} <= {y_rest, y_out, x_rest, x_out};
            end
            if (DENSE == 0 && load) begin
                if (!k_last) begin
                    k <= k + 1'b1;
                    chan <= chan + (analogue ? ONE : WIDE);
                end else begin
                    k <= 0;
                    chan <= chan_base;
                    if (!x_last) begin
                        x <= x + 1'b1;
                        if (x_rest + 1'b1 == stride_w) begin
                            x_rest <= 0;
                            col_w <= 0;
                            x_out <= x_out + 1'b1;
                            col_a <= col_a + blocks_a;
                        end else begin
                            x_rest <= x_rest + 1'b1;
                            col_w <= col_w + reach_w;
                        end
                    end else begin
                        x <= 0;
                        x_rest <= rx_0;
                        x_out <= {{(DIM - 8){1'b0}}, qx_0};
                        col_w <= col_w_0;
                        col_a <= col_a_0;
                        y <= y + 1'b1;
                        if (y_rest + 1'b1 == stride_h) begin
                            y_rest <= 0;
                            row_w <= 0;
                            y_out <= y_out + 1'b1;
                            row_a <= row_a + row_a_inc;
                        end else begin
                            y_rest <= y_rest + 1'b1;
                            row_w <= row_w + row_w_inc;
                        end
                    end
                end
            end
        end
endmodule

`default_nettype wire
