// Start-up, output and the region. See runtime.h.
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

static char line[1024];
static u64 line_length;

static u64 length_of(const char* text) {
    u64 n = 0;
    while (text[n]) ++n;
    return n;
}

static int same(const char* a, const char* b) {
    while (*a && *a == *b) ++a, ++b;
    return *a == *b;
}

void put_text(const char* text) {
    const u64 n = length_of(text);
    if (line_length + n > sizeof(line)) fail("the result line is too long");
    memcpy(line + line_length, text, n);
    line_length += n;
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

// Both the line under way and whatever stood before it: one write.
static void write_line(int fd) {
    put_text("\n");
    sys_write(fd, (u64)line, line_length);
}

static void begin_line(const char* verdict) {
    line_length = 0;
    put_text(workload_name);
    put_text(verdict);
    put_number("rank", options.rank);
}

void finish(void) {
    write_line(1);
}

void fail(const char* what) {
    begin_line(": FAIL");
    put_text(": ");
    put_text(what);
    write_line(2);
    tell_failure();
    sys_exit(1);
}

void fail_with(const char* what, u64 number) {
    begin_line(": FAIL");
    put_text(": ");
    put_text(what);
    put_number("value", number);
    write_line(2);
    tell_failure();
    sys_exit(1);
}

void expect(const char* what, u64 place, u64 got, u64 want) {
    if (got == want) return;
    begin_line(": FAIL");
    put_text(": ");
    put_text(what);
    put_number("at", place);
    put_hex("got", got);
    put_hex("expected", want);
    write_line(2);
    tell_failure();
    sys_exit(1);
}

// ---- Arguments

__attribute__((noreturn)) static void usage(const char* name, const char* want) {
    line_length = 0;
    put_text(workload_name);
    put_text(": ");
    put_text(name);
    put_text(": ");
    put_text(want);
    write_line(2);
    sys_exit(2);
}

static u64 number(const char* name, const char* text, u64 base, u64 least, u64 most) {
    const char* want =
        base == 16 ? "must be a hexadecimal address, 0x..." : "must be a whole number in range";
    if (base == 16) {
        if (text[0] != '0' || text[1] != 'x') usage(name, want);
        text += 2;
    }
    u64 value = 0;
    if (!*text) usage(name, want);
    for (; *text; ++text) {
        u64 digit = base;
        if (*text >= '0' && *text <= '9') digit = (u64)(*text - '0');
        if (*text >= 'a' && *text <= 'f') digit = (u64)(*text - 'a') + 10;
        if (digit >= base || value > (~0UL - digit) / base) usage(name, want);
        value = value * base + digit;
    }
    if (value < least || value > most) usage(name, want);
    return value;
}

static void parse(int argc, char** argv) {
    options = (struct Options){0, 0, 0x100000000000UL, 0, 0, 1, 1, default_work};
    const struct {
        const char* name;
        u64* value;
        u64 base, least, most;
    } known[] = {
        {"--size", &options.size, 10, PAGE_SIZE, 1UL << 46},
        {"--addr", &options.addr, 16, 0x10000, 1UL << 46},
        {"--share", &options.share, 10, 0, 1},
        {"--rank", &options.rank, 10, 0, 1UL << 20},
        {"--count", &options.count, 10, 1, 1UL << 20},
        {"--seed", &options.seed, 10, 0, ~0UL},
        {"--work", &options.work, 10, 1, 1UL << 62},
    };
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) usage(argv[i], "needs a value");
        const char* value = argv[i + 1];
        int found = same(argv[i], "--file");
        if (found) options.file = value;
        for (u64 k = 0; k < sizeof(known) / sizeof(known[0]); ++k) {
            if (!same(argv[i], known[k].name)) continue;
            *known[k].value = number(argv[i], value, known[k].base, known[k].least, known[k].most);
            found = 1;
        }
        for (const struct Extra* extra = extras; extra->name; ++extra) {
            if (!same(argv[i], extra->name)) continue;
            *extra->value = number(argv[i], value, 10, extra->least, extra->most);
            found = 1;
        }
        if (!found) {
            usage(argv[i],
                  "unknown argument; there are --file --size --addr --share --rank --count"
                  " --seed --work, and the workload's own");
        }
    }
    if (!options.file) usage("--file", "is needed: the path of the region's file");
    if (length_of(options.file) > 200) usage("--file", "must be at most 200 characters");
    if (!options.size) usage("--size", "is needed: bytes of the region");
    if (options.size % PAGE_SIZE) usage("--size", "must be a multiple of 4096");
    if (options.addr % PAGE_SIZE) usage("--addr", "must be a multiple of 0x1000");
    if (options.rank >= options.count) usage("--rank", "must be less than --count");
}

// ---- Region

void setup(void) {
    static char sync_path[256];
    const u64 n = length_of(options.file);
    memcpy(sync_path, options.file, n);
    memcpy(sync_path + n, ".sync", sizeof(".sync"));

    region_fd = (int)sys_open(options.file, O_RDWR | O_CREAT);
    if (region_fd < 0) fail(errno_name(region_fd));
    long error = sys_ftruncate(region_fd, options.size);
    if (error < 0) fail(errno_name(error));
    extern void map_barrier(const char* path);
    map_barrier(sync_path);
}

void map_region(void) {
    const int flags = MAP_SHARED | MAP_FIXED | (options.share ? MAP_SHARED_PT : 0);
    const long at =
        sys_mmap(options.addr, options.size, PROT_READ | PROT_WRITE, flags, region_fd, 0);
    if (at < 0) {
        begin_line(": FAIL");
        put_text(": mmap of the region: ");
        put_text(errno_name(at));
        write_line(2);
        sys_exit(1);
    }
}

void unmap_region(void) {
    const long error = sys_munmap(options.addr, options.size);
    if (error < 0) fail(errno_name(error));
}

// ---- Start

// The kernel starts a program with argc at the stack pointer and argv above it.
__attribute__((noreturn, used)) void start(u64* stack) {
    parse((int)stack[0], (char**)(stack + 1));
    begin_line(": ok");
    put_number("of", options.count);
    run();
    finish();
    sys_exit(0);
}

__asm__(
    ".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start\n");
