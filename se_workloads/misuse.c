// misuse: makes every wrong call and prints what each answers.
//
// Rank 0 calls, the others wait. The answers depend on the kernel, and are reported, not judged: on
// Linux the flag is unknown and ignored. A kernel may keep a range that was shared until its owner
// ends (mshare): a call that is right somewhere has pages of the file to itself.
#include "runtime/runtime.h"

WORKLOAD("misuse", "makes every wrong call and prints each errno", 1, "round");
const struct Extra extras[] = {{0}};
OUTPUT_DEPENDS_ON_POLICY;

#define READ_WRITE (PROT_READ | PROT_WRITE)

static void report(const char* name, long result) {
    put_text(" ");
    put_text(name);
    put_text("=");
    put_text(errno_name(result));
}

// Maps the region anew, whatever the calls before left of it.
static void renew_region(void) {
    unmap_region();
    map_region();
}

// Maps, reports, and unmaps what was mapped.
static void try_map(const char* name, u64 addr, u64 length, int prot, int flags, int fd,
                    u64 offset) {
    const long at = sys_mmap(addr, length, prot, flags | MAP_SHARED_PT, fd, offset);
    report(name, at);
    if (at >= 0) sys_munmap((u64)at, length);
}

void run(void) {
    if (options.size < 2 * PMD_SIZE || options.size % PMD_SIZE) {
        bad_argument("--size", options.size, "must be a multiple of 2097152, at least 4194304");
    }
    setup();
    barrier();
    mark_begin();
    if (options.rank == 0) {
        const u64 base = options.addr;
        const u64 apart = base + options.size + (1UL << 30);
        const int fixed = MAP_SHARED | MAP_FIXED;
        const int fd = region_fd;
        const int read_only = (int)sys_open(options.file, O_RDONLY);
        if (read_only < 0) fail_call(options.file, read_only);

        try_map("unaligned", base + PAGE_SIZE, PMD_SIZE, READ_WRITE, fixed, fd, 0);
        try_map("private", base, PMD_SIZE, READ_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
        try_map("anonymous", base, PMD_SIZE, READ_WRITE, fixed | MAP_ANONYMOUS, -1, 0);
        try_map("no_length", base, 0, READ_WRITE, fixed, fd, 0);
        try_map("odd_offset", base, PMD_SIZE, READ_WRITE, fixed, fd, 1);
        try_map("bad_fd", base, PMD_SIZE, READ_WRITE, fixed, 99, 0);
        try_map("read_only_file", base, PMD_SIZE, READ_WRITE, fixed, read_only, 0);

        // With a first mapping of the whole file in place.
        map_region();
        *word_at(0) = 1;
        try_map("other_address", apart, options.size, READ_WRITE, fixed, fd, 0);
        try_map("other_length", base, PMD_SIZE, READ_WRITE, fixed, fd, 0);
        try_map("less_protection", base, options.size, PROT_READ, fixed, fd, 0);
        renew_region();
        report("unmap_part", sys_munmap(base, PMD_SIZE));
        report("unmap_odd", sys_munmap(base + 1, PMD_SIZE));
        report("remap", sys_mremap(base, options.size, 2 * options.size, MREMAP_MAYMOVE));
        renew_region();
        report("map_over_part", sys_mmap(base + PMD_SIZE, PMD_SIZE, PROT_READ,
                                         MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        report("protect_odd", sys_mprotect(base + 1, PAGE_SIZE, PROT_READ));
        report("protect_hole", sys_mprotect(base + options.size, PAGE_SIZE, PROT_READ));
        report("unmap_all", sys_munmap(base, options.size));

        // Protection beyond what the first mapping of the range was made with.
        const u64 later = 4 * options.size;
        const long weak =
            sys_mmap(base, PMD_SIZE, PROT_READ, fixed | MAP_SHARED_PT, read_only, later);
        report("map_read_only", weak);
        report("protect_beyond_file", sys_mprotect(base, PMD_SIZE, READ_WRITE));
        if (weak >= 0) sys_munmap(base, PMD_SIZE);

        // Behind the end of the file: a system call that reads there gets EFAULT.
        const long beyond =
            sys_mmap(base, 2 * PMD_SIZE, READ_WRITE, fixed | MAP_SHARED_PT, fd, options.size);
        report("map_past_end", beyond);
        if (beyond >= 0) {
            report("read_past_end", sys_read(fd, base, 8));
            sys_munmap(base, 2 * PMD_SIZE);
        }
        try_map("odd_size", base, PMD_SIZE + PAGE_SIZE, READ_WRITE, fixed, fd, 3 * options.size);
        sys_close(read_only);
    }
    barrier();
    mark_end();
}
