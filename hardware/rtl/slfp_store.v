// SPDX-License-Identifier: MIT
// A RAM with one port, read or written in a cycle: on an iCE40 UltraPlus SPRAM, which no bitstream initialises.
`default_nettype none

module slfp_store #(
    parameter WIDTH = 16,
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

    (* ram_style = "huge" *)
    reg [WIDTH-1:0] mem[0:DEPTH-1];
    wire [BITS-1:0] place = we ? waddr[BITS-1:0] : raddr[BITS-1:0];

    always @(posedge clk)
        if (we) mem[place] <= d;
        else if (re) q <= mem[place];

    wire unused = &{1'b0, raddr, waddr};
endmodule

`default_nettype wire
