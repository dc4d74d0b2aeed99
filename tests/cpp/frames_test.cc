// Frames and files: what is handed out, counted, given back.
#include "core/frames.h"

#include <vector>

#include "check.h"
#include "core/file.h"

using namespace ptshare;

TEST(frames_last_freed_is_used_first) {
    FrameAllocator frames(1 << 20);
    const Pfn first = frames.allocate(FrameUse::Table);
    const Pfn second = frames.allocate(FrameUse::FilePage);
    CHECK(first != Pfn(0));
    CHECK(frames.drop_reference(first));
    CHECK(frames.drop_reference(second));
    CHECK(frames.allocate(FrameUse::AnonPage) == second);
    CHECK(frames.allocate(FrameUse::AnonPage) == first);
    CHECK_EQ(frames.in_use(FrameUse::Table), 0U);
    CHECK_EQ(frames.in_use(FrameUse::FilePage), 0U);
    CHECK_EQ(frames.in_use(FrameUse::AnonPage), 2U);
}

TEST(frames_shared_page_is_free_after_its_last_reference) {
    FrameAllocator frames(1 << 20);
    const Pfn page = frames.allocate(FrameUse::AnonPage);
    frames.add_reference(page);
    CHECK_EQ(frames.references(page), 2U);
    CHECK(!frames.drop_reference(page));
    CHECK(frames.use(page) == FrameUse::AnonPage);
    CHECK(frames.drop_reference(page));
    CHECK(frames.use(page) == FrameUse::Free);
    bool caught = false;
    try {
        frames.drop_reference(page);
    } catch (const std::logic_error&) {
        caught = true;
    }
    CHECK(caught);
}

TEST(frames_of_one_cpu_lie_together_whatever_others_take) {
    FrameAllocator frames(1 << 24);
    const auto next = [&](unsigned cpu) {
        frames.use_list(cpu);
        return frames.allocate(FrameUse::AnonPage).value;
    };
    const std::uint64_t one = next(0);
    const std::uint64_t two = next(1);
    CHECK_EQ(two, one + 63);
    for (std::uint64_t i = 1; i < 63; ++i) {
        CHECK_EQ(next(0), one + i);
        CHECK_EQ(next(1), two + i);
    }
    CHECK_EQ(next(0), two + 63);
    // What is freed is used before memory grows, last freed first.
    for (std::uint64_t i = 0; i < 63; ++i) frames.drop_reference(Pfn(one + i));
    for (std::uint64_t i = 0; i < 63; ++i) CHECK_EQ(next(2), one + 62 - i);
}

TEST(frames_in_the_lists_of_others_are_taken_before_memory_runs_out) {
    FrameAllocator frames(101 * kPageSize);  // frame 0 is reserved: 100 are left
    for (unsigned i = 0; i < 100; ++i) {
        frames.use_list(i % 3);
        frames.allocate(FrameUse::Table);
    }
    CHECK_EQ(frames.in_use(FrameUse::Table), 100U);
    CHECK_THROWS(frames.allocate(FrameUse::Table), OutOfMemory, "kernel.memory_bytes");
}

TEST(frames_run_out_with_a_message_and_recover) {
    FrameAllocator frames(4 * kPageSize);  // frame 0 is reserved: three are left
    std::vector<Pfn> taken;
    std::string message;
    try {
        for (int i = 0; i < 4; ++i) taken.push_back(frames.allocate(FrameUse::Table));
    } catch (const OutOfMemory& error) {
        message = error.what();
    }
    CHECK_EQ(taken.size(), 3U);
    CHECK(message.find("kernel.memory_bytes") != std::string::npos);
    frames.drop_reference(taken[1]);
    CHECK(frames.allocate(FrameUse::FilePage) == taken[1]);
}

TEST(frames_huge_page_is_aligned_and_the_gap_is_not_lost) {
    FrameAllocator frames(8 << 20);  // 2048 frames
    frames.allocate(FrameUse::Table);
    const Pfn huge = frames.allocate_huge(FrameUse::FilePage);
    CHECK_EQ(huge.value, kEntries);
    CHECK_EQ(frames.in_use(FrameUse::FilePage), kEntries);
    // Frames 2..511 lie below it and are used before memory grows: 510 of them.
    for (std::uint64_t i = 0; i < kEntries - 2; ++i) {
        CHECK(frames.allocate(FrameUse::AnonPage) < huge);
    }
    CHECK_EQ(frames.allocate(FrameUse::AnonPage).value, 2 * kEntries);
    // 1025 frames are handed out: one more huge page starts at 1536, then there is no room.
    CHECK_EQ(frames.allocate_huge(FrameUse::FilePage).value, 3 * kEntries);
    bool caught = false;
    try {
        frames.allocate_huge(FrameUse::FilePage);
    } catch (const OutOfMemory&) {
        caught = true;
    }
    CHECK(caught);
}

namespace {

// Remembers what core asked of the bytes.
struct Recorder final : FrameContents {
    std::vector<std::uint64_t> read, cut_to;
    std::vector<Pfn> gone, cut_page;
    void read_file(const File&, std::uint64_t index, Pfn) override { read.push_back(index); }
    void cut_file(const File&, std::uint64_t bytes, Pfn last) override {
        cut_to.push_back(bytes);
        cut_page.push_back(last);
    }
    void released(Pfn pfn) override { gone.push_back(pfn); }
};

}  // namespace

TEST(file_reads_each_page_once_and_drops_what_is_cut) {
    Recorder contents;
    FrameAllocator frames(1 << 20);
    {
        File file(1, "f", frames, contents);
        file.resize(3 * kPageSize + 1);
        CHECK_EQ(file.pages(), 4U);
        const Pfn first = file.page(0);
        const Pfn last = file.page(3);
        CHECK(file.page(3) == last);
        CHECK_EQ(contents.read.size(), 2U);
        CHECK(file.cached(1) == Pfn(0));
        CHECK_EQ(frames.in_use(FrameUse::FilePage), 2U);

        file.resize(10);  // cuts through page 0
        CHECK_EQ(file.pages(), 1U);
        CHECK_EQ(contents.gone.size(), 1U);
        CHECK(contents.gone[0] == last);
        CHECK_EQ(contents.cut_to.size(), 1U);
        CHECK(contents.cut_page[0] == first);
        file.resize(kPageSize);  // growing cuts nothing
        CHECK_EQ(contents.cut_to.size(), 1U);
    }
    CHECK_EQ(frames.in_use(FrameUse::FilePage), 0U);
    CHECK_EQ(contents.gone.size(), 2U);
}

TEST(frames_below_the_first_are_anothers) {
    FrameAllocator frames(8 * kPageSize, 5);
    CHECK_EQ(frames.in_use(FrameUse::Reserved), 5U);
    CHECK(frames.allocate(FrameUse::AnonPage) == Pfn(5));
    CHECK(frames.allocate(FrameUse::AnonPage) == Pfn(6));
    CHECK(frames.allocate(FrameUse::AnonPage) == Pfn(7));
    CHECK_THROWS(frames.allocate(FrameUse::AnonPage), OutOfMemory, "simulated memory");
}
