// calls: makes the memory calls that --calls lists, and marks a point after each.
//
// For comparing kernels: what each call does to page tables, resident pages and faults is read at
// the marks. Without --calls, the region is mapped and its first page written. A call is a letter
// and numbers with dots between them; commas stand between calls. Pages count from --addr, pages of
// the file from its start.
//
//   m page.count.prot.kind.file_page   mmap, fixed; kind 0 the file shared, 1 the file private,
//                                      2 anonymous, 3 anonymous shared; 4 more: MAP_POPULATE
//   n count.kind                       mmap where the kernel likes; writes first and last page
//   u page.count                       munmap
//   p page.count.prot                  mprotect
//   x page.old.new.to                  mremap to a fixed place
//   g page.old.new                     mremap in place
//   d page.count.advice                madvise
//   r page.count.step                  reads a word of each step-th page
//   w page.count.step                  writes one
//   i page.count.how                   one instruction reads and writes a word of each page;
//                                      how: modify()
//   t count                            ftruncate of the file to so many pages
//   b count                            the heap is so many pages long; writes the last of them
//   s depth                            writes so many pages below the stack pointer
//   a page.count                       no fault-around from now on
//   f ... e                            a child makes the calls up to its e, then the parent goes on
#include "runtime/runtime.h"

WORKLOAD("calls", "makes a list of memory calls, for comparing kernels", 1, "rounds");
#define OWN(ARGUMENT)                             \
    ARGUMENT(TEXT, calls, "--calls", "", 0, 0, 0, \
             "memory calls to be made: see se_workloads/calls.c")
ARGUMENTS(OWN);

#define MOST_NUMBERS 5
#define MAP_POPULATE 0x8000
#define MREMAP_FIXED 2

static u64 numbers[MOST_NUMBERS];
static u64 count_of_numbers;
static u64 checksum, made, refused;
static u64 heap;

// What instruction modifies a word.
enum How { INCREMENT, ADD_LOCKED, EXCHANGE, COMPARE_IN_VAIN, MOVE, STORE, ACROSS, HOWS };

__attribute__((noreturn)) static void bad_calls(const char* at) {
    start_bad_argument("--calls");
    put_shown(at);
    put_text(": not a call; see se_workloads/calls.c");
    end_bad_argument();
}

// Reads the numbers behind a call's letter; returns what follows them.
static const char* read_numbers(const char* at) {
    const char* const start = at - 1;
    count_of_numbers = 0;
    for (u64 i = 0; i < MOST_NUMBERS; ++i) numbers[i] = 0;
    while (*at >= '0' && *at <= '9') {
        if (count_of_numbers == MOST_NUMBERS) bad_calls(start);
        u64 n = 0;
        for (; *at >= '0' && *at <= '9'; ++at) {
            if (n > 1UL << 50) bad_calls(start);
            n = n * 10 + (u64)(*at - '0');
        }
        numbers[count_of_numbers++] = n;
        if (*at == '.') ++at;
    }
    if (*at && *at != ',') bad_calls(start);
    return *at ? at + 1 : at;
}

static u64 numbers_of(char call) {
    static const char letters[] = "mnupxgdrwtbsafei";
    static const u64 wanted[] = {5, 2, 2, 3, 4, 3, 3, 3, 3, 1, 1, 1, 2, 0, 0, 3};
    for (u64 i = 0; letters[i]; ++i) {
        if (letters[i] == call) return wanted[i];
    }
    return ~0UL;
}

// All of it, before anything is done.
static void check_calls(void) {
    u64 depth = 0;
    for (const char* at = calls; *at;) {
        const char* const start = at;
        at = read_numbers(at + 1);
        if (count_of_numbers != numbers_of(*start)) bad_calls(start);
        if ((*start == 'r' || *start == 'w') && numbers[2] == 0) bad_calls(start);
        if (*start == 'i' && numbers[2] >= HOWS) bad_calls(start);
        depth += *start == 'f';
        if (*start == 'e' && depth-- == 0) bad_calls(start);
    }
    if (depth) bad_calls("f without an e");
}

static void note(long result) {
    ++made;
    if (result >= 0) return;
    ++refused;
    checksum = mix(checksum ^ made ^ (u64)-result << 32);
}

static u64 at_page(u64 page) {
    return options.addr + page * PAGE_SIZE;
}

static long map(u64 addr, u64 length, int prot, u64 kind, u64 offset, int fixed) {
    static const int flags[] = {MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS,
                                MAP_SHARED | MAP_ANONYMOUS};
    const int anonymous = (kind & 2) != 0;
    return sys_mmap(addr, length, prot,
                    flags[kind & 3] | fixed | (kind & 4 ? MAP_POPULATE : 0) |
                        (options.share && (kind & 3) == 0 ? MAP_SHARED_PT : 0),
                    anonymous ? -1 : region_fd, anonymous ? 0 : offset);
}

static void touch_reads(void) {
    for (u64 i = 0; i < numbers[1]; i += numbers[2]) {
        checksum = mix(checksum ^ *word_at((numbers[0] + i) * PAGE_SIZE));
    }
}

