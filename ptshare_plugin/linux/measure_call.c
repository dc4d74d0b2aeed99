// The core's clock, and system calls: plain, mmap, munmap, madvise, mprotect.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "measure.h"

#define AREAS 256  // VMAs of a batch: one call each

// A chain of additions, each of which needs the one before: one cycle each on every x86-64 core.
// Of two registers: some cores fold additions of constants.
void measure_clock(void) {
    enum { kRounds = 20000, kAdds = 100 };
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        uint64_t sum = 1, step = 3;
        const double start = now();
        for (int round = 0; round < kRounds; ++round) {
            __asm__ volatile(".rept 100\n\tadd %1, %0\n\t.endr" : "+r"(sum) : "r"(step));
        }
        const double taken = now() - start;
        if (repeat >= 0) put("add", taken / ((double)kRounds * kAdds));
    }
}

void measure_syscall(void) {
    enum { kCalls = 10000 };
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        const double start = now();
        for (int call = 0; call < kCalls; ++call) (void)syscall(SYS_getppid);
        const double taken = now() - start;
        if (repeat >= 0) put("syscall", taken / kCalls);
    }
}

// ---- VMAs of `pages` pages with holes between them, so that the kernel neither merges nor splits.

static size_t stride(size_t pages) {
    return (pages + 1) * PAGE;
}

static void map_areas(char* base, size_t areas, size_t pages, int prot) {
    for (size_t i = 0; i < areas; ++i) {
        map_at(base + i * stride(pages), pages * PAGE, prot,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    }
}

static void unmap_areas(char* base, size_t areas, size_t pages) {
    for (size_t i = 0; i < areas; ++i) unmap(base + i * stride(pages), pages * PAGE);
}

static void touch_areas(char* base, size_t areas, size_t pages) {
    for (size_t i = 0; i < areas; ++i) {
        for (size_t page = 0; page < pages; ++page) {
            touch_write(base + i * stride(pages) + page * PAGE);
        }
    }
}

// Time of one mprotect.
static double protect_areas(char* base, size_t areas, size_t pages, int prot) {
    const double start = now();
    for (size_t i = 0; i < areas; ++i) protect(base + i * stride(pages), pages * PAGE, prot);
    return (now() - start) / (double)areas;
}

static void measure_unmap_of(size_t pages, int keep) {
    const size_t areas = 4;
    char* base = reserve(areas * stride(pages), CHUNK);
    map_areas(base, areas, pages, PROT_READ | PROT_WRITE);
    (void)madvise(base, areas * stride(pages), MADV_NOHUGEPAGE);
    touch_areas(base, areas, pages);
    const double start = now();
    unmap_areas(base, areas, pages);
    const double taken = (now() - start) / (double)areas;
    if (keep) put_of("munmap_anon", pages, taken);
}

static void measure_unmap_of_file(int file, size_t pages, int keep) {
    char* at = map_file(pages * PAGE, PROT_READ, MAP_SHARED, file);
    for (size_t page = 0; page < pages; ++page) touch_read(at + page * PAGE);
    const double start = now();
    unmap(at, pages * PAGE);
    const double taken = now() - start;
    if (keep) put_of("munmap_file", pages, taken);
}

void measure_map(void) {
    const int file = memory_file(CHUNK);
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* base = reserve(AREAS * stride(1), CHUNK);
        const double start = now();
        map_areas(base, AREAS, 1, PROT_READ | PROT_WRITE);
        const double mapped = now();
        for (size_t i = 0; i < AREAS; ++i) {
            if (madvise(base + i * stride(1), PAGE, MADV_DONTNEED) != 0) die("madvise");
        }
        const double advised = now();
        unmap_areas(base, AREAS, 1);
        const double unmapped = now();
        if (repeat >= 0) {
            put("mmap", (mapped - start) / AREAS);
            put("madvise", (advised - mapped) / AREAS);
            put("munmap", (unmapped - advised) / AREAS);
        }
        for (size_t pages = 64; pages <= 512; pages *= 2) {
            measure_unmap_of(pages, repeat >= 0);
            measure_unmap_of_file(file, pages, repeat >= 0);
        }
    }
    close(file);
}

// PROT_READ to PROT_NONE makes present entries absent, so the kernel flushes; PROT_NONE to
// PROT_READ changes as many entries, and as none of them was present, it does not
// (pte_needs_flush).
void measure_protect(void) {
    static const size_t counts[] = {1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 33, 34, 64, 128, 256, 512};
    char* absent = reserve(AREAS * stride(1), CHUNK);
    map_areas(absent, AREAS, 1, PROT_READ);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        const size_t pages = counts[i], areas = pages < 64 ? AREAS / 4 : 16;
        const size_t bytes = areas * stride(pages);
        char* base = reserve(bytes, CHUNK);
        map_areas(base, areas, pages, PROT_READ | PROT_WRITE);
        (void)madvise(base, bytes, MADV_NOHUGEPAGE);
        touch_areas(base, areas, pages);
        protect_areas(base, areas, pages, PROT_READ);
        for (int repeat = -1; repeat < options.repeats; ++repeat) {
            const double drop = protect_areas(base, areas, pages, PROT_NONE);
            const double grant = protect_areas(base, areas, pages, PROT_READ);
            if (repeat < 0) continue;
            put_of("mprotect_drop", pages, drop);
            put_of("mprotect_grant", pages, grant);
        }
        unmap_areas(base, areas, pages);
    }
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        const double drop = protect_areas(absent, AREAS, 1, PROT_NONE);
        const double grant = protect_areas(absent, AREAS, 1, PROT_READ);
        if (repeat >= 0) put("mprotect_absent", (drop + grant) / 2);
    }
    unmap_areas(absent, AREAS, 1);
}
