// One integer LIF neuron, in two pipeline stages: leak and current, then reset, saturation and threshold.
//
// Stage 1 takes its inputs where `en1` is set, stage 2 one cycle later where `en2` is set.
module slfp_lif (
    input wire clk,
    input wire en1,
    input wire en2,
    input wire rest,                  // the first step of a sample: the membrane is 0 and nothing has spiked
    input wire [1:0] reset,           // 0 zero, 1 subtract (one step late), 2 subtract_decayed
    input wire [2:0] frac,            // fraction bits of the membrane
    input wire [12:0] kept,           // 4096 - decay
    input wire signed [23:0] membrane,
    input wire signed [23:0] acc,
    input wire signed [23:0] bias,
    input wire [22:0] theta,          // already shifted by `frac`
    input wire earlier,              // the neuron's last spike
    output reg signed [23:0] next,
    output reg spike
);
    localparam signed [25:0] TOP = 26'sd8388607;

    wire [23:0] negated = -membrane;
    wire [22:0] size = rest ? 23'd0 : membrane[23] ? negated[22:0] : membrane[22:0];
    // the product of magnitudes, shifted, truncates towards zero
    wire [35:0] product = {13'd0, size} * {23'd0, kept};
    wire signed [23:0] leaked = $signed({1'b0, product[34:12]});
    wire signed [23:0] current = (acc + bias) <<< frac;

    reg signed [23:0] leak_1, current_1;
    reg [22:0] theta_1;
    reg late_1;

    always @(posedge clk)
        if (en1) begin
            leak_1 <= membrane[23] ? -leaked : leaked;
            current_1 <= current;
            theta_1 <= theta;
            late_1 <= earlier && !rest && reset == 2'd1;
        end

    wire signed [25:0] bound = $signed({3'b000, theta_1});
    wire signed [25:0] sum = {{2{leak_1[23]}}, leak_1} + {{2{current_1[23]}}, current_1} - (late_1 ? bound : 26'sd0);
    wire signed [25:0] held = sum > TOP ? TOP : sum < -TOP ? -TOP : sum;
    wire fired = held > bound;
    wire signed [25:0] lowered = held - bound;

    always @(posedge clk)
        if (en2) begin
            spike <= fired;
            next <= !fired || reset == 2'd1 ? held[23:0] : reset == 2'd0 ? 24'sd0 : lowered[23:0];
        end

    // bits that the arithmetic above cannot set
    wire unused = &{1'b0, negated[23], product[35], product[11:0], lowered[25:24]};
endmodule
