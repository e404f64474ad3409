// SPDX-License-Identifier: MIT
// Scans the inputs of a layer and emits one event, with its position, for each that is not zero.
//
// Inputs are in the order (y, x, channel): spikes as words of LANES channels, pixels as one byte each. A word of zeros
// takes one cycle, and so does each event if it is accepted at once. For the row of each pixel (y + padding) the module
// computes, by addition only, what a convolution needs: the remainder `ry` and quotient `qy` by the stride, the offset
// `row_w` of kernel row `ry` in the weight memory, the offset `row_a` of output row `qy` in the accumulators; and so for
// columns.
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
    // input memory; a word is valid one cycle after `re`
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
    localparam [1:0] OFF = 0, FIRST = 1, WORD = 2, HOLD = 3;

    function [BIT-1:0] lowest;
        input [LANES-1:0] word;
        integer k;
        begin
            lowest = 0;
            for (k = LANES - 1; k >= 0; k = k - 1) if (word[k]) lowest = k[BIT-1:0];
        end
    endfunction

    reg [1:0] state;
    reg [LANES-1:0] pending;
    reg [ADDR-1:0] place;
    reg [ADDR-1:0] chan;
    reg [DIM-1:0] k, x, y;
    reg [ADDR-1:0] row_w, col_w;
    reg [ADDR-1:0] row_a, col_a;

    wire found = state == WORD && (analogue ? |pixel : |spikes);
    wire again = state == HOLD && accept && |pending;
    // this word is finished: read the next
    wire advance = (state == WORD && !found) || (state == HOLD && accept && !(|pending));
    wire k_last = k == k_end, x_last = x == x_end, y_last = y == y_end;
    wire last = DENSE != 0 ? place == count : k_last && x_last && y_last;
    wire [LANES-1:0] word = analogue ? {{(LANES - 1){1'b0}}, 1'b1} : state == WORD ? spikes : pending;

    assign busy = state != OFF;
    assign re = state == FIRST || (advance && !last);
    assign raddr = place;
    assign chan_re = found || again;
    assign chan_addr = (DENSE != 0 ? chan_base + channel : chan) + {{(ADDR - BIT){1'b0}}, lowest(word)};
    assign valid = state == HOLD;
    assign weight = chan_weight + row_w + col_w;
    assign target = chan_block + row_a + col_a;

    always @(posedge clk)
        if (rst) state <= OFF;
        else begin
            case (state)
                OFF:
                    if (start) begin
                        state <= FIRST;
                        place <= DENSE != 0 ? {ADDR{1'b0}} : in_base;
                        chan <= chan_base;
                        {k, x, y} <= 0;
                        {ry, rx} <= {ry_0, rx_0};
                        qy <= {{(DIM - 8){1'b0}}, qy_0};
                        qx <= {{(DIM - 8){1'b0}}, qx_0};
                        {row_w, col_w} <= {row_w_0, col_w_0};
                        {row_a, col_a} <= {row_a_0, col_a_0};
                    end
                FIRST: state <= DENSE != 0 && count == 0 ? OFF : WORD;
                WORD:
                    if (found) begin
                        state <= HOLD;
                        pending <= analogue ? {LANES{1'b0}} : spikes & (spikes - 1'b1);
                        value <= analogue ? pixel : 8'd1;
                    end
                HOLD: if (again) pending <= pending & (pending - 1'b1);
            endcase
            if (re) place <= place + 1'b1;
            if (advance) begin
                state <= last ? OFF : WORD;
                if (DENSE != 0) begin
                end else if (!k_last) begin
                    k <= k + 1'b1;
                    chan <= chan + (analogue ? ONE : WIDE);
                end else begin
                    k <= 0;
                    chan <= chan_base;
                    if (!x_last) begin
                        x <= x + 1'b1;
                        if (rx + 1'b1 == stride_w) begin
                            rx <= 0;
                            col_w <= 0;
                            qx <= qx + 1'b1;
                            col_a <= col_a + blocks_a;
                        end else begin
                            rx <= rx + 1'b1;
                            col_w <= col_w + reach_w;
                        end
                    end else begin
                        x <= 0;
                        rx <= rx_0;
                        qx <= {{(DIM - 8){1'b0}}, qx_0};
                        col_w <= col_w_0;
                        col_a <= col_a_0;
                        y <= y + 1'b1;
                        if (ry + 1'b1 == stride_h) begin
                            ry <= 0;
                            row_w <= 0;
                            qy <= qy + 1'b1;
                            row_a <= row_a + row_a_inc;
                        end else begin
                            ry <= ry + 1'b1;
                            row_w <= row_w + row_w_inc;
                        end
                    end
                end
            end
        end
endmodule