static void touch_writes(void) {
    for (u64 i = 0; i < numbers[1]; i += numbers[2]) {
        *word_at((numbers[0] + i) * PAGE_SIZE) = datum(numbers[0] + i, made);
    }
}

// One instruction that reads and writes the word at `at`; ACROSS: the last bytes of its page and
// the first ones of the next. MOVE reads the word before the one that it writes, STORE reads
// nothing.
static void modify(volatile u64* at, u64 how) {
    u64 value = made, count = sizeof *at;
    volatile u64* to = at + 1;
    switch (how) {
        case INCREMENT:
            __asm__ volatile("incb %0" : "+m"(*(volatile char*)at));
            break;
        case ADD_LOCKED:
            __asm__ volatile("lock xaddq %0, %1" : "+r"(value), "+m"(*at));
            break;
        case EXCHANGE:
            __asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(*at));
            break;
        case COMPARE_IN_VAIN:  // no word of a workload is all ones
            value = ~0UL;
            __asm__ volatile("lock cmpxchgq %2, %1" : "+a"(value), "+m"(*at) : "r"(made));
            break;
        case MOVE:
            __asm__ volatile("rep movsb" : "+S"(at), "+D"(to), "+c"(count) : : "memory");
            break;
        case STORE:
            __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
            break;
        default:
            at = (volatile u64*)((u64)at + PAGE_SIZE - sizeof *at / 2);
            __asm__ volatile("incq %0" : "+m"(*at));
            break;
    }
}

static void modify_pages(void) {
    for (u64 i = 0; i < numbers[1]; ++i) {
        modify((volatile u64*)at_page(numbers[0] + i), numbers[2]);
    }
}

static void map_anywhere(void) {
    const u64 length = numbers[0] * PAGE_SIZE;
    const long at = map(0, length, PROT_READ | PROT_WRITE, numbers[1], 0, 0);
    note(at);
    if (at < 0) return;
    *(volatile u64*)at = 1;
    *(volatile u64*)((u64)at + length - PAGE_SIZE) = 1;
}

static void move_heap(void) {
    if (!heap) heap = ((u64)sys_brk(0) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    const u64 end = heap + numbers[0] * PAGE_SIZE;
    note((u64)sys_brk(end) == end ? 0 : -12);
    if (numbers[0]) *(volatile u64*)(end - PAGE_SIZE) = made;
}

__attribute__((noinline)) static void touch_stack(void) {
    volatile char* const here = __builtin_frame_address(0);
    here[-(long)(numbers[0] * PAGE_SIZE)] = 1;
}

static void make(char call) {
    const u64 first = at_page(numbers[0]), length = numbers[1] * PAGE_SIZE;
    switch (call) {
        case 'm':
            note(
                map(first, length, (int)numbers[2], numbers[3], numbers[4] * PAGE_SIZE, MAP_FIXED));
            break;
        case 'n':
            map_anywhere();
            break;
        case 'u':
            note(sys_munmap(first, length));
            break;
        case 'p':
            note(sys_mprotect(first, length, (int)numbers[2]));
            break;
        case 'x':
            note(sys_mremap_to(first, length, numbers[2] * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
                               at_page(numbers[3])));
            break;
        case 'g':
            note(sys_mremap(first, length, numbers[2] * PAGE_SIZE, 0));
            break;
        case 'd':
            note(sys_madvise(first, length, (int)numbers[2]));
            break;
        case 'r':
            touch_reads();
            break;
        case 'w':
            touch_writes();
            break;
        case 'i':
            modify_pages();
            break;
        case 't':
            note(sys_ftruncate(region_fd, numbers[0] * PAGE_SIZE));
            break;
        case 'b':
            move_heap();
            break;
        case 's':
            touch_stack();
            break;
        case 'a':
            forgo_fault_around(first, length);
            break;
        default:
            break;
    }
}

// Behind the e of the f at which `at` stands.
static const char* behind_child(const char* at) {
    u64 depth = 1;
    while (depth) {
        const char call = *at;
        at = read_numbers(at + 1);
        depth += call == 'f';
        depth -= call == 'e';
    }
    return at;
}

static void run_calls(const char* at) {
    while (*at) {
        const char call = *at;
        at = read_numbers(at + 1);
        if (call == 'e') sys_exit(0);
        if (call != 'f') {
            make(call);
            mark_point();
            continue;
        }
        const long child = sys_fork();
        if (child < 0) fail_call("fork", child);
        if (child == 0) {
            mark_point();
            continue;
        }
        int status = 0;
        const long ended = sys_wait(child, &status);
        if (ended != child) fail_call("wait4", ended);
        if (status) fail("a child failed");
        at = behind_child(at);
        mark_point();
    }
}

// Without --calls.
static void first_page(void) {
    map_region();
    *word_at(0) = datum(0, 0);
    checksum = mix(checksum ^ *word_at(0));
}

void run(void) {
    check_calls();
    setup();
    barrier();
    mark_begin();
    mark_point();
    for (u64 round = 0; round < options.work; ++round) {
        if (!*calls) first_page();
        run_calls(calls);
    }
    mark_end();
    put_number("rounds", options.work);
    put_number("made", made);
    put_number("refused", refused);
    put_hex("checksum", checksum);
}
