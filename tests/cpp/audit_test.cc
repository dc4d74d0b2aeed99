// audit() has to see what it is for: each test damages a healthy kernel in one place.
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

// Whether audit reports something that contains `text` after `damage`, and nothing before.
bool sees(const std::string& text, const std::function<void(World&, Mm&)>& damage) {
    World w("ptshare");
    Mm& mm = w.guest();
    w.guest();
    CHECK(w.map(mm, kBase - kPmdSize, 8 * kPages, kRw, kAnonymous).ok());
    w.write(mm, kBase - kPmdSize);
    w.write(mm, kBase);
    CHECK_EQ(w.audit_lines(), 0U);
    const Pte link = *mm.table.find(kBase, Level::Pmd);
    damage(w, mm);
    const auto lines = audit(w.kernel);
    *mm.table.find(kBase, Level::Pmd) = link;  // the tree is taken down along its entries
    return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
        return line.find(text) != std::string::npos;
    });
}

constexpr VirtAddr kAnon = kBase - kPmdSize;

}  // namespace

TEST(audit_sees_wrong_counters) {
    CHECK(sees("rss_file is 1, 0 found", [](World&, Mm& mm) { ++mm.rss_file; }));
    CHECK(sees("rss_anon is 0, 1 found", [](World&, Mm& mm) { --mm.rss_anon; }));
    CHECK(sees("rss_file", [](World& w, Mm&) { ++w.kernel.hosts()[0]->mm.rss_file; }));
    CHECK(sees("anonymous frames: 2 in use, 1 mapped",
               [](World& w, Mm&) { w.kernel.frames().allocate(FrameUse::AnonPage); }));
    CHECK(sees("table frames", [](World& w, Mm&) { w.kernel.frames().allocate(FrameUse::Table); }));
    CHECK(sees("page-cache frames",
               [](World& w, Mm&) { w.kernel.frames().allocate(FrameUse::FilePage); }));
    CHECK(sees("2 references, mapped 1 times",
               [](World& w, Mm& mm) { w.kernel.frames().add_reference(w.leaf(mm, kAnon).pfn()); }));
    CHECK(sees("entries counted",
               [](World&, Mm& mm) { *mm.table.find(kAnon + kPages, Level::Pte) = Pte(1); }));
}

TEST(audit_sees_leaves_that_contradict_their_vma) {
    const auto with_leaf = [](auto change) {
        return
            [change](World& w, Mm& mm) { mm.table.replace(kAnon, change(w, w.leaf(mm, kAnon))); };
    };
    CHECK(sees("NX of the leaf",
               with_leaf([](World&, Pte pte) { return pte.without(Pte::kNoExecute); })));
    CHECK(sees("present against its VMA",
               with_leaf([](World&, Pte pte) { return pte.without(Pte::kPresent); })));
    CHECK(sees("which holds no page", with_leaf([](World&, Pte pte) {
                   return Pte::make(Pfn(0), pte.bits() & ~Pte::kFrameMask);
               })));
    CHECK(sees("is not the file's page", with_leaf([](World& w, Pte pte) {
                   return Pte::make(w.file->page(5), pte.bits() & ~Pte::kFrameMask);
               })));
    CHECK(sees("writable leaf", [](World&, Mm& mm) { mm.find(kAnon)->flags &= ~kVmWrite; }));
    CHECK(sees("without a VMA", [](World&, Mm& mm) { mm.vmas.erase(kAnon); }));
    CHECK(sees("outlives its VMAs", [](World&, Mm& mm) { mm.vmas.erase(kAnon); }));
    CHECK(sees("writable leaf of a shared private page",
               [](World& w, Mm& mm) { w.kernel.frames().add_reference(w.leaf(mm, kAnon).pfn()); }));
}

