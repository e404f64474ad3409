// SPDX-License-Identifier: MIT
// A board with an ECP5 and an oscillator of 25 MHz: the core on its serial line.
//
// CLOCK is in MHz: 25, or a multiple of 5 from 10 to 100, from the PLL. Names of pins are those of the .lpf.
`default_nettype none

module top (
    input wire CLK,
    input wire RX,
    output wire TX,
    output wire LED
);
    // the PLL's oscillator is kept in 400..800 MHz: 25 MHz / 5 x FEEDBACK = CLOCK, CLOCK x DIVIDER
    localparam DIVIDER = 600 / `CLOCK;

    wire clk;

    generate
        if (`CLOCK == 25) begin : oscillator
            assign clk = CLK;
        end else begin : pll
            wire locked;
            (* ICP_CURRENT="12", LPF_RESISTOR="8", MFG_ENABLE_FILTEROPAMP="1", MFG_GMCREF_SEL="2" *)
            EHXPLLL #(
                .PLLRST_ENA("DISABLED"), .INTFB_WAKE("DISABLED"), .STDBY_ENABLE("DISABLED"), .DPHASE_SOURCE("DISABLED"),
                .OUTDIVIDER_MUXA("DIVA"), .OUTDIVIDER_MUXB("DIVB"), .OUTDIVIDER_MUXC("DIVC"), .OUTDIVIDER_MUXD("DIVD"),
                .CLKI_DIV(5), .CLKOP_ENABLE("ENABLED"), .CLKOP_DIV(DIVIDER), .CLKOP_CPHASE(DIVIDER / 2), .CLKOP_FPHASE(0),
                .FEEDBK_PATH("CLKOP"), .CLKFB_DIV(`CLOCK / 5)
            ) pll (
                .RST(1'b0), .STDBY(1'b0), .CLKI(CLK), .CLKOP(clk), .CLKFB(clk), .CLKINTFB(), .PHASESEL0(1'b0),
                .PHASESEL1(1'b0), .PHASEDIR(1'b1), .PHASESTEP(1'b1), .PHASELOADREG(1'b1), .PLLWAKESYNC(1'b0),
                .ENCLKOP(1'b0), .LOCK(locked)
            );
        end
    endgenerate

    slfp_board #(.DIVISOR((`CLOCK * 1000000 + `BAUD / 2) / `BAUD)) board (.clk(clk), .rx(RX), .tx(TX), .busy(LED));
endmodule

`default_nettype wire
