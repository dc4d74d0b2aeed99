// Page-table pages: made by a first touch in a chunk of 2 MiB, freed by munmap.
#include <sys/mman.h>

#include "measure.h"

#define CHUNKS ((size_t)128)

static double touch_chunks(char* at, size_t offset) {
    const double start = now();
    for (size_t i = 1; i < CHUNKS; ++i) touch_write(at + i * CHUNK + offset);
    return (now() - start) / (double)(CHUNKS - 1);
}

static void advise(char* at, size_t bytes) {
    if (madvise(at, bytes, MADV_DONTNEED) != 0) die("madvise");
}

// What madvise takes for an empty table beyond a call for one page of it. It asks for one page less
// than the table maps, or the kernel would free the table.
static double scan_tables(char* at) {
    enum { kRounds = 4 };
    double one = 0, many = 0;
    for (int round = 0; round < kRounds; ++round) {
        const double start = now();
        for (size_t i = 0; i < CHUNKS; ++i) advise(at + i * CHUNK, PAGE);
        const double between = now();
        for (size_t i = 0; i < CHUNKS; ++i) advise(at + i * CHUNK, CHUNK - PAGE);
        many += now() - between;
        one += between - start;
    }
    return (many - one) / (double)(kRounds * CHUNKS);
}

void measure_table(void) {
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* at = map_small(CHUNKS * CHUNK);
        touch_write(at);  // makes the upper tables
        const double fresh = touch_chunks(at, 0);
        // Far from the first: neither in its line of entries nor in a fault that maps several.
        const double second = touch_chunks(at, CHUNK / 2);
        for (size_t i = 0; i < CHUNKS; ++i) {
            advise(at + i * CHUNK, PAGE);
            advise(at + i * CHUNK + CHUNK / 2, PAGE);
        }
        const double scan = scan_tables(at);
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
        put("table_scan", scan);
        if (freed < CHUNKS) {
            cannot("munmap_tables", "munmap freed %zu page tables of %zu", freed, CHUNKS);
        } else {
            put("munmap_table", (with_tables - without) / (double)freed);
        }
    }
}
