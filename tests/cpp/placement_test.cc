// Where the kernel places mappings that name no address.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr std::uint64_t kAnywhere = kMapPrivate | kMapAnonymous;
constexpr VirtAddr kNowhere(0);
// 2^47 - 4096 - 128 MiB lies a page below a multiple of 2 MiB.
constexpr VirtAddr kTop((1ULL << 47) - (128ULL << 20));
constexpr VirtAddr kMmapBase = kTop - kPageSize;

}  // namespace

TEST(the_user_half_ends_a_page_below_its_power_of_two) {
    for (const unsigned levels : {4U, 5U}) {
        KernelConfig with = config();
        with.levels = levels;
        in_world("private", with, [](World& w) {
            CHECK(w.kernel.task_size() == VirtAddr(0x7ffffffff000));
            CHECK(w.kernel.mmap_base() == kMmapBase);
            Mm& mm = w.kernel.create_mm();
            const VirtAddr last = w.kernel.task_size() - kPages;
            CHECK(w.map(mm, last, kPages, kRw, kAnonymous).ok());
            CHECK(w.write(mm, last) == FaultKind::Anon);
            CHECK(w.map(mm, last, 2 * kPages, kRw, kAnonymous).error == Errno::NoMemory);
            CHECK(w.map(mm, last + kPages, kPages, kRw, kAnonymous).error == Errno::NoMemory);
            CHECK(w.kernel.munmap(mm, last, 2 * kPages) == Errno::Invalid);
            CHECK(w.map(mm, kNowhere, kPages, kRw, kAnywhere).address == kMmapBase - kPages);
        });
    }
}

TEST(anonymous_private_memory_of_whole_2_mib_is_aligned) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const VirtAddr first = w.map(mm, kNowhere, kPmdSize, kRw, kAnywhere).address;
        CHECK(first == kTop - 2 * kPmdSize);
        // The room above stays for what fits it.
        CHECK(w.map(mm, kNowhere, kPages, kRw, kAnywhere).address == kMmapBase - kPages);
        // The next one fits right below: no padding is left.
        const VirtAddr second = w.map(mm, kNowhere, 2 * kPmdSize, kRw, kAnywhere).address;
        CHECK(second == first - 2 * kPmdSize);
        CHECK_EQ(mm.vmas.size(), 2U);  // they are one
    });
}

TEST(other_mappings_are_not_aligned) {
    in_world("private", [](World& w) {
        const auto at = [&](std::uint64_t length, std::uint64_t flags, bool file) {
            Mm& mm = w.kernel.create_mm();
            return w.map(mm, kNowhere, length, kRw, flags, file ? w.file : nullptr).address;
        };
        CHECK(at(kPmdSize + kPages, kAnywhere, false) == kMmapBase - kPmdSize - kPages);
        CHECK(at(kPmdSize - kPages, kAnywhere, false) == kMmapBase - kPmdSize + kPages);
        CHECK(at(kPmdSize - 1, kAnywhere, false) == kTop - 2 * kPmdSize);  // rounded up first
        CHECK(at(kPmdSize, kMapShared | kMapAnonymous, false) == kMmapBase - kPmdSize);
        CHECK(at(kPmdSize, kMapShared, true) == kMmapBase - kPmdSize);
        CHECK(at(kPmdSize, kMapPrivate, true) == kMmapBase - kPmdSize);
    });
}

TEST(a_hint_that_is_taken_makes_no_alignment) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase, kPages, kRw, kAnonymous).ok());
        CHECK(w.map(mm, kBase, kPmdSize, kRw, kAnywhere).address == kMmapBase - kPmdSize);
        // A free one is used as it is.
        CHECK(w.map(mm, kBase + kPages, kPmdSize, kRw, kAnywhere).address == kBase + kPages);
    });
}

TEST(where_only_the_length_itself_fits_it_goes_unaligned) {
    in_world("private", [](World& w) {
        Mm& mm = w.kernel.create_mm();
        // All but 2 MiB and a page below the top is full.
        const VirtAddr gap = kMmapBase - kPmdSize - kPages;
        CHECK(w.map(mm, VirtAddr(0x10000), gap.value - 0x10000, 0, kAnonymous).ok());
        CHECK(w.map(mm, kNowhere, kPmdSize, kRw, kAnywhere).address == kMmapBase - kPmdSize);
        CHECK(w.map(mm, kNowhere, kPmdSize, kRw, kAnywhere).error == Errno::NoMemory);
    });
}
