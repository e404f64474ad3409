# 32-bit RISC-V with multiplication, atomic and compressed instructions; in qemu the board `virt`, whose RAM holds the code
BOARD = rv32
CROSS = riscv64-unknown-elf-
BOARD_CFLAGS = -march=rv32imac_zicsr -mabi=ilp32 -mcmodel=medany -msmall-data-limit=0
FLASH_ORIGIN = 0x80000000
FLASH = 4M
RAM_ORIGIN = 0x80400000
RAM = 4M
STACK = 2K
SIMULATE = qemu-system-riscv32 -machine virt -bios none -nographic -monitor none -icount shift=0,sleep=off -kernel
