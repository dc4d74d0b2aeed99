// The core's clock, and system calls: plain, mmap, munmap, madvise, mprotect.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "measure.h"

#define AREAS ((size_t)256)  // VMAs of a batch: one call each

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

static void measure_unmap_of(size_t pages, int keep) {
    const size_t areas = 4;
    char* base = map_touched_areas(areas, pages);
    const double taken = unmap_areas(base, areas, pages);
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
        char* base = reserve(areas_bytes(AREAS, 1), CHUNK);
        const double mapping = map_areas(base, AREAS, 1, PROT_READ | PROT_WRITE);
        const double start = now();
        for (size_t i = 0; i < AREAS; ++i) {
            if (madvise(base + i * areas_bytes(1, 1), PAGE, MADV_DONTNEED) != 0) die("madvise");
        }
        const double advising = (now() - start) / (double)AREAS;
        const double unmapping = unmap_areas(base, AREAS, 1);
        if (repeat >= 0) {
            put("mmap", mapping);
            put("madvise", advising);
            put("munmap", unmapping);
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
    char* absent = reserve(areas_bytes(AREAS, 1), CHUNK);
    map_areas(absent, AREAS, 1, PROT_READ);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        const size_t pages = counts[i], areas = pages < 64 ? AREAS / 4 : 16;
        char* base = map_touched_areas(areas, pages);
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
