// SPDX-License-Identifier: MIT
// Testbench: runs the core on the samples of inputs.hex; writes spikes.hex, one word a line, and cycles.txt, one line
// for each sample.
//
// +samples=N +steps=T +words=K: K is the number of words of a sample's image, or of one step of input spikes.
`include "parameters.vh"
`default_nettype none

module slfp_tb;
    localparam LANES = `SLFP_LANES;
    localparam IN_BITS = `SLFP_ANALOGUE != 0 && LANES < 8 ? 8 : LANES;
    localparam ADDR = `SLFP_ADDR;

    reg clk = 0, rst = 1, go = 0, in_we = 0;
    reg [15:0] steps;
    reg [ADDR-1:0] in_addr;
    reg [IN_BITS-1:0] in_data;
    wire idle, waiting, out_valid, done;
    wire [LANES-1:0] out_spikes;
    wire [31:0] cycles;
    integer inputs, spikes, cycles_file, samples, count, words, sample, k, found;

    // weights from their file, on boards too whose host sends them
    slfp_core #(.LOADED(0)) core (
        .clk(clk), .rst(rst), .go(go), .steps(steps), .in_we(in_we), .in_addr(in_addr), .in_data(in_data),
        .load_we(1'b0), .load_addr({ADDR{1'b0}}), .load_data({(LANES * `SLFP_ADDS * `SLFP_WEIGHT_BITS){1'b0}}),
        .idle(idle), .waiting(waiting), .out_valid(out_valid), .out_spikes(out_spikes), .done(done), .cycles(cycles)
    );

    always #1 clk = !clk;

    always @(posedge clk)
        if (out_valid !== 1'b0 && !rst) begin
            $fdisplay(spikes, "%h", out_spikes);
            // if a memory was read before it was written, the core might never finish
            if ((^{out_valid, out_spikes}) === 1'bx) begin
                $display("slfp_tb: undefined spikes in sample %0d", sample);
                $finish;
            end
        end

    // inputs change at the falling edge of the clock
    task write_inputs;
        begin
            for (k = 0; k < words; k = k + 1) begin
                found = $fscanf(inputs, "%h", in_data);
                if (found != 1) begin
                    $display("slfp_tb: inputs.hex ends within sample %0d", sample);
                    $finish;
                end
                in_addr = k;
                in_we = 1;
                @(negedge clk);
            end
            in_we = 0;
            go = 1;
            @(negedge clk);
            go = 0;
        end
    endtask

    initial begin
        if (!$value$plusargs("samples=%d", samples) || !$value$plusargs("steps=%d", count)
            || !$value$plusargs("words=%d", words)) begin
            $display("slfp_tb: +samples, +steps and +words are needed");
            $finish;
        end else if (!(samples >= 0 && count >= 1 && count <= 65535 && words >= 1)) begin
            $display("slfp_tb: +samples=%0d +steps=%0d +words=%0d, expected 0 or more, 1 to 65535, 1 or more",
                samples, count, words);
            $finish;
        end
        steps = count;
        inputs = $fopen("inputs.hex", "r");
        spikes = $fopen("spikes.hex", "w");
        cycles_file = $fopen("cycles.txt", "w");
        repeat (2) @(negedge clk);
        rst = 0;
        for (sample = 0; sample < samples; sample = sample + 1) begin
            while (!idle) @(negedge clk);
            write_inputs;
            while (!done) begin
                if (waiting) write_inputs;
                else @(negedge clk);
            end
            $fdisplay(cycles_file, "%0d", cycles);
        end
        $fclose(spikes);
        $fclose(cycles_file);
        $finish;
    end
endmodule

`default_nettype wire
