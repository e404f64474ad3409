// SPDX-License-Identifier: MIT
// A board with an iCE40 and an oscillator of 12 MHz: the core on its serial line.
//
// CLOCK is in MHz: 12, or a multiple of 3 from 18 to 66, from the PLL; PLL_PAD is set where the oscillator is on the pad
// of the PLL. Names of pins are those of the .pcf.
`default_nettype none

module top (
    input wire CLK,
    input wire RX,
    output wire TX,
    output wire LED
);
    // the PLL's oscillator is kept in 533..1066 MHz: 12 MHz x (FEEDBACK + 1) = CLOCK x 2^DIVIDER
    localparam [2:0] DIVIDER = `CLOCK <= 33 ? 3'd5 : 3'd4;
    localparam [6:0] FEEDBACK = `CLOCK * (1 << DIVIDER) / 12 - 1;

    wire clk, busy;

    generate
        if (`CLOCK == 12) begin : oscillator
            assign clk = CLK;
        end else begin : pll
`ifdef PLL_PAD
            SB_PLL40_PAD #(
                .FEEDBACK_PATH("SIMPLE"), .DIVR(4'd0), .DIVF(FEEDBACK), .DIVQ(DIVIDER), .FILTER_RANGE(3'd1)
            ) pll (.PACKAGEPIN(CLK), .PLLOUTGLOBAL(clk), .RESETB(1'b1), .BYPASS(1'b0));
`else
            SB_PLL40_CORE #(
                .FEEDBACK_PATH("SIMPLE"), .DIVR(4'd0), .DIVF(FEEDBACK), .DIVQ(DIVIDER), .FILTER_RANGE(3'd1)
            ) pll (.REFERENCECLK(CLK), .PLLOUTGLOBAL(clk), .RESETB(1'b1), .BYPASS(1'b0));
`endif
        end
    endgenerate

    slfp_board #(.DIVISOR((`CLOCK * 1000000 + `BAUD / 2) / `BAUD)) board (.clk(clk), .rx(RX), .tx(TX), .busy(busy));
`ifdef LED_LOW
    assign LED = !busy;
`else
    assign LED = busy;
`endif
endmodule

`default_nettype wire
