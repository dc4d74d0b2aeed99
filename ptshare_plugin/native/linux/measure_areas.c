// Areas: private anonymous VMAs with holes between them, so that the kernel neither merges nor
// splits any.
#include <sys/mman.h>

#include "measure.h"

size_t areas_bytes(size_t areas, size_t pages) {
    return areas * (pages + 1) * PAGE;
}

double map_areas(char* base, size_t areas, size_t pages, int prot) {
    const double start = now();
    for (size_t i = 0; i < areas; ++i) {
        map_at(base + areas_bytes(i, pages), pages * PAGE, prot,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    }
    return (now() - start) / (double)areas;
}

char* map_touched_areas(size_t areas, size_t pages) {
    char* base = reserve(areas_bytes(areas, pages), CHUNK);
    map_areas(base, areas, pages, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < areas; ++i) {
        char* area = base + areas_bytes(i, pages);
        (void)madvise(area, pages * PAGE, MADV_NOHUGEPAGE);  // no huge pages in the kernel: fine
        for (size_t page = 0; page < pages; ++page) touch_write(area + page * PAGE);
    }
    return base;
}

double protect_areas(char* base, size_t areas, size_t pages, int prot) {
    const double start = now();
    for (size_t i = 0; i < areas; ++i) protect(base + areas_bytes(i, pages), pages * PAGE, prot);
    return (now() - start) / (double)areas;
}

double unmap_areas(char* base, size_t areas, size_t pages) {
    const double start = now();
    for (size_t i = 0; i < areas; ++i) unmap(base + areas_bytes(i, pages), pages * PAGE);
    return (now() - start) / (double)areas;
}
