// SPDX-License-Identifier: MIT
// Emits the addresses of the weights of an event and of the accumulators that they are added to, one word a cycle.
//
// An input at row y reaches, through kernel row ky, output row (y + padding - ky) / stride where that is a whole number:
// ky starts at the remainder and increases by the stride while the output row decreases by one. A kernel row or column
// whose output is beyond the last row or column takes one cycle and emits no address.
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
    reg active;
    reg [7:0] ky, kx, kx_0;
    reg [DIM-1:0] oy, ox, ox_0;
    reg [ADDR-1:0] block, row_w, tap_w, row_a, tap_a;

    wire [8:0] ky_next = {1'b0, ky} + {1'b0, stride_h};
    wire [8:0] kx_next = {1'b0, kx} + {1'b0, stride_w};
    wire valid_tap = ky < kernel_h && kx < kernel_w;
    wire in_row = oy < out_h;
    wire here = in_row && ox < out_w;
    wire tap_end = !here || block + 1'b1 == reach;
    wire row_end = !in_row || (tap_end && (kx_next >= {1'b0, kernel_w} || ox == 0));
    wire over = !valid_tap || (row_end && (ky_next >= {1'b0, kernel_h} || oy == 0));

    assign busy = active;
    assign accept = valid && (!active || over);
    assign emit = active && valid_tap && here;

    wire [ADDR-1:0] next_row_w = row_w + row_w_step, next_tap_w = tap_w + col_w_step;
    wire [ADDR-1:0] next_row_a = row_a - row_a_inc, next_tap_a = tap_a - blocks_a;

    always @(posedge clk)
        if (rst) active <= 1'b0;
        else if (accept) begin
            active <= 1'b1;
            value <= value_in;
            {ky, kx, kx_0} <= {ry, rx, rx};
            {oy, ox, ox_0} <= {qy, qx, qx};
            block <= 0;
            {row_w, tap_w, weight} <= {3{weight_in}};
            {row_a, tap_a, target} <= {3{target_in}};
        end else if (active) begin
            if (over) active <= 1'b0;
            else if (row_end) begin
                ky <= ky_next[7:0];
                oy <= oy - 1'b1;
                {kx, ox} <= {kx_0, ox_0};
                block <= 0;
                {row_w, tap_w, weight} <= {3{next_row_w}};
                {row_a, tap_a, target} <= {3{next_row_a}};
            end else if (tap_end) begin
                kx <= kx_next[7:0];
                ox <= ox - 1'b1;
                block <= 0;
                {tap_w, weight} <= {2{next_tap_w}};
                {tap_a, target} <= {2{next_tap_a}};
            end else begin
                block <= block + 1'b1;
                weight <= weight + 1'b1;
                target <= target + 1'b1;
            end
        end
endmodule
