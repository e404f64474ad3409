# a Cortex-M0; in qemu the BBC micro:bit if the program fits its 256K of flash and 16K of RAM, otherwise ARM's board MPS2
# with the FPGA image AN385, whose Cortex-M3 has all instructions of a Cortex-M0
BOARD = cortex-m0
CROSS = arm-none-eabi-
BOARD_CFLAGS = -mcpu=cortex-m0 -mthumb
FLASH_ORIGIN = 0x00000000
FLASH = 4M
RAM_ORIGIN = 0x20000000
RAM = 4M
STACK = 2K
MACHINE = $(shell $(CROSS)size -A $(1) | awk '/^\.(vectors|golden|text|data) /{f += $$2} /^\.(data|bss|stack) /{r += $$2} \
	END {print f <= 262144 && r <= 16384 ? "microbit" : "mps2-an385"}')
SIMULATE = qemu-system-arm -machine $(call MACHINE,$<) -display none -monitor none -serial none \
	-chardev stdio,id=host -semihosting-config enable=on,target=native,chardev=host -icount shift=0,sleep=off -kernel
