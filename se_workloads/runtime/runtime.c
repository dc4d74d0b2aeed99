// Start-up, output and the region. See runtime.h, and arguments.c.
#include "runtime.h"

struct Options options;
int region_fd = -1;

// ---- Memory functions that compilers may call

void* memset(void* to, int value, size_t n) {
    unsigned char* bytes = to;
    for (size_t i = 0; i < n; ++i) bytes[i] = (unsigned char)value;
    return to;
}

void* memcpy(void* to, const void* from, size_t n) {
    unsigned char* out = to;
    const unsigned char* in = from;
    for (size_t i = 0; i < n; ++i) out[i] = in[i];
    return to;
}

// ---- Text

// Linux writes a pipe atomically up to PIPE_BUF, 4096 bytes: lines of many ranks stay whole.
static char line[1024];
static u64 line_length;
#define LINE_ROOM (sizeof(line) - 1)  // the newline always fits

static u64 length_of(const char* text) {
    u64 n = 0;
    while (text[n]) ++n;
    return n;
}

void put_text(const char* text) {
    for (; *text && line_length < LINE_ROOM; ++text) line[line_length++] = *text;
}

void put_shown(const char* text) {
    enum { SHOWN = 210 };  // the longest path, and more
    for (int n = 0; text[n] && n < SHOWN; ++n) {
        const char shown[] = {text[n], 0};
        put_text(*shown < ' ' || *shown > '~' ? "?" : shown);
    }
}

static void put_base(u64 value, u64 base) {
    char digits[24];
    u64 at = sizeof(digits) - 1;
    digits[at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_text(digits + at);
}

void put_decimal(u64 value) {
    put_base(value, 10);
}

void put_number(const char* name, u64 value) {
    put_text(" ");
    put_text(name);
    put_text("=");
    put_base(value, 10);
}

void put_hex(const char* name, u64 value) {
    put_text(" ");
    put_text(name);
    put_text("=0x");
    put_base(value, 16);
}

// What write returned.
static long write_line(int fd) {
    line[line_length++] = '\n';
    return sys_write(fd, (u64)line, line_length);
}

static void begin_line(const char* verdict) {
    line_length = 0;
    put_text(workload_name);
    put_text(verdict);
}

void finish(void) {
    if (line_length == LINE_ROOM) fail("the result line is too long");
    const long written = write_line(1);
    if (written < 0) fail_call("write of the result line", written);
    if ((u64)written != line_length) fail("the result line was written in part");
}

void start_failure(void) {
    begin_line(": FAIL");
    put_number("rank", options.rank);
    put_text(": ");
}

void end_failure(void) {
    write_line(2);
    tell_failure();
    sys_exit(1);
}

void fail(const char* what) {
    start_failure();
    put_text(what);
    end_failure();
}

void fail_call(const char* call, long result) {
    start_failure();
    put_shown(call);
    put_text(": ");
    put_text(errno_name(result));
    end_failure();
}

void mismatch(const char* what, u64 place, u64 got, u64 want) {
    start_failure();
    put_text(what);
    put_number("at", place);
    put_hex("got", got);
    put_hex("expected", want);
    if (want == 0) put_text(" (the region's file must be new)");
    end_failure();
}

void expect(const char* what, u64 place, u64 got, u64 want) {
    if (got != want) mismatch(what, place, got, want);
}

void start_bad_argument(const char* name) {
    begin_line(": ");
    put_shown(name);
    put_text(": ");
}

void end_bad_argument(void) {
    write_line(2);
    sys_exit(2);
}

// ---- Region

void setup(void) {
    static char sync_path[256];
    const u64 n = length_of(options.file);
    memcpy(sync_path, options.file, n);
    memcpy(sync_path + n, ".sync", sizeof(".sync"));

    map_barrier(sync_path);  // first, so that a failure is told to the others
    const long fd = sys_open(options.file, O_RDWR | O_CREAT);
    if (fd < 0) fail_call(options.file, fd);
    region_fd = (int)fd;
    const long error = sys_ftruncate(region_fd, options.size);
    if (error < 0) fail_call("ftruncate of the region's file", error);
}

void map_region(void) {
    const int flags = MAP_SHARED | MAP_FIXED, asked = options.share ? MAP_SHARED_PT : 0;
    const int prot = PROT_READ | PROT_WRITE;
    long at = sys_mmap(options.addr, options.size, prot, flags | asked, region_fd, 0);
    if (at == -EINVAL && asked && options.apart) {
        at = sys_mmap(options.addr, options.size, prot, flags, region_fd, 0);
    }
    if (at < 0) {
        fail_call(options.share ? "mmap of the region with MAP_SHARED_PT" : "mmap of the region",
                  at);
    }
    if ((u64)at != options.addr) {
        mismatch("mmap with MAP_FIXED: address", 0, (u64)at, options.addr);
    }
    if (!options.around) forgo_fault_around(options.addr, options.size);
}

void unmap_region(void) {
    const long error = sys_munmap(options.addr, options.size);
    if (error < 0) fail_call("munmap of the region", error);
}

// ---- Start

// Where a compiler puts code shall not be measured: all of it is mapped before anything is.
static void touch_code(void) {
    extern const char __executable_start[], etext[];
    for (const volatile char* at = __executable_start; at < etext; at += PAGE_SIZE) (void)*at;
}

// The kernel starts a program with argc at the stack pointer and argv above it.
__attribute__((noreturn, used)) void start(u64* stack) {
    touch_code();
    parse_arguments((int)stack[0], (char**)(stack + 1));
    begin_line(": ok");
    put_number("rank", options.rank);
    put_number("of", options.count);
    run();
    // Where the end of a region's owner ends the region, others must not be at work on it still.
    barrier();
    finish();
    sys_exit(0);
}

__asm__(
    ".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start\n");
