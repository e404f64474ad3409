// SPDX-License-Identifier: MIT
// The core on a serial line, 8 bits, no parity, one stop bit; hardware/README.md describes the protocol.
//
// A command is a byte: "I" asks which network this is, "S", the number of steps (16 bits, low byte first) and inputs run
// a sample. An image is a byte for each pixel; spikes are words of LANES bits, in bytes, low byte first, of one step: the
// board asks with "W" for those of each further step. "L" and words of weights, in bytes, low byte first, fill a memory
// of weights that no bitstream holds. A break on the line ends whatever was going on.
`include "parameters.vh"
`include "board.vh"
`default_nettype none

module slfp_board #(
    parameter DIVISOR = 104                         // clock cycles of a bit, at least 4
) (
    input wire clk,
    input wire rx,
    output wire tx,
    output wire busy
);
    localparam LANES = `SLFP_LANES, ADDR = `SLFP_ADDR, ANALOGUE = `SLFP_ANALOGUE;
    localparam IN_BITS = ANALOGUE != 0 && LANES < 8 ? 8 : LANES;
    localparam COUNT_BITS = `SLFP_COUNT_BITS;
    // bytes of an input word, and its width in whole bytes
    localparam [3:0] IN_BYTES = ANALOGUE != 0 ? 1 : (LANES + 7) / 8, LAST_BYTE = IN_BYTES - 1'b1;
    localparam LOAD_BITS = LANES * `SLFP_ADDS * `SLFP_WEIGHT_BITS;
    localparam [7:0] LOAD_BYTES = (LOAD_BITS + 7) / 8, LAST_LOAD = LOAD_BYTES - 1'b1;
    localparam WORD_BITS = 8 * ((IN_BITS + 7) / 8);
    localparam [ADDR-1:0] IN_END = `SLFP_IN_WORDS - 1, STEP_END = `SLFP_STEP_WORDS - 1, LOAD_END = `SLFP_WEIGHT_WORDS - 1,
        OUT_AT = `SLFP_STEP_WORDS - `SLFP_OUT_WORDS;
    localparam [15:0] LAST_CLASS = `SLFP_CLASSES - 1;
    localparam [7:0] LANE_END = LANES - 1;
    localparam [31:0] POLYNOMIAL = 32'h04c11db7, ID = `SLFP_ID;

    // ---- reset: at the start, when block RAM is not ready yet, and after a break

    reg [7:0] awake = 8'd0;
    wire broken;
    wire rst = !awake[7];
    always @(posedge clk) awake <= broken ? 8'd0 : rst ? awake + 1'b1 : awake;

    wire rx_valid, tx_ready;
    wire [7:0] rx_data;
    reg [7:0] tx_data;
    wire tx_valid;

    slfp_receive #(.DIVISOR(DIVISOR)) receive (
        .clk(clk), .rx(rx), .valid(rx_valid), .data(rx_data), .broken(broken)
    );
    slfp_send #(.DIVISOR(DIVISOR)) send (
        .clk(clk), .rst(rst), .valid(tx_valid), .data(tx_data), .ready(tx_ready), .tx(tx)
    );

    // ---- the core

    wire go;
    reg in_we;
    reg [15:0] steps;
    reg [ADDR-1:0] in_addr;
    reg [WORD_BITS-1:0] in_data;
    wire idle, waiting, out_valid, done;
    wire [LANES-1:0] out_spikes;
    wire [31:0] cycles;
    wire load, load_we, load_end;
    wire [ADDR-1:0] load_addr;
    wire [LOAD_BITS-1:0] load_data;

    slfp_core core (
        .clk(clk), .rst(rst), .go(go), .steps(steps), .in_we(in_we), .in_addr(in_addr), .in_data(in_data[IN_BITS-1:0]),
        .load_we(load_we), .load_addr(load_addr), .load_data(load_data),
        .idle(idle), .waiting(waiting), .out_valid(out_valid), .out_spikes(out_spikes), .done(done), .cycles(cycles)
    );

    // ---- weights from the host

    generate
        if (`SLFP_LOADED != 0) begin : loading
            reg [7:0] byte_of;
            reg [ADDR-1:0] place;
            reg [8*LOAD_BYTES-1:0] bytes;
            reg we;
            wire [8*LOAD_BYTES+7:0] more_bytes = {rx_data, bytes};
            assign {load_we, load_addr, load_data} = {we, place, bytes[LOAD_BITS-1:0]};
            assign load_end = we && place == LOAD_END;
            always @(posedge clk) begin
                we <= 1'b0;
                if (!load) {byte_of, place} <= 0;
                else begin
                    if (we) place <= place + 1'b1;
                    if (rx_valid) begin
                        bytes <= more_bytes[8*LOAD_BYTES+7:8];
                        we <= byte_of == LAST_LOAD;
                        byte_of <= byte_of == LAST_LOAD ? 8'd0 : byte_of + 1'b1;
                    end
                end
            end
        end else begin : fixed
            assign {load_we, load_end, load_addr, load_data} = 0;
        end
    endgenerate

    // ---- what comes out of it: a signature of all spikes, and a count for each class

    reg [31:0] signature;
    reg [ADDR-1:0] word;            // of the step
    reg first;                      // step of a sample: counts start at 0
    wire counted = word >= OUT_AT;
    wire step_end = word == STEP_END;
    reg add, add_first;
    reg [LANES-1:0] add_spikes;
    reg [ADDR-1:0] add_addr, count_addr;
    wire [LANES*COUNT_BITS-1:0] count_q, count_d;
    wire started, reading;

    slfp_ram #(.WIDTH(LANES * COUNT_BITS), .DEPTH(`SLFP_OUT_WORDS < 2 ? 2 : `SLFP_OUT_WORDS), .ADDR(ADDR)) counts (
        .clk(clk), .re(out_valid || reading), .raddr(reading ? count_addr : word - OUT_AT), .q(count_q),
        .we(add), .waddr(add_addr), .d(count_d)
    );

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire [COUNT_BITS-1:0] old = add_first ? {COUNT_BITS{1'b0}} : count_q[lane*COUNT_BITS+:COUNT_BITS];
            assign count_d[lane*COUNT_BITS+:COUNT_BITS] = old + {{(COUNT_BITS - 1){1'b0}}, add_spikes[lane]};
        end
    endgenerate

    always @(posedge clk) begin
        add <= out_valid && counted && !rst;
        add_first <= first;
        add_spikes <= out_spikes;
        add_addr <= word - OUT_AT;
        if (started) begin
            signature <= 32'd0;
            word <= 0;
            first <= 1'b1;
        end else if (out_valid) begin
            signature <= {signature[30:0], 1'b0} ^ (signature[31] ? POLYNOMIAL : 32'd0) ^ {{(32 - LANES){1'b0}}, out_spikes};
            word <= step_end ? {ADDR{1'b0}} : word + 1'b1;
            if (step_end) first <= 1'b0;
        end
    end

    // ---- the protocol

    localparam [3:0] COMMAND = 0, LOW = 1, HIGH = 2, INPUTS = 3, GO = 4, RUN = 5, ASK = 6, WHO = 7, TAG = 8, READ = 9,
        TAKE = 10, COUNT = 11, TAIL = 12, LOAD = 13, LOADED = 14;

    reg [3:0] state;
    reg [3:0] part;                 // byte of an input word, of an answer
    reg [7:0] lane_of;
    reg [15:0] class_of, best;
    reg [COUNT_BITS-1:0] highest;
    reg [LANES*COUNT_BITS-1:0] left;
    wire [15:0] count = {{(16 - COUNT_BITS){1'b0}}, left[COUNT_BITS-1:0]};
    wire sending = state == ASK || state == WHO || state == TAG || state == COUNT || state == TAIL ||
        state == LOADED;
    wire word_end = part == LAST_BYTE;
    // a byte on the line takes longer than these need to settle
    reg in_end, class_end;
    always @(posedge clk) {in_end, class_end} <= {in_addr == IN_END, class_of == LAST_CLASS};
    wire [WORD_BITS+7:0] more = {rx_data, in_data};

    assign started = state == HIGH;
    assign reading = state == READ;
    assign load = state == LOAD;
    assign go = state == GO && (idle || waiting);
    assign busy = state != COMMAND;
    assign tx_valid = sending && tx_ready;

    always @(*)
        case (state)
            ASK: tx_data = "W";
            LOADED: tx_data = "L";
            WHO:
                case (part)
                    0: tx_data = "I";
                    1: tx_data = ID[7:0];
                    2: tx_data = ID[15:8];
                    3: tx_data = ID[23:16];
                    default: tx_data = ID[31:24];
                endcase
            COUNT: tx_data = part[0] ? count[15:8] : count[7:0];
            TAIL:
                case (part)
                    0: tx_data = best[7:0];
                    1: tx_data = best[15:8];
                    2: tx_data = signature[7:0];
                    3: tx_data = signature[15:8];
                    4: tx_data = signature[23:16];
                    5: tx_data = signature[31:24];
                    6: tx_data = cycles[7:0];
                    7: tx_data = cycles[15:8];
                    8: tx_data = cycles[23:16];
                    default: tx_data = cycles[31:24];
                endcase
            default: tx_data = "R";
        endcase

    always @(posedge clk)
        if (rst) begin
            state <= COMMAND;
            in_we <= 1'b0;
        end else begin
            in_we <= 1'b0;
            if (in_we) in_addr <= in_addr + 1'b1;
            case (state)
                COMMAND: begin
                    part <= 0;
                    in_addr <= 0;
                    if (rx_valid && rx_data == "I") state <= WHO;
                    if (rx_valid && rx_data == "S") state <= LOW;
                    if (rx_valid && rx_data == "L" && `SLFP_LOADED != 0) state <= LOAD;
                end
                LOW:
                    if (rx_valid) begin
                        steps[7:0] <= rx_data;
                        state <= HIGH;
                    end
                HIGH:
                    if (rx_valid) begin
                        steps[15:8] <= rx_data;
                        state <= INPUTS;
                    end
                INPUTS:
                    if (rx_valid) begin
                        in_data <= ANALOGUE != 0 ? {{(WORD_BITS - 8){1'b0}}, rx_data} : more[WORD_BITS+7:8];
                        part <= word_end ? 4'd0 : part + 1'b1;
                        in_we <= word_end;
                        if (word_end && in_end) state <= GO;
                    end
                // the last word is written in the first cycle
                GO: if (idle || waiting) state <= RUN;
                RUN: begin
                    in_addr <= 0;
                    part <= 0;
                    {count_addr, class_of, best, highest} <= 0;
                    if (waiting) state <= ASK;
                    if (done) state <= TAG;
                end
                ASK: if (tx_ready) state <= INPUTS;
                WHO:
                    if (tx_ready) begin
                        part <= part + 1'b1;
                        if (part == 4) state <= COMMAND;
                    end
                LOAD: if (load_end) state <= LOADED;
                LOADED: if (tx_ready) state <= COMMAND;
                TAG: if (tx_ready) state <= READ;
                READ: begin
                    count_addr <= count_addr + 1'b1;
                    state <= TAKE;
                end
                TAKE: begin
                    left <= count_q;
                    lane_of <= 0;
                    state <= COUNT;
                end
                COUNT:
                    if (tx_ready) begin
                        part <= part[0] ? 4'd0 : 4'd1;
                        if (part[0]) begin
                            left <= left >> COUNT_BITS;
                            lane_of <= lane_of + 1'b1;
                            class_of <= class_of + 1'b1;
                            if (left[COUNT_BITS-1:0] > highest) {best, highest} <= {class_of, left[COUNT_BITS-1:0]};
                            if (class_end) state <= TAIL;
                            else if (lane_of == LANE_END) state <= READ;
                        end
                    end
                TAIL:
                    if (tx_ready) begin
                        part <= part + 1'b1;
                        if (part == 9) state <= COMMAND;
                    end
                default: state <= COMMAND;
            endcase
        end
endmodule

// Receives bytes: each is valid for one cycle. `broken` is set while a stop bit is missing.
module slfp_receive #(
    parameter DIVISOR = 104
) (
    input wire clk,
    input wire rx,
    output reg valid,
    output reg [7:0] data,
    output reg broken
);
    localparam BITS = $clog2(DIVISOR + 1);
    localparam [BITS-1:0] WHOLE = DIVISOR - 1, HALF = DIVISOR / 2 - 1;

    reg [2:0] line = 3'b111;
    reg [BITS-1:0] wait_for = 0;
    reg [3:0] bits = 4'd0;          // left of a byte, with its start and stop bit

    initial {valid, broken} = 2'b00;

    always @(posedge clk) begin
        line <= {line[1:0], rx};
        valid <= 1'b0;
        if (line[2]) broken <= 1'b0;
        if (bits == 0) begin
            wait_for <= HALF;
            if (!line[2] && !broken) bits <= 4'd10;
        end else if (wait_for != 0) wait_for <= wait_for - 1'b1;
        else begin
            wait_for <= WHOLE;
            bits <= bits - 1'b1;
            if (bits == 1) begin
                valid <= line[2];
                broken <= !line[2];
            end else if (bits == 10) begin
                // too short for a start bit
                if (line[2]) bits <= 4'd0;
            end else data <= {line[2], data[7:1]};
        end
    end
endmodule

// Sends a byte when `valid` is set while `ready` is.
module slfp_send #(
    parameter DIVISOR = 104
) (
    input wire clk,
    input wire rst,
    input wire valid,
    input wire [7:0] data,
    output wire ready,
    output wire tx
);
    localparam BITS = $clog2(DIVISOR + 1);
    localparam [BITS-1:0] WHOLE = DIVISOR - 1;

    reg [8:0] shift = 9'h1ff;
    reg [BITS-1:0] wait_for;
    reg [3:0] bits;

    assign ready = bits == 0 && !rst;
    assign tx = shift[0];

    always @(posedge clk)
        if (rst) begin
            shift <= 9'h1ff;
            bits <= 4'd0;
        end else if (bits == 0) begin
            wait_for <= WHOLE;
            if (valid) begin
                shift <= {data, 1'b0};
                bits <= 4'd10;
            end
        end else if (wait_for != 0) wait_for <= wait_for - 1'b1;
        else begin
            wait_for <= WHOLE;
            shift <= {1'b1, shift[8:1]};
            bits <= bits - 1'b1;
        end
endmodule

`default_nettype wire
