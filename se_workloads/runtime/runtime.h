// What the workloads stand on: no C library, so that nothing but the program itself is measured.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "patterns/mix.h"

#define PAGE_SIZE 4096UL
#define PMD_SIZE (2UL << 20)

// ---- Linux's numbers (asm-generic/mman*.h, fcntl.h, errno-base.h)

#define PROT_NONE 0
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 0x01
#define MAP_PRIVATE 0x02
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_SHARED_PT 0x200000
#define MREMAP_MAYMOVE 1
#define O_RDONLY 0
#define O_RDWR 2
#define O_CREAT 0100
#define EFAULT 14
#define EINVAL 22
#define O_CLOEXEC 02000000
#define SIGKILL 9

// ---- Description, read from the ELF file by ptshare (spec/about.py)

// Once in each workload: "name\0what it does\0default work and its unit\0" in .ptshare.about;
// `work`, the default of --work, is a plain number.
#define WORKLOAD(name, description, work, unit)                                  \
    __attribute__((section(".ptshare.about"), used)) static const char about[] = \
        name "\0" description "\0" #work " " unit;                               \
    const char* const workload_name = name;                                      \
    const u64 default_work = work

extern const char* const workload_name;
extern const u64 default_work;

// What else there is to be known of it: strings with a zero behind each, whose words have tabs
// between them, without quotes. Of a section that is not loaded: whatever is added here moves
// nothing in memory, where figures would move with it.
#define DETAIL(words)                                        \
    __asm__(                                                 \
        ".pushsection .ptshare.details, \"\", @progbits\n\t" \
        ".asciz \"" words                                    \
        "\"\n\t"                                             \
        ".popsection")
#define TEXT_OF_(value) #value
#define TEXT_OF(value) TEXT_OF_(value)

// The last rank, if it is not alone, ends by a SIGKILL that it sends itself.
#define KILLS_ITSELF DETAIL("kills itself")
// It prints what the kernel answers.
#define OUTPUT_DEPENDS_ON_POLICY DETAIL("output depends on policy")

// ---- Arguments

struct Options {
    const char* file;  // of the shared region; the barrier's page is in file + ".sync"
    u64 size;          // bytes
    u64 addr;          // where the region is mapped
    u64 share;         // 1: ask for MAP_SHARED_PT
    u64 rank;
    u64 count;
    u64 seed;
    u64 work;
    u64 around;  // 0: the region is without fault-around
    u64 apart;   // bytes from the region of a rank to that of the next
};
extern struct Options options;

// An argument of one workload alone: "--name value", a whole number from `least` to `most`, or,
// with `text`, anything.
struct Extra {
    const char* name;
    u64* value;
    u64 least;
    u64 most;
    const char** text;
};
// The workload's own, up to a null name.
extern const struct Extra extras[];

// Once in each workload, if it has arguments of its own: LIST(ARGUMENT) is one
//     ARGUMENT(kind, variable, name, default, least, most, multiple, meaning)
// after the other, with plain numbers. Kinds: NUMBER, whose variable is defined here; OPTION, whose
// variable there is already; TEXT, which may be anything and has no numbers. run() checks that a
// value is a multiple.
#define ARGUMENTS(LIST)   \
    LIST(DEFINE_ARGUMENT) \
    const struct Extra extras[] = {LIST(ENTRY_OF_ARGUMENT){0}}

#define DEFINE_ARGUMENT(kind, ...) DEFINE_##kind(__VA_ARGS__)
#define DEFINE_NUMBER(variable, name, value, ...) \
    static u64 variable = value;                  \
    NUMBER_DETAIL("own", name, value, __VA_ARGS__);
#define DEFINE_OPTION(variable, ...) NUMBER_DETAIL("own", __VA_ARGS__);
#define DEFINE_TEXT(variable, name, value, least, most, multiple, meaning) \
    static const char* variable = value;                                   \
    DETAIL("own\t" name "\t" meaning);
#define NUMBER_DETAIL(whose, name, value, least, most, multiple, meaning)        \
    DETAIL(whose "\t" name "\t" TEXT_OF(value) "\t" TEXT_OF(least) "\t" TEXT_OF( \
        most) "\t" TEXT_OF(multiple) "\t" meaning)

#define ENTRY_OF_ARGUMENT(kind, ...) ENTRY_OF_##kind(__VA_ARGS__)
#define ENTRY_OF_NUMBER(variable, name, value, least, most, multiple, meaning) \
    {name, &variable, least, most, 0},
