// SPDX-License-Identifier: MIT
// One integer LIF neuron, in two pipeline stages: leak and current, then reset, saturation and threshold.
//
// Stage 1 reads its inputs while `en1` is set, stage 2 one cycle later while `en2` is set.
module slfp_lif (
    input wire clk,
    input wire en1,
    input wire en2,
    input wire first_step,            // the first step of a sample: the membrane counts as 0, its last spike as none
    input wire [1:0] reset,           // 0 zero, 1 subtract (one step late), 2 subtract_decayed
    input wire [2:0] frac,            // fraction bits of the membrane
    input wire [12:0] kept,           // 4096 - decay
    input wire signed [23:0] membrane,
    input wire signed [23:0] acc,
    input wire signed [23:0] bias,
    input wire [22:0] theta,          // already shifted by `frac`
    input wire last_spike,            // of this neuron, in the step before
    output reg signed [23:0] next,
    output reg spike
);
    localparam signed [25:0] LARGEST = 26'sd8388607;

    wire [23:0] negated = -membrane;
    wire [22:0] size = first_step ? 23'd0 : membrane[23] ? negated[22:0] : membrane[22:0];
    // the product of magnitudes, shifted right, truncates towards zero
    wire [35:0] product = {13'd0, size} * {23'd0, kept};
    wire signed [23:0] leaked = $signed({1'b0, product[34:12]});
    wire signed [23:0] current = (acc + bias) <<< frac;

    reg signed [23:0] leak_1, current_1;
    reg [22:0] theta_1;
    reg subtract_1;

    always @(posedge clk)
        if (en1) begin
            leak_1 <= membrane[23] ? -leaked : leaked;
            current_1 <= current;
            theta_1 <= theta;
            subtract_1 <= last_spike && !first_step && reset == 2'd1;
        end

    wire signed [25:0] threshold = $signed({3'b000, theta_1});
    wire signed [25:0] subtracted = subtract_1 ? threshold : 26'sd0;
    wire signed [25:0] sum = {{2{leak_1[23]}}, leak_1} + {{2{current_1[23]}}, current_1} - subtracted;
    wire signed [25:0] limited = sum > LARGEST ? LARGEST : sum < -LARGEST ? -LARGEST : sum;
    wire fired = limited > threshold;
    wire signed [25:0] reduced = limited - threshold;

    always @(posedge clk)
        if (en2) begin
            spike <= fired;
            next <= !fired || reset == 2'd1 ? limited[23:0] : reset == 2'd0 ? 24'sd0 : reduced[23:0];
        end

    // bits that are always 0, or not used
    wire unused = &{1'b0, negated[23], product[35], product[11:0], reduced[25:24]};
endmodule
