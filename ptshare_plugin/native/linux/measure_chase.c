// Pointer chases: loads each of which needs the one before, in one random cycle over a region.
//
//   translation   one line of each 4 KiB, another in each page so that all cache sets are used; the
//                 same lines once on 4 KiB and once on 2 MiB pages: the difference is translation
//   cache         every line, on 2 MiB pages: what caches and memory take
#include <stdlib.h>
#include <sys/mman.h>

#include "measure.h"

#define LINE ((size_t)64)
#define LOADS ((size_t)200000)  // of a repeat

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t limit) {  // xorshift64*
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * 2685821657736338717u >> 32) % limit;
}

static size_t line_of_page(size_t page) {
    return page * 0x9E3779B97F4A7C15u >> 58;  // 0 to 63
}

static char* node(char* base, size_t index, int dense) {
    if (dense) return base + index * LINE;
    return base + index * PAGE + line_of_page(index) * LINE;
}

// One cycle through all nodes (Sattolo's shuffle).
static void link_nodes(char* base, size_t nodes, int dense) {
    uint32_t* order = malloc(nodes * sizeof *order);
    if (!order) die("malloc");
    for (size_t i = 0; i < nodes; ++i) order[i] = (uint32_t)i;
    for (size_t i = nodes - 1; i > 0; --i) {
        const size_t other = random_below(i);
        const uint32_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < nodes; ++i) {
        *(char**)(void*)node(base, order[i], dense) = node(base, order[(i + 1) % nodes], dense);
    }
    free(order);
}

static char* volatile kept;

static char* chase(char* at, size_t loads) {
    for (size_t i = 0; i < loads; ++i) at = *(char**)(void*)at;
    return at;
}

static void measure_region(const char* name, char* base, size_t bytes, int dense) {
    const size_t nodes = bytes / (dense ? LINE : PAGE);
    link_nodes(base, nodes, dense);
    char* at = chase(node(base, 0, dense), nodes < 4 * LOADS ? nodes : 4 * LOADS);
    for (int repeat = 0; repeat < options.repeats; ++repeat) {
        const double start = now();
        at = chase(at, LOADS);
        put_of(name, bytes / 1024, (now() - start) / (double)LOADS);
    }
    kept = at;
}

static char* map_touched(size_t bytes, int advice) {
    char* at = map_at(reserve(bytes, GIB), bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    (void)madvise(at, bytes, advice);
    for (size_t page = 0; page < bytes; page += PAGE) touch_write(at + page);
    return at;
}

static char* map_huge(const char* name, size_t bytes) {
    char* at = map_touched(bytes, MADV_HUGEPAGE);
    if (huge_bytes(at) >= bytes) return at;
    cannot(name, "%zu MiB of %zu MiB came in 2 MiB pages", huge_bytes(at) >> 20, bytes >> 20);
    unmap(at, bytes);
    return NULL;
}

void measure_translation(void) {
    char* small = map_touched(options.bytes, MADV_NOHUGEPAGE);
    for (size_t bytes = 64 << 10; bytes <= options.bytes; bytes *= 2) {
        measure_region("chase_4k", small, bytes, 0);
    }
    unmap(small, options.bytes);
    char* huge = map_huge("chase_2m", options.bytes);
    if (!huge) return;
    for (size_t bytes = 64 << 10; bytes <= options.bytes; bytes *= 2) {
        measure_region("chase_2m", huge, bytes, 0);
    }
    unmap(huge, options.bytes);
}

void measure_cache(void) {
    char* huge = map_huge("cache", options.bytes);
    if (!huge) return;
    for (size_t bytes = PAGE; bytes <= options.bytes; bytes *= 2) {
        measure_region("cache", huge, bytes, 1);
    }
    unmap(huge, options.bytes);
}