#define ENTRY_OF_OPTION ENTRY_OF_NUMBER
#define ENTRY_OF_TEXT(variable, name, value, least, most, multiple, meaning) \
    {name, 0, least, most, &variable},

// Each rank maps the region so many bytes above the rank before it; options.addr is this rank's
// own. One that may not share it there has tables of its own.
#define APART(ARGUMENT)                                                              \
    ARGUMENT(OPTION, options.apart, "--apart", 0, 0, 70368744177664, APART_MULTIPLE, \
             "bytes from the region of a rank to that of the next")
#define APART_MULTIPLE 4096

// Fills in the options, or ends the program as bad_argument does.
void parse_arguments(int argc, char** argv);
// "<workload>: <name>: <value>: <right>" on standard error, exit code 2. Only before setup().
__attribute__((noreturn)) void bad_argument(const char* name, u64 value, const char* right);

// ---- System calls: the result, or a negative errno

long sys_mmap(u64 addr, u64 length, int prot, int flags, int fd, u64 offset);
long sys_munmap(u64 addr, u64 length);
long sys_mprotect(u64 addr, u64 length, int prot);
long sys_mremap(u64 addr, u64 old_length, u64 new_length, int flags);
long sys_mremap_to(u64 addr, u64 old_length, u64 new_length, int flags, u64 to);
long sys_open(const char* path, int flags);
long sys_close(int fd);
long sys_ftruncate(int fd, u64 size);
long sys_read(int fd, u64 buffer, u64 n);
long sys_write(int fd, u64 buffer, u64 n);
long sys_getpid(void);
long sys_kill(long pid, int signal);
long sys_madvise(u64 addr, u64 length, int advice);
long sys_brk(u64 end);
long sys_fork(void);
long sys_wait(long pid, int* status);  // as wait4 has it
__attribute__((noreturn)) void sys_exit(int code);
const char* errno_name(long result);  // "ok", "EINVAL", ...: one word

// ---- Region, barrier, marks

extern int region_fd;

// Opens the barrier's page and the region's file, and sets their sizes.
void setup(void);
// Maps the barrier's page, from its own file; fails when other ranks than those of this run used
// it.
void map_barrier(const char* path);
// Maps the whole region where the options say. Ends the program when that fails.
void map_region(void);
void unmap_region(void);
// From now on each page of the range takes a fault of its own: it is registered with userfaultfd in
// write-protect mode, for which Linux forgoes fault-around. Nothing is ever protected.
void forgo_fault_around(u64 addr, u64 length);
static inline volatile u64* word_at(u64 byte) {
    return (volatile u64*)(options.addr + byte);  // byte: offset into the region, a multiple of 8
}
static inline u64 pages_of_region(void) {
    return options.size / PAGE_SIZE;
}

// Waits for all ranks that take part.
void barrier(void);
// This rank takes no part in barriers any more.
void leave_barrier(void);
// The other ranks end at their next barrier: this one has failed.
void tell_failure(void);

// Region of interest: a system call that Linux does not know, so it does no harm there.
void mark_begin(void);
void mark_end(void);
// A point at which the engine notes tables, resident pages and faults of this process.
void mark_point(void);

// ---- Data

static inline u64 datum(u64 place, u64 round) {
    return datum_of(options.seed, place, round);
}

// ---- The result line, built up and written in one system call

void put_text(const char* text);
void put_shown(const char* text);  // what a user gave: cut short and printable, so one line stays
void put_decimal(u64 value);
void put_number(const char* name, u64 value);  // " name=value"
void put_hex(const char* name, u64 value);
void finish(void);  // writes "<workload>: ok rank=R of=N ...\n"

// ---- Failures: one line on standard error, exit code 1; ranks that wait at a barrier end too

void start_failure(void);  // "<workload>: FAIL rank=R: "; put_... may follow
__attribute__((noreturn)) void end_failure(void);
__attribute__((noreturn)) void fail(const char* what);
__attribute__((noreturn)) void fail_call(const char* call, long result);  // a negative errno
__attribute__((noreturn)) void mismatch(const char* what, u64 place, u64 got, u64 want);
// Fails unless `got` is what it should be.
void expect(const char* what, u64 place, u64 got, u64 want);
// For bad_argument: an error line of another kind, and the end of it.
void start_bad_argument(const char* name);
__attribute__((noreturn)) void end_bad_argument(void);

// The work itself; each workload defines it. Returns when the result line is complete; the ranks
// end together.
void run(void);
