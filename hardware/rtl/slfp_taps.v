// SPDX-License-Identifier: MIT
// Emits the addresses of the weights of an event and of the accumulators that they are added to, one word a cycle.
//
// An input at row y reaches, through kernel row ky, output row (y + padding - ky) / stride where that is a whole number:
// ky starts at the remainder and increases by the stride while the output row decreases by one. A kernel row or column
// whose output is beyond the last row or column takes one cycle and emits no address.
`default_nettype none

module slfp_taps #(
    parameter DIM = 16,
    parameter ADDR = 16
) (
    input wire clk,
    input wire rst,
    output wire busy,
    // the layer
    input wire [7:0] kernel_h,
    input wire [7:0] kernel_w,
    input wire [7:0] stride_h,
    input wire [7:0] stride_w,
    input wire [DIM-1:0] out_h,
    input wire [DIM-1:0] out_w,
    input wire [ADDR-1:0] reach,
    input wire [ADDR-1:0] row_w_step,
    input wire [ADDR-1:0] col_w_step,
    input wire [ADDR-1:0] row_a_inc,
    input wire [ADDR-1:0] blocks_a,
    // events
    input wire valid,
    output wire accept,
    input wire [7:0] value_in,
    input wire [ADDR-1:0] weight_in,
    input wire [ADDR-1:0] target_in,
    input wire [7:0] ry,
    input wire [DIM-1:0] qy,
    input wire [7:0] rx,
    input wire [DIM-1:0] qx,
    // addresses
    output wire emit,
    output reg [7:0] value,
    output reg [ADDR-1:0] weight,
    output reg [ADDR-1:0] target
);
    // of the current tap, found while the one before is emitted: inside the kernel, its output inside, the last word of
    // its pixel, another kernel row or column may follow; those with _0 are of the first kernel column
    reg active, valid_tap, in_row, in_col, in_col_0, last_block, more_y, more_x, more_x_0;
    reg [7:0] kx_0;
    // of the next kernel row and column
    reg [8:0] ky_next, kx_next;
    reg [DIM-1:0] oy, ox, ox_0;
    reg [ADDR-1:0] left, row_w, tap_w, row_a, tap_a;

    wire here = in_row && in_col;
    wire tap_end = !here || last_block;
    wire row_end = !in_row || (tap_end && !more_x);
    wire over = !valid_tap || (row_end && !more_y);

    assign busy = active;
    assign accept = valid && (!active || over);
    assign emit = active && valid_tap && here;

    wire [ADDR-1:0] next_row_w = row_w + row_w_step, next_tap_w = tap_w + col_w_step;
    wire [ADDR-1:0] next_row_a = row_a - row_a_inc, next_tap_a = tap_a - blocks_a;
    wire [8:0] ry_next = {1'b0, ry} + {1'b0, stride_h}, rx_next = {1'b0, rx} + {1'b0, stride_w};
    wire [8:0] kx_first = {1'b0, kx_0} + {1'b0, stride_w};
    wire [8:0] ky_after = ky_next + {1'b0, stride_h}, kx_after = kx_next + {1'b0, stride_w};
    wire first_more_x = rx_next < {1'b0, kernel_w} && qx != 0, first_in_col = qx < out_w;

    always @(posedge clk)
        if (rst) active <= 1'b0;
        else if (accept) begin
            active <= 1'b1;
            value <= value_in;
            valid_tap <= ry < kernel_h && rx < kernel_w;
            {ky_next, kx_next, kx_0} <= {ry_next, rx_next, rx};
            {oy, ox, ox_0} <= {qy, qx, qx};
            in_row <= qy < out_h;
            {in_col, in_col_0} <= {2{first_in_col}};
            more_y <= ry_next < {1'b0, kernel_h} && qy != 0;
            {more_x, more_x_0} <= {2{first_more_x}};
            left <= reach - 1'b1;
            last_block <= reach == 1;
            {row_w, tap_w, weight} <= {3{weight_in}};
            {row_a, tap_a, target} <= {3{target_in}};
        end else if (active) begin
            if (over) active <= 1'b0;
            else if (row_end) begin
                ky_next <= ky_after;
                kx_next <= kx_first;
                oy <= oy - 1'b1;
                ox <= ox_0;
                in_row <= oy - 1'b1 < out_h;
                in_col <= in_col_0;
                more_y <= ky_after < {1'b0, kernel_h} && oy != 1;
                more_x <= more_x_0;
                left <= reach - 1'b1;
                last_block <= reach == 1;
                {row_w, tap_w, weight} <= {3{next_row_w}};
                {row_a, tap_a, target} <= {3{next_row_a}};
            end else if (tap_end) begin
                kx_next <= kx_after;
                ox <= ox - 1'b1;
                in_col <= ox - 1'b1 < out_w;
                more_x <= kx_after < {1'b0, kernel_w} && ox != 1;
                left <= reach - 1'b1;
                last_block <= reach == 1;
                {tap_w, weight} <= {2{next_tap_w}};
                {tap_a, target} <= {2{next_tap_a}};
            end else begin
                left <= left - 1'b1;
                last_block <= left == 1;
                weight <= weight + 1'b1;
                target <= target + 1'b1;
            end
        end
endmodule

`default_nettype wire
