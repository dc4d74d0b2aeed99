// Page-table pages: made by a first touch in a chunk of 2 MiB, freed by munmap.
#include <sys/mman.h>

#include "measure.h"

#define CHUNKS ((size_t)256)

static double touch_chunks(char* at, size_t offset) {
    const double start = now();
    for (size_t i = 1; i < CHUNKS; ++i) touch_write(at + i * CHUNK + offset);
    return (now() - start) / (double)(CHUNKS - 1);
}

// madvise that finds nothing in `bytes` at the start of each chunk. Less than a chunk, or the
// kernel would free the table itself.
static double advise_chunks(char* at, size_t bytes) {
    enum { kRounds = 4 };
    const double start = now();
    for (size_t i = 0; i < kRounds * CHUNKS; ++i) {
        if (madvise(at + i % CHUNKS * CHUNK, bytes, MADV_DONTNEED) != 0) die("madvise");
    }
    return (now() - start) / (double)(kRounds * CHUNKS);
}

void measure_table(void) {
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* at = map_small(CHUNKS * CHUNK);
        touch_write(at);  // makes the upper tables
        const double fresh = touch_chunks(at, 0);
        // Far from the first: neither in its line of entries nor in a fault that maps several.
        const double second = touch_chunks(at, CHUNK / 2);
        advise_chunks(at, PAGE);
        for (size_t i = 0; i < CHUNKS; ++i) {
            if (madvise(at + i * CHUNK + CHUNK / 2, PAGE, MADV_DONTNEED) != 0) die("madvise");
        }
        const double one = advise_chunks(at, PAGE);
        const double many = advise_chunks(at, CHUNK - PAGE);
        const size_t before = page_tables();
        double start = now();
        unmap(at, CHUNKS * CHUNK);
        const double with_tables = now() - start;
        const size_t freed = before - page_tables();
        at = map_small(CHUNKS * CHUNK);
        start = now();
        unmap(at, CHUNKS * CHUNK);
        const double without = now() - start;
        if (repeat < 0) continue;
        put("touch_new_table", fresh);
        put("touch_old_table", second);
        put("table_scan", many - one);
        if (freed < CHUNKS) {
            cannot("munmap_tables", "munmap freed %zu page tables of %zu", freed, CHUNKS);
        } else {
            put("munmap_table", (with_tables - without) / (double)freed);
        }
    }
}
