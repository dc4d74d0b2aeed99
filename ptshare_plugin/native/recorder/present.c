// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel's page tables hold for the program's own areas, from /proc/self/pagemap.
#include <pub_tool_aspacemgr.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_libcfile.h>
#include <pub_tool_mallocfree.h>
#include <pub_tool_vki.h>
#include <pub_tool_vkiscnums.h>

#include "tool.h"

#define PAGE 4096UL
#define ENTRIES 4096
#define PRESENT (3ULL << 62)    // or swapped
#define FILE_PAGE (1ULL << 61)  // or shared anonymous
#define EXCLUSIVE (1ULL << 56)
#define RUNS 1000  // of one item

typedef struct {
    UWord start, bytes;
    UInt count;
    UWord run[2 * RUNS];
} Area;

static Area area;
static ULong entries[ENTRIES];
static UWord own_pages;
// When the program's first instruction came: faults of the process, pages of Valgrind's own.
static ULong faults_before;
static UWord own_before;

static void tell(void) {
    UWord* words = ptshare_item(PTSHARE_PRESENT, 0, 2 + 2 * area.count);
    words[0] = area.start;
    words[1] = area.bytes;
    VG_(memcpy)(words + 2, area.run, 2 * area.count * sizeof(UWord));
    area.count = 0;
}

static void add_page(Addr page) {
    UWord* last = area.run + 2 * area.count - 2;
    if (area.count > 0 && last[0] + last[1] * PAGE == page) {
        ++last[1];
        return;
    }
    if (area.count == RUNS) tell();
    area.run[2 * area.count] = page;
    area.run[2 * area.count + 1] = 1;
    ++area.count;
}

// What is done with a page of an area, and the kernel's entry for it.
typedef void (*Look)(Addr page, ULong entry);

static void look_at_pages(Int pagemap, Addr start, Addr end, Look look) {
    for (Addr page = start; page < end;) {
        const UWord left = (end - page) / PAGE;
        const UWord wanted = left < ENTRIES ? left : ENTRIES;
        const Word got = ptshare_call(__NR_pread64, (UWord)pagemap, (UWord)entries, wanted * 8,
                                      page / PAGE * 8, 0, 0);
        if (got < 8) return;
        for (Word i = 0; i < got / 8; ++i, page += PAGE) look(page, entries[i]);
    }
}

static void look_at_areas(Int pagemap, UInt kinds, void (*area_of)(Int, Addr, Addr)) {
    Addr one;
    // Answers minus their number where there is no room for them; the allocation may add some.
    Int count = VG_(am_get_segment_starts)(kinds, &one, 1);
    const Int room = (count < 0 ? -count : count) + 16;
    Addr* starts = VG_(malloc)("ptshare.areas", (SizeT)room * sizeof(Addr));
    count = VG_(am_get_segment_starts)(kinds, starts, room);
    for (Int i = 0; i < count; ++i) {
        const NSegment* segment = VG_(am_find_nsegment)(starts[i]);
        if (segment != NULL) area_of(pagemap, segment->start, segment->end + 1);
    }
    VG_(free)(starts);
}

static void note_page(Addr page, ULong entry) {
    if ((entry & PRESENT) != 0) add_page(page);
}

static void tell_area(Int pagemap, Addr start, Addr end) {
    if (ptshare_own(start)) return;
    area.start = start;
    area.bytes = end - start;
    area.count = 0;
    look_at_pages(pagemap, start, end, note_page);
    tell();
}

// Anonymous and mapped by no other process: each took a fault of its own, unless it is one that a
// fork's other side has copied.
static void count_page(Addr page, ULong entry) {
    (void)page;
    if ((entry & PRESENT) != 0 && (entry & FILE_PAGE) == 0 && (entry & EXCLUSIVE) != 0) ++own_pages;
}

static void count_area(Int pagemap, Addr start, Addr end) {
    look_at_pages(pagemap, start, end, count_page);
}

// Field `wanted` of /proc/self/stat, the first being 1.
static ULong field(const HChar* text, UInt wanted) {
    const HChar* at = VG_(strrchr)(text, ')');  // a name may hold blanks
    if (at == NULL) return 0;
    for (UInt number = 2; number < wanted && *at != '\0'; ++at) {
        if (*at == ' ') ++number;
    }
    return VG_(strtoull10)(at, NULL);
}

static UWord count_own_pages(Int pagemap) {
    own_pages = 0;
    look_at_areas(pagemap, SkAnonV | SkFileV, count_area);
    return own_pages;
}

static void read_faults(ULong* minor, ULong* major) {
    HChar text[1024];
    *minor = *major = 0;
    const Int file = VG_(fd_open)("/proc/self/stat", VKI_O_RDONLY, 0);
    if (file < 0) return;
    const Int got = VG_(read)(file, text, sizeof text - 1);
    VG_(close)(file);
    text[got < 0 ? 0 : got] = '\0';
    *minor = field(text, 10);
    *major = field(text, 12);
}

void ptshare_program_starts(Bool forked) {
    ULong major;
    faults_before = own_before = 0;
    if (forked) return;
    read_faults(&faults_before, &major);
    const Int pagemap = VG_(fd_open)("/proc/self/pagemap", VKI_O_RDONLY, 0);
    if (pagemap < 0) return;
    own_before = count_own_pages(pagemap);
    VG_(close)(pagemap);
}

static void tell_faults(Int pagemap) {
    ULong minor, major;
    read_faults(&minor, &major);
    const UWord own = count_own_pages(pagemap);
    UWord* words = ptshare_item(PTSHARE_FAULTS, 0, 3);
    words[0] = minor;
    words[1] = major;
    words[2] = faults_before + (own > own_before ? own - own_before : 0);
}

void ptshare_present(void) {
    const Int pagemap = VG_(fd_open)("/proc/self/pagemap", VKI_O_RDONLY, 0);
    if (pagemap < 0) return;
    tell_faults(pagemap);
    look_at_areas(pagemap, SkAnonC | SkFileC | SkShmC, tell_area);
    VG_(close)(pagemap);
}