TEST(audit_sees_broken_sharing) {
    CHECK(sees("without a guest", [](World& w, Mm&) { w.kernel.hosts()[0]->guests.clear(); }));
    CHECK(sees("1 guests listed, 2 attached",
               [](World& w, Mm&) { w.kernel.hosts()[0]->guests.pop_back(); }));
    CHECK(sees("VMAs leave a hole", [](World& w, Mm&) {
        w.kernel.hosts()[0]->mm.vmas.begin()->second.end = kBase + kPages;
    }));
    CHECK(sees("VM_SHARED_PT and host differ",
               [](World&, Mm& mm) { mm.find(kBase)->flags &= ~kVmSharedPt; }));
    CHECK(sees("differs from its host's", [](World&, Mm& mm) {
        Pte* entry = mm.table.find(kBase, Level::Pmd);
        *entry = entry->without(Pte::kWrite);
    }));
    CHECK(sees("outside a shared VMA", [](World& w, Mm& mm) {
        mm.table.link(kBase + 8 * kPmdSize,
                      w.kernel.hosts()[0]->mm.table.find(kBase, Level::Pmd)->pfn());
    }));
    CHECK(sees("which is no table", [](World& w, Mm& mm) {
        *mm.table.find(kBase, Level::Pmd) =
            Pte::make(w.file->page(0), Pte::kPresent | Pte::kWrite | Pte::kUser);
    }));
    CHECK(sees("own leaf", [](World& w, Mm& mm) {
        mm.table.unlink(kBase);
        mm.table.set(kBase, w.leaf(w.kernel.hosts()[0]->mm, kBase));
    }));
}

TEST(audit_sees_broken_2_mib_pages) {
    const auto sees_it = [](const std::string& text,
                            const std::function<void(World&, Mm&)>& damage) {
        World w("hugetlb-pmd");
        CHECK(w.kernel.truncate(*w.file, kPudSize) == Errno::Ok);
        Mm& mm = w.guest(kPudSize);
        w.write(w.guest(kPudSize), kBase);
        w.write(mm, kBase);
        CHECK_EQ(w.audit_lines(), 0U);
        damage(w, mm);
        const auto lines = audit(w.kernel);
        return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
            return line.find(text) != std::string::npos;
        });
    };
    CHECK(sees_it("rss_huge is 1, 0 found", [](World&, Mm& mm) { ++mm.rss_huge; }));
    CHECK(sees_it("1 guests listed, 2 attached",
                  [](World& w, Mm&) { w.kernel.hosts()[0]->guests.pop_back(); }));
    CHECK(
        sees_it("is not for its VMA", [](World&, Mm& mm) { mm.find(kBase)->flags &= ~kVmWrite; }));
    CHECK(sees_it("is not for its VMA", [](World&, Mm& mm) {
        mm.split(kBase + kPmdSize);  // past the kernel's own
    }));
    CHECK(sees_it("links counted to level 1",
                  [](World&, Mm& mm) { *mm.table.find(kBase, Level::Pud) = Pte(); }));
    CHECK(sees_it("what is no mapping of 2 MiB pages",
                  [](World&, Mm& mm) { mm.find(kBase)->file_page = 1; }));
    const auto with_leaf = [](auto change) {
        return [change](World& w, Mm&) {
            PageTable& table = w.kernel.hosts()[0]->mm.table;
            table.replace(VirtAddr(0), change(table.leaf(VirtAddr(0))->pte), Level::Pmd);
        };
    };
    CHECK(sees_it("is not the file's 2 MiB page", with_leaf([](Pte pte) {
                      return Pte::make(pte.pfn() + 1, pte.bits() & ~Pte::kFrameMask);
                  })));
    CHECK(sees_it("present against its VMA",
                  with_leaf([](Pte pte) { return pte.without(Pte::kPresent); })));
    CHECK(sees_it("of the wrong size", [](World& w, Mm& mm) {
        CHECK(w.map(mm, kBase + 2 * kPudSize, kPmdSize, kRw, kPtFile, w.file).ok());
        mm.table.set(kBase + 2 * kPudSize, Pte::make(w.file->page(0), Pte::kPresent | Pte::kUser));
    }));
}
