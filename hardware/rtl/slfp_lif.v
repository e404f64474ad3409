// SPDX-License-Identifier: MIT
// One integer LIF neuron in six pipeline stages, each with one addition at most beside the product.
//
// 1 size of the membrane; 2 products, accumulator shifted, bias minus what is subtracted; 3 leak, current; 4 their sum; 5 saturation;
// 6 threshold and reset. Inputs are read in the first stage, `kept` and `frac` in the second, `reset` in the last.
`default_nettype none

module slfp_lif (
    input wire clk,
    input wire first_step,            // the first step of a sample: the membrane counts as 0, its last spike as none
    input wire subtract,              // reset is 1
    input wire [1:0] reset,           // 0 zero, 1 subtract (one step late), 2 subtract_decayed
    input wire [2:0] frac,            // fraction bits of the membrane
    input wire [12:0] kept,           // 4096 - decay
    input wire signed [23:0] membrane,
    input wire signed [23:0] acc,
    input wire signed [23:0] bias,    // already shifted by `frac`, as theta
    input wire [22:0] theta,
    input wire last_spike,            // of this neuron, in the step before
    output reg signed [23:0] next,
    output reg spike
);
    wire [23:0] negated = -membrane;

    reg [22:0] size_1, theta_1, theta_2, theta_3, theta_4, theta_5;
    reg signed [23:0] acc_1, bias_1;
    reg signed [24:0] acc_2, offset_2;
    reg negative_1, negative_2, negative_3, subtract_1;
    reg [24:0] low_2;
    reg [23:0] high_2;
    reg [22:0] leaked_3;
    reg signed [24:0] rest_3;
    reg signed [25:0] sum_4;
    reg signed [23:0] limited_5;

    // the product of magnitudes, shifted right, truncates towards zero
    wire [23:0] leaked = high_2 + {11'd0, low_2[24:12]};
    // the current fits 24 bits, the accumulator alone may not: its lower 25 bits are enough for the sum
    wire signed [24:0] wide = {acc_1[23], acc_1}, subtracted = subtract_1 ? {2'b00, theta_1} : 25'd0;
    wire signed [25:0] rest = {rest_3[24], rest_3}, leak = {3'b000, leaked_3};
    // beyond -(2^23 - 1) .. 2^23 - 1
    wire above = !sum_4[25] && sum_4[24:23] != 2'b00;
    wire below = sum_4[25] && (sum_4[24:23] != 2'b11 || sum_4[22:0] == 23'd0);
    wire signed [24:0] limited = {limited_5[23], limited_5}, threshold = {2'b00, theta_5};
    wire signed [24:0] missing = threshold - limited;
    wire signed [24:0] reduced = limited - threshold;

    always @(posedge clk) begin
        size_1 <= first_step ? 23'd0 : membrane[23] ? negated[22:0] : membrane[22:0];
        negative_1 <= membrane[23];
        acc_1 <= acc;
        bias_1 <= bias;
        theta_1 <= theta;
        subtract_1 <= last_spike && !first_step && subtract;

        low_2 <= {13'd0, size_1[11:0]} * {12'd0, kept};
        high_2 <= {13'd0, size_1[22:12]} * {11'd0, kept};
        negative_2 <= negative_1;
        acc_2 <= wide <<< frac;
        offset_2 <= {bias_1[23], bias_1} - subtracted;
        theta_2 <= theta_1;

        leaked_3 <= leaked[22:0];
        negative_3 <= negative_2;
        rest_3 <= acc_2 + offset_2;
        theta_3 <= theta_2;

        sum_4 <= negative_3 ? rest - leak : rest + leak;
        theta_4 <= theta_3;

        limited_5 <= above ? 24'sd8388607 : below ? -24'sd8388607 : sum_4[23:0];
        theta_5 <= theta_4;

        // the sign of what is missing
        spike <= missing[24];
        next <= !missing[24] || reset == 2'd1 ? limited_5 : reset == 2'd0 ? 24'sd0 : reduced[23:0];
    end

    // bits that are always 0, or not used
    wire unused = &{1'b0, negated[23], leaked[23], low_2[11:0], missing[23:0], reduced[24]};
endmodule

`default_nettype wire
