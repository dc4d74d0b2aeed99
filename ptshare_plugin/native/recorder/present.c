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
#define PRESENT (3ULL << 62)  // or swapped
#define RUNS 1000             // of one item

typedef struct {
    UWord start, bytes;
    UInt count;
    UWord run[2 * RUNS];
} Area;

static Area area;
static ULong entries[ENTRIES];

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

static void tell_area(Int pagemap, Addr start, Addr end) {
    area.start = start;
    area.bytes = end - start;
    area.count = 0;
    for (Addr page = start; page < end;) {
        const UWord left = (end - page) / PAGE;
        const UWord wanted = left < ENTRIES ? left : ENTRIES;
        const Word got = ptshare_call(__NR_pread64, (UWord)pagemap, (UWord)entries, wanted * 8,
                                      page / PAGE * 8, 0, 0);
        if (got < 8) return;
        for (Word i = 0; i < got / 8; ++i, page += PAGE) {
            if ((entries[i] & PRESENT) != 0) add_page(page);
        }
    }
    tell();
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

static void tell_faults(void) {
    HChar text[1024];
    const Int file = VG_(fd_open)("/proc/self/stat", VKI_O_RDONLY, 0);
    if (file < 0) return;
    const Int got = VG_(read)(file, text, sizeof text - 1);
    VG_(close)(file);
    text[got < 0 ? 0 : got] = '\0';
    ptshare_item2(PTSHARE_FAULTS, 0, field(text, 10), field(text, 12));
}

void ptshare_present(void) {
    const UInt kinds = SkAnonC | SkFileC | SkShmC;
    tell_faults();
    const Int pagemap = VG_(fd_open)("/proc/self/pagemap", VKI_O_RDONLY, 0);
    if (pagemap < 0) return;
    Addr one;
    // Answers minus their number where there is no room for them; the allocation may add some.
    Int count = VG_(am_get_segment_starts)(kinds, &one, 1);
    const Int room = (count < 0 ? -count : count) + 16;
    Addr* starts = VG_(malloc)("ptshare.areas", (SizeT)room * sizeof(Addr));
    count = VG_(am_get_segment_starts)(kinds, starts, room);
    for (Int i = 0; i < count; ++i) {
        const NSegment* segment = VG_(am_find_nsegment)(starts[i]);
        if (segment != NULL && !ptshare_own(segment->start))
            tell_area(pagemap, segment->start, segment->end + 1);
    }
    VG_(free)(starts);
    VG_(close)(pagemap);
}
