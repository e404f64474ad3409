// SPDX-License-Identifier: MIT
// A board for host.py: sends bytes over the serial line of `top`, and prints those that come back.
//
// Lines of standard input: "w XX" sends a byte, "r N" prints the next N bytes, a line each. DIVISOR is defined as the
// number of clock cycles of a bit.
`default_nettype none

module slfp_board_tb;
    localparam BIT = 2 * `DIVISOR, PATIENCE = 100000000, INPUT = 32'h80000000;

    reg clk = 0, rx = 1;
    wire tx, led;
    reg [7:0] received[0:65535];
    reg [7:0] byte_in, byte_out, what;
    integer written = 0, printed = 0, value, k, n, waited;

    top top (.CLK(clk), .RX(rx), .TX(tx), .LED(led));

    always #1 clk = !clk;

    always begin
        @(negedge tx);
        #(BIT / 2);
        if (tx === 1'b0) begin
            for (n = 0; n < 8; n = n + 1) begin
                #(BIT);
                byte_in = {tx, byte_in[7:1]};
            end
            #(BIT);
            received[written % 65536] = byte_in;
            written = written + 1;
        end
    end

    initial begin
        // until block RAM is ready
        #2000;
        while ($fscanf(INPUT, " %c %h", what, value) == 2) begin
            if (what == "w") begin
                byte_out = value;
                rx = 0;
                #(BIT);
                for (k = 0; k < 8; k = k + 1) begin
                    rx = byte_out[k];
                    #(BIT);
                end
                rx = 1;
                #(BIT);
            end else
                while (value != 0) begin
                    waited = 0;
                    while (written == printed) begin
                        #(BIT);
                        waited = waited + BIT;
                        if (waited > PATIENCE) begin
                            $display("nothing came back");
                            $finish;
                        end
                    end
                    $display("%h", received[printed % 65536]);
                    printed = printed + 1;
                    value = value - 1;
                end
            $fflush;
        end
        $finish;
    end
endmodule

`default_nettype wire
