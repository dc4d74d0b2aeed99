// Memory that runs out in the middle of any operation leaves counters that equal recounts, and
// processes that can be ended. (What an operation did before that stays done.)
#include <set>

#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr int kDontNeed = 4;

// A little of everything that allocates; `done` counts the steps.
void script(World& w, int& done) {
    Mm* a = nullptr;
    Mm* b = nullptr;
    const std::vector<std::function<void()>> steps = {
        [&] { a = &w.kernel.create_mm(); },
        [&] { b = &w.kernel.create_mm(); },
        [&] { w.map(*a, kBase + 8 * kPmdSize, kPmdSize, kRw, kAnonymous | kMapPopulate); },
        [&] { w.map(*a, kBase, 2 * kPmdSize, kRw, kSharedFile, w.file); },
        [&] {
            for (std::uint64_t i = 0; i < 1024; i += 32) w.write(*a, kBase + i * kPages);
        },
        [&] { w.map(*a, kBase, 2 * kPmdSize, kRw, kPtFile, w.file); },
        [&] { w.map(*b, kBase, 2 * kPmdSize, kRw, kPtFile | kMapPopulate, w.file); },
        [&] { w.read(*a, kBase + kPages); },
        [&] { w.map(*a, kBase - kPmdSize, 8 * kPages, kRw, kMapPrivate | kMapFixed, w.file); },
        [&] {
            for (std::uint64_t i = 0; i < 8; ++i) {
                w.read(*a, kBase - kPmdSize + i * kPages);
                w.write(*a, kBase - kPmdSize + i * kPages);
            }
        },
        [&] { w.kernel.fork(*a); },
        [&] {
            for (std::uint64_t i = 0; i < 16; ++i) {
                w.write(*a, kBase + 8 * kPmdSize + i * kPages);
            }
        },
        [&] {
            w.kernel.mremap(*a, kBase + 8 * kPmdSize, kPmdSize, kPmdSize, 3,
                            kBase + 3 * kPudSize - 3 * kPages);
        },
        [&] { w.kernel.madvise(*b, kBase, kPmdSize, kDontNeed); },
        [&] { w.kernel.truncate(*w.file, kPmdSize); },
        [&] { w.kernel.exit(*b); },
    };
    for (const auto& step : steps) {
        step();
        ++done;
    }
}

}  // namespace

TEST(out_of_memory_at_any_point_leaves_everything_accounted_for) {
    for (const char* policy : {"private", "ptshare"}) {
        std::set<int> failed_in;  // steps in which memory ran out at least once
        bool finished = false;
        for (std::uint64_t frames = 2; !finished; ++frames) {
            KernelConfig with = config(64 << 10);
            with.memory_bytes = frames * kPages;
            in_world(policy, with, [&](World& w) {
                int done = 0;
                try {
                    script(w, done);
                    finished = true;
                } catch (const OutOfMemory&) {
                    failed_in.insert(done);
                }
                CHECK_EQ(w.audit_lines(), 0U);
            });
        }
        // Both processes' roots, populate, faults, copy-on-write, fork, mremap at the least.
        for (int step : {0, 1, 2, 4, 9, 10, 11, 12}) CHECK(failed_in.count(step) == 1);
    }
}

TEST(out_of_memory_in_fork_leaves_no_child) {
    KernelConfig with = config();
    with.memory_bytes = 30 * kPages;
    in_world("ptshare", with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        for (std::uint64_t i = 0; i < 10; ++i) {
            CHECK(w.map(mm, kBase + i * kPmdSize, kPages, kRw, kAnonymous).ok());
            CHECK(w.write(mm, kBase + i * kPmdSize) == FaultKind::Anon);
        }
        w.kernel.take_effects();
        CHECK_THROWS(w.kernel.fork(mm), OutOfMemory, "exhausted");
        CHECK_EQ(w.kernel.mms().size(), 1U);
        // What was made read-only is flushed all the same.
        CHECK(w.kernel.take_effects().flushes[0].targets[0].mm == mm.id);
        CHECK(w.write(mm, kBase) == FaultKind::WriteProtect);
        CHECK_EQ(w.audit_lines(), 0U);
    });
}

TEST(out_of_memory_in_mremap_leaves_the_pages_where_they_were) {
    KernelConfig with = config();
    with.memory_bytes = 11 * kPages;  // reserved 2, tables 4, pages 4: one is left
    in_world("ptshare", with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        const VirtAddr at = kBase + kPmdSize - 2 * kPages;  // over two PTE tables when moved
        CHECK(w.map(mm, kBase, 4 * kPages, kRw, kAnonymous | kMapPopulate).ok());
        CHECK_THROWS(w.kernel.mremap(mm, kBase, 4 * kPages, 4 * kPages, 3, at + kPudSize),
                     OutOfMemory, "exhausted");
        for (std::uint64_t i = 0; i < 4; ++i) CHECK(w.leaf(mm, kBase + i * kPages).writable());
        CHECK_EQ(w.own_tables(mm), 4U);
    });
}

TEST(out_of_memory_in_attach_leaves_no_mapping) {
    KernelConfig with = config();
    with.memory_bytes = 7 * kPages;  // reserved 2, tables 4, a page: none for a host's root
    in_world("ptshare", with, [](World& w) {
        Mm& mm = w.kernel.create_mm();
        CHECK(w.map(mm, kBase + kPudSize - kPages, kPages, kRw, kAnonymous | kMapPopulate).ok());
        CHECK_THROWS(w.map(mm, kBase, kPmdSize, kRw, kPtFile, w.file), OutOfMemory, "exhausted");
        CHECK(w.kernel.hosts().empty());
        CHECK_EQ(mm.vmas.size(), 1U);
    });
}
