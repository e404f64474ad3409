# a Cortex-M4, without its floating-point unit; in qemu ARM's board MPS2 with the FPGA image AN386
BOARD = cortex-m4
CROSS = arm-none-eabi-
BOARD_CFLAGS = -mcpu=cortex-m4 -mthumb
FLASH_ORIGIN = 0x00000000
FLASH = 4M
RAM_ORIGIN = 0x20000000
RAM = 4M
STACK = 2K
SIMULATE = qemu-system-arm -machine mps2-an386 -display none -monitor none -serial none \
	-chardev stdio,id=host -semihosting-config enable=on,target=native,chardev=host -icount shift=0,sleep=off -kernel
