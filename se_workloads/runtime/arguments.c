// The command line: every value is checked before anything is opened.
#include "runtime.h"

// End of user addresses with four levels of tables (TASK_SIZE of x86-64 Linux).
#define ADDRESS_END ((1UL << 47) - PAGE_SIZE)
#define LOWEST_ADDRESS 0x10000UL  // mmap_min_addr
#define LONGEST_PATH 200
#define MOST_RANKS (1UL << 20)

// Every workload's, for its user: the others are for who starts the ranks.
#define AROUND(ARGUMENT)                                                  \
    ARGUMENT(COMMON, options.around, "--around", AROUND_DEFAULT, 0, 1, 1, \
             "0: each page of the region takes a fault of its own, by userfaultfd")
#define AROUND_DEFAULT 1
#define DEFINE_COMMON(variable, ...) NUMBER_DETAIL("common", __VA_ARGS__);
#define ENTRY_OF_COMMON ENTRY_OF_NUMBER
AROUND(DEFINE_ARGUMENT)

static const struct Extra common[] = {
    {"--size", &options.size, PAGE_SIZE, ADDRESS_END, 0},
    {"--share", &options.share, 0, 1, 0},
    {"--rank", &options.rank, 0, MOST_RANKS - 1, 0},
    {"--count", &options.count, 1, MOST_RANKS, 0},
    {"--seed", &options.seed, 0, ~0UL, 0},
    {"--work", &options.work, 1, 1UL << 62, 0},
    AROUND(ENTRY_OF_ARGUMENT){0},
};

// The program in memory: symbols of the linker.
extern const char __executable_start[], _end[];

static int same(const char* a, const char* b) {
    while (*a && *a == *b) ++a, ++b;
    return *a == *b;
}

static void start_bad_value(const char* name, const char* value) {
    start_bad_argument(name);
    put_shown(value);
    if (*value) put_text(": ");
}

__attribute__((noreturn)) static void bad_value(const char* name, const char* value,
                                                const char* right) {
    start_bad_value(name, value);
    put_text(right);
    end_bad_argument();
}

void bad_argument(const char* name, u64 value, const char* right) {
    start_bad_argument(name);
    put_decimal(value);
    put_text(": ");
    put_text(right);
    end_bad_argument();
}

// Whether `text` is a number in `base`, without sign, space or overflow.
static int parse_number(const char* text, u64 base, u64* value) {
    u64 n = 0;
    if (!*text) return 0;
    for (; *text; ++text) {
        u64 digit = base;
        if (*text >= '0' && *text <= '9') digit = (u64)(*text - '0');
        if (*text >= 'a' && *text <= 'f') digit = (u64)(*text - 'a') + 10;
        if (*text >= 'A' && *text <= 'F') digit = (u64)(*text - 'A') + 10;
        if (digit >= base || n > (~0UL - digit) / base) return 0;
        n = n * base + digit;
    }
    *value = n;
    return 1;
}

static void parse_address(const char* value) {
    if (value[0] == '0' && value[1] == 'x' && parse_number(value + 2, 16, &options.addr) &&
        options.addr >= LOWEST_ADDRESS && options.addr < ADDRESS_END &&
        options.addr % PAGE_SIZE == 0) {
        return;
    }
    bad_value("--addr", value,
              "must be a hexadecimal address from 0x10000 to below 0x7ffffffff000, a multiple of "
              "0x1000");
}

static void parse_file(const char* value) {
    u64 n = 0;
    while (value[n]) ++n;
    if (n == 0 || n > LONGEST_PATH) {
        bad_value("--file", value, "must be a path of 1 to 200 characters");
    }
    options.file = value;
}

static const struct Extra* find(const struct Extra* list, const char* name) {
    while (list->name && !same(list->name, name)) ++list;
    return list->name ? list : NULL;
}

__attribute__((noreturn)) static void unknown(const char* name) {
    start_bad_argument(name);
    put_text("unknown argument; there are --file --addr");
    const struct Extra* const lists[] = {common, extras};
    for (int i = 0; i < 2; ++i) {
        for (const struct Extra* one = lists[i]; one->name; ++one) {
            put_text(" ");
            put_text(one->name);
        }
    }
    end_bad_argument();
}

static void parse_decimal(const struct Extra* known, const char* value) {
    if (parse_number(value, 10, known->value) && *known->value >= known->least &&
        *known->value <= known->most) {
        return;
    }
    start_bad_value(known->name, value);
    put_text("must be a whole number from ");
    put_decimal(known->least);
    put_text(" to ");
    put_decimal(known->most);
    end_bad_argument();
}

static void check_together(const char* addr) {
    if (!options.file) bad_value("--file", "", "is needed: the path of the region's file");
    if (!options.size) bad_value("--size", "", "is needed: bytes of the region");
    if (options.size % PAGE_SIZE) {
        bad_argument("--size", options.size, "must be a multiple of 4096");
    }
    if (options.size > ADDRESS_END - options.addr) {
        bad_value("--addr", addr, "must leave room for --size below 0x7ffffffff000");
    }
    if (options.apart % APART_MULTIPLE) {
        bad_argument("--apart", options.apart, "must be a multiple of " TEXT_OF(APART_MULTIPLE));
    }
    // Of all ranks, so that they refuse it together.
    const u64 room = ADDRESS_END - options.addr - options.size;
    if (options.apart && options.count - 1 > room / options.apart) {
        bad_argument("--apart", options.apart,
                     "must leave room for --count regions below 0x7ffffffff000");
    }
    const u64 end = options.addr + (options.count - 1) * options.apart + options.size;
    if (options.addr < (u64)_end && end > (u64)__executable_start) {
        bad_value("--addr", addr, "must keep the region off the program's own memory");
    }
    if (options.rank >= options.count) {
        bad_argument("--rank", options.rank, "must be less than --count");
    }
}

void parse_arguments(int argc, char** argv) {
    options = (struct Options){0, 0, 0x100000000000UL, 0, 0, 1, 1, default_work, AROUND_DEFAULT, 0};
    const char* addr = "0x100000000000";
    for (int i = 1; i < argc; i += 2) {
        const char* const name = argv[i];
        const int is_file = same(name, "--file"), is_addr = same(name, "--addr");
        const struct Extra* known = find(common, name);
        if (!known) known = find(extras, name);
        if (!known && !is_file && !is_addr) unknown(name);
        if (i + 1 == argc) bad_value(name, "", "needs a value");
        const char* const value = argv[i + 1];
        if (is_file) parse_file(value);
        if (is_addr) parse_address(addr = value);
        if (known && known->text) *known->text = value;
        if (known && !known->text) parse_decimal(known, value);
    }
    check_together(addr);
    options.addr += options.rank * options.apart;
}
