// SPDX-License-Identifier: MIT
// A RAM with one write and one read port, both synchronous. Reading a word while it is written returns the old one.
`default_nettype none

module slfp_ram #(
    parameter WIDTH = 24,
    parameter DEPTH = 2,
    parameter ADDR = 16
) (
    input wire clk,
    input wire re,
    input wire [ADDR-1:0] raddr,
    output reg [WIDTH-1:0] q,
    input wire we,
    input wire [ADDR-1:0] waddr,
    input wire [WIDTH-1:0] d
);
    localparam BITS = $clog2(DEPTH);

    reg [WIDTH-1:0] mem[0:DEPTH-1];

    always @(posedge clk) begin
        if (we) mem[waddr[BITS-1:0]] <= d;
        if (re) q <= mem[raddr[BITS-1:0]];
    end

    wire unused = &{1'b0, raddr, waddr};
endmodule

`default_nettype wire
