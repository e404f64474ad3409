/* Single-steps a program and writes its conditional branches: one 64-bit word each, address * 2 + taken.
 *
 * usage: stepper OUT SKIP COUNT PROGRAM [ARGUMENT...]
 *
 * Stepping starts at the program's entry point, so the start of the dynamic loader is left out; the libraries' code is
 * in, the kernel's and that of child processes is not. The program runs freely through its first SKIP system calls,
 * then up to COUNT branches are kept. The last word written is the number of instructions that were stepped. x86-64.
 */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CACHED 65536

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t rip_of(pid_t child) {
    return (uint64_t)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, rip), 0);
}

/* Bytes of the conditional branch at `rip`, 0 for any other instruction. */
static uint8_t branch_length(pid_t child, uint64_t rip) {
    uint64_t words[2];
    for (int i = 0; i < 2; i++)
        words[i] = (uint64_t)ptrace(PTRACE_PEEKTEXT, child, rip + 8 * i, 0);
    const uint8_t *code = (const uint8_t *)words;
    int at = 0;
    /* segment hints, operand and address size, bnd; then REX */
    while (at < 4 && (code[at] == 0x2e || code[at] == 0x3e || code[at] == 0x66 || code[at] == 0x67 || code[at] == 0xf2))
        at++;
    if ((code[at] & 0xf0) == 0x40)
        at++;
    if ((code[at] & 0xf0) == 0x70 || (code[at] >= 0xe0 && code[at] <= 0xe3)) /* Jcc, LOOPcc, JRCXZ */
        return (uint8_t)(at + 2);
    if (code[at] == 0x0f && (code[at + 1] & 0xf0) == 0x80)
        return (uint8_t)(at + 6);
    return 0;
}

static uint64_t entry_of(pid_t child) {
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/auxv", (int)child);
    int file = open(name, O_RDONLY);
    Elf64_auxv_t entry;
    while (file >= 0 && read(file, &entry, sizeof entry) == sizeof entry && entry.a_type != AT_NULL)
        if (entry.a_type == AT_ENTRY) {
            close(file);
            return entry.a_un.a_val;
        }
    fail("entry point");
    return 0;
}

/* Let the child go on by `request` until it traps, with the signals it gets; return 0 once it has ended. */
static int resume(pid_t child, int request) {
    int passed = 0, status;
    for (;;) {
        if (ptrace(request, child, 0, passed) < 0 || waitpid(child, &status, 0) < 0)
            return 0;
        if (!WIFSTOPPED(status))
            return 0;
        passed = WSTOPSIG(status);
        if (passed == SIGTRAP)
            return 1;
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: stepper OUT SKIP COUNT PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    FILE *out = fopen(argv[1], "wb");
    if (!out)
        fail(argv[1]);
    const uint64_t skip = strtoull(argv[2], NULL, 10), count = strtoull(argv[3], NULL, 10);
    const pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        personality(ADDR_NO_RANDOMIZE);
        /* what a shell ignores in the background changes which handlers programs install */
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
            fail("ptrace");
        execvp(argv[4], argv + 4);
        fail(argv[4]);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
        return 1;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_EXITKILL);
    const uint64_t entry = entry_of(child);
    const long word = ptrace(PTRACE_PEEKTEXT, child, entry, 0);
    ptrace(PTRACE_POKETEXT, child, entry, (word & ~0xffL) | 0xcc);
    int alive = resume(child, PTRACE_CONT);
    ptrace(PTRACE_POKETEXT, child, entry, word);
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, rip), entry);
    /* each call stops twice, as it begins and as it ends */
    for (uint64_t stop = 0; alive && stop < 2 * skip; stop++)
        alive = resume(child, PTRACE_SYSCALL);

    static uint64_t known[CACHED];
    static uint8_t lengths[CACHED];
    uint64_t rip = rip_of(child), instructions = 0, kept = 0;
    while (alive && kept < count) {
        const size_t slot = rip % CACHED;
        if (known[slot] != rip) {
            known[slot] = rip;
            lengths[slot] = branch_length(child, rip);
        }
        const uint8_t length = lengths[slot];
        alive = resume(child, PTRACE_SINGLESTEP);
        if (!alive)
            break;
        const uint64_t next = rip_of(child);
        /* a string instruction repeats in place: one instruction, many steps */
        if (next != rip || length)
            instructions++;
        if (length) {
            const uint64_t record = rip << 1 | (next != rip + length);
            fwrite(&record, sizeof record, 1, out);
            kept++;
        }
        rip = next;
    }
    fwrite(&instructions, sizeof instructions, 1, out);
    return fclose(out) != 0;
}
