// SPDX-License-Identifier: MIT
// Max pooling of spikes: for each output word, the OR of the input words in its window, one input word a cycle.
//
// Words hold LANES channels and are in the order (y, x, block), so the window is the same for all lanes.
`default_nettype none

module slfp_pool #(
    parameter LANES = 8,
    parameter DIM = 16,
    parameter ADDR = 16
) (
    input wire clk,
    input wire rst,
    input wire start,
    output wire busy,
    // the layer
    input wire [7:0] kernel,
    input wire [DIM-1:0] out_h,
    input wire [DIM-1:0] out_w,
    input wire [ADDR-1:0] block_end,     // the last word of a pixel
    input wire [ADDR-1:0] in_base,
    input wire [ADDR-1:0] out_base,
    input wire [ADDR-1:0] row,           // words of an input row
    input wire [ADDR-1:0] row_step,      // row times the stride
    input wire [ADDR-1:0] col,           // words of a pixel
    input wire [ADDR-1:0] col_step,      // col times the stride
    // spike memory
    output wire re,
    output wire [ADDR-1:0] raddr,
    input wire [LANES-1:0] q,
    output wire we,
    output reg [ADDR-1:0] waddr,
    output wire [LANES-1:0] d
);
    reg active;
    reg [7:0] ky, kx;
    reg [ADDR-1:0] k;
    reg [DIM-1:0] x, y;
    // addresses of the first word of the row of windows, the window, its block, a row of the block; of the word to read
    reg [ADDR-1:0] rows, window, cell_, line, tap;
    reg read_1, first_1, last_1;
    reg [LANES-1:0] any;

    wire kx_end = kx + 1'b1 == kernel, ky_end = ky + 1'b1 == kernel;
    wire done = kx_end && ky_end;
    wire k_end = k == block_end, x_end = x + 1'b1 == out_w, y_end = y + 1'b1 == out_h;
    wire [ADDR-1:0] next_rows = rows + row_step, next_window = window + col_step;
    wire [ADDR-1:0] next_cell = cell_ + 1'b1, next_line = line + row;

    assign busy = active || read_1;
    assign re = active;
    assign raddr = tap;
    assign we = read_1 && last_1;
    assign d = first_1 ? q : any | q;

    always @(posedge clk)
        if (rst) begin
            active <= 1'b0;
            read_1 <= 1'b0;
        end else begin
            read_1 <= active;
            first_1 <= kx == 0 && ky == 0;
            last_1 <= done;
            if (read_1) any <= d;
            if (we) waddr <= waddr + 1'b1;
            if (start) begin
                active <= 1'b1;
                waddr <= out_base;
                {ky, kx} <= 0;
                {k, x, y} <= 0;
                {rows, window, cell_, line, tap} <= {5{in_base}};
            end else if (active) begin
                if (!kx_end) begin
                    kx <= kx + 1'b1;
                    tap <= tap + col;
                end else if (!ky_end) begin
                    kx <= 0;
                    ky <= ky + 1'b1;
                    {line, tap} <= {2{next_line}};
                end else begin
                    {ky, kx} <= 0;
                    if (!k_end) begin
                        k <= k + 1'b1;
                        {cell_, line, tap} <= {3{next_cell}};
                    end else begin
                        k <= 0;
                        if (!x_end) begin
                            x <= x + 1'b1;
                            {window, cell_, line, tap} <= {4{next_window}};
                        end else begin
                            x <= 0;
                            y <= y + 1'b1;
                            {rows, window, cell_, line, tap} <= {5{next_rows}};
                            if (y_end) active <= 1'b0;
                        end
                    end
                end
            end
        end
endmodule

`default_nettype wire
