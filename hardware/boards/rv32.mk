# 32-bit RISC-V with multiplication, atomic and compressed instructions; in qemu the board `virt`, whose RAM holds the code
BOARD = rv32
CROSS = riscv64-unknown-elf-
BOARD_CFLAGS = -march=rv32imac_zicsr -mabi=ilp32 -mcmodel=medany -msmall-data-limit=0
# for division of 64 bits; gcc 12 knows no library for zicsr, and would take that of RV64
LIBGCC = $(shell $(CROSS)gcc $(patsubst -march=%_zicsr,-march=%,$(BOARD_CFLAGS)) -print-libgcc-file-name)
FLASH_ORIGIN = 0x80000000
FLASH = 4M
RAM_ORIGIN = 0x80400000
RAM = 4M
STACK = 2K
SIMULATE = qemu-system-riscv32 -machine virt -bios none -nographic -monitor none -icount shift=0,sleep=off -kernel
