// SPDX-License-Identifier: MIT
// A ROM with one synchronous read port, initialised from a file of hexadecimal words.
`default_nettype none

module slfp_rom #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter FILE = "rom.hex",
    parameter ADDR = 16
) (
    input wire clk,
    input wire re,
    input wire [ADDR-1:0] raddr,
    output reg [WIDTH-1:0] q
);
    localparam BITS = $clog2(DEPTH);

    reg [WIDTH-1:0] mem[0:DEPTH-1];

    initial $readmemh(FILE, mem);

    always @(posedge clk) if (re) q <= mem[raddr[BITS-1:0]];

    wire unused = &{1'b0, raddr};
endmodule

`default_nettype wire
