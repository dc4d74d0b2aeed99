#include "snapshot_checks.h"

#include <string>

#include "archive.h"
#include "audit.h"

namespace ptshare {

using snapshot::expect;

void SnapshotChecks::frames(FrameAllocator& frames) {
    expect(frames.frames_.size() <= frames.capacity_, "more frames than memory");
    claimed_.resize(frames.frames_.size());
    frames.in_use_ = {};
    std::uint64_t free = 0;
    for (std::uint64_t i = 0; i < frames.frames_.size(); ++i) {
        const auto [use, references] = frames.frames_[i];
        expect(static_cast<unsigned>(use) < kFrameUses, "an unknown use of a frame");
        expect(use == FrameUse::AnonPage ? references != 0
                                         : references == (use == FrameUse::Free ? 0 : 1),
               "a frame's references");
        ++(use == FrameUse::Free ? free : frames.in_use_[static_cast<unsigned>(use)]);
    }
    std::uint64_t listed = frames.free_.size() + kEntries * frames.free_huge_.size();
    for (const std::vector<Pfn>& list : frames.lists_) {
        listed += list.size();
        for (const Pfn pfn : list) claim(pfn, FrameUse::Free);
    }
    expect(free == listed, "the list of free frames");
    for (const Pfn pfn : frames.free_) claim(pfn, FrameUse::Free);
    for (const Pfn first : frames.free_huge_) {
        expect(is_aligned(first.value, kEntries), "2 MiB of free frames");
        for (std::uint64_t i = 0; i < kEntries; ++i) claim(first + i, FrameUse::Free);
    }
}

void SnapshotChecks::claim(Pfn pfn, FrameUse use) {
    expect(pfn.value < claimed_.size() && kernel_.frames().use(pfn) == use && !claimed_[pfn.value],
           "a frame's use");
    claimed_[pfn.value] = true;
}

void SnapshotChecks::file(const File& file) {
    const std::uint64_t pages = file.cached_end();
    expect(pages <= file.pages(), "pages beyond the end of a file");
    for (std::uint64_t i = 0; i < pages; ++i) {
        if (file.cached(i) != Pfn(0)) claim(file.cached(i), FrameUse::FilePage);
    }
    if (!file.huge()) return;
    expect(is_aligned(file.size() | (pages << kPageShift), kPmdSize), "the size of a huge file");
    for (std::uint64_t i = 0; i < pages; ++i) {
        const Pfn first = file.cached(i & ~(kEntries - 1));
        const Pfn want = first == Pfn(0) ? first : first + i % kEntries;
        expect(is_aligned(first.value, kEntries) && file.cached(i) == want, "a 2 MiB page");
    }
}

void SnapshotChecks::ids(const FilesById& files, std::uint64_t next_file, const TreesById& trees,
                         MmId next_mm) {
    expect(files.empty() || files.rbegin()->first < next_file, "the next file's id");
    expect(trees.empty() || trees.rbegin()->first < next_mm, "the next mm's id");
}

void SnapshotChecks::whole(const TreesById& trees) {
    claim(kernel_.zero_page(), FrameUse::Reserved);
    const TableStore& store = kernel_.tables();
    for (const auto& [id, tree] : trees) {
        const Pfn root = tree->root();
        const bool rooted = store.is_table(root) && store.at(root).owner == tree &&
                            store.at(root).level == tree->top();
        expect(rooted, "the root of a table");
    }
    store.for_each([this](Pfn, const TablePage& page) { table(page); });
    const std::vector<std::string> problems = audit(kernel_);
    if (!problems.empty()) snapshot::fail("damaged: " + problems.front());
}

void SnapshotChecks::table(const TablePage& page) const {
    const TableStore& store = kernel_.tables();
    for (const Pte entry : page.entries) {
        if (entry.none()) continue;
        const bool large = page.level == Level::Pmd && entry.large();
        if (page.level == Level::Pte || large) {
            const Pfn last = entry.pfn() + (large ? kEntries - 1 : 0);
            expect(last.value < claimed_.size(), "a leaf beyond memory");
        } else {
            const bool leads = entry.present() && !entry.large() && store.is_table(entry.pfn()) &&
                               store.at(entry.pfn()).level == below(page.level);
            expect(leads, "an entry that leads nowhere");
        }
    }
}

}  // namespace ptshare
