// Kernel::touch against a fault for each page: the same figures, whatever is kept in runs.
#include <algorithm>
#include <array>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr std::uint64_t kFilePages = 600 * kEntries;  // more than one PMD table

struct Twin {
    Twin(const std::string& policy, const KernelConfig& with, FrameContents& contents)
        : kernel(with, make_policy(policy), contents), file(kernel.create_file("data")) {
        file->resize(kFilePages * kPageSize);
    }
    Mm& mm(std::uint64_t i) {
        auto it = kernel.mms().begin();
        std::advance(it, i % kernel.mms().size());
        return *it->second;
    }
    bool map(Mm& in, VirtAddr at, std::uint64_t length, std::uint64_t flags, std::uint64_t page) {
        MapRequest request;
        request.address = at;
        request.length = length;
        request.prot = kRw;
        request.flags = flags;
        request.file = file;
        request.offset = page * kPageSize;
        return kernel.mmap(in, request).ok();
    }

    Kernel kernel;
    std::shared_ptr<File> file;  // goes before the kernel
};

// Everything that a user can see, but for the frames.
std::string figures(Kernel& kernel) {
    std::ostringstream text;
    const auto counts = [&](const TableCounts& of) {
        for (const std::uint64_t n : of.by_level) text << n << ' ';
        text << of.by_owner[0] << ' ' << of.by_owner[1] << ' ' << of.region_pte << '\n';
    };
    counts(kernel.tables().counts());
    counts(kernel.tables().peak());
    text << kernel.tables().peak_region_pte() << ' ' << kernel.hosts().size() << '\n';
    const auto of = [&](const Mm& mm) {
        text << mm.id.value << ' ' << mm.rss_file << ' ' << mm.rss_anon << ' ' << mm.rss_huge << ' '
             << mm.vm_pte_bytes() << ' ' << mm.tlb_generation << '\n';
    };
    for (const auto& [id, mm] : kernel.mms()) of(*mm);
    for (const auto& host : kernel.hosts()) of(host->mm);
    for (unsigned use = 0; use < kFrameUses; ++use) {
        text << kernel.frames().in_use(static_cast<FrameUse>(use)) << ' ';
    }
    const KernelStats& stats = kernel.stats();
    text << stats.links << ' ' << stats.peak_rss_file << ' ' << stats.peak_rss_huge << '\n';
    const Effects effects = kernel.take_effects();
    text << effects.tables_allocated << ' ' << effects.tables_freed << ' ' << effects.ptes_changed
         << ' ' << effects.ptes_copied << '\n';
    for (const FlushRequest& flush : effects.flushes) {
        for (const FlushTarget& target : flush.targets) {
            text << target.mm.value << ' ' << target.start.value << ' ' << target.end.value << '\n';
        }
    }
    return text.str();
}

std::string shown_touch(const TouchResult& result) {
    std::ostringstream text;
    for (const std::uint64_t n : result.faults) text << n << ' ';
    text << result.linked << ' ' << result.around << ' ' << result.reached.value;
    return text.str();
}

// Leaves of a mm's window, frames aside but for the page of the file that they map.
std::string leaves(const Mm& mm, VirtAddr at, std::uint64_t pages) {
    std::ostringstream text;
    for (std::uint64_t i = 0; i < pages; i += 97) {
        const VirtAddr page = at + i * kPageSize;
        const auto leaf = mm.table.leaf(page);
        if (!leaf) continue;
        text << i << ':' << (leaf->pte.bits() & ~Pte::kFrameMask) << ' ';
        const Vma* vma = const_cast<Mm&>(mm).find(page);
        const Pfn frame = leaf->frame_of(page);
        text << (vma->file && vma->file->cached(vma->file_page_of(page)) == frame) << ' ';
    }
    return text.str();
}

// Single pages, stretches and even distances; one page at least.
PageSet some_pages(std::mt19937& random) {
    PageSet set(kFilePages);
    const auto draw = [&](std::uint64_t below) { return random() % below; };
    const std::uint64_t kind = draw(3);
    const std::uint64_t distance = 1 + draw(2000);
    for (std::uint64_t page = draw(kFilePages); page < kFilePages;) {
        const std::uint64_t length = kind == 0 ? 1 + draw(900) : 1;
        for (std::uint64_t i = page; i < std::min(page + length, kFilePages); ++i) set.add(i);
        page += length + (kind == 1 ? distance : draw(draw(8) == 0 ? 5000 : 100));
    }
    return set;
}

// As many accesses as the set has pages.
TouchResult touch_each(Kernel& kernel, Mm& mm, const PageSet& set, Access access) {
    TouchResult sum;
    for (std::uint64_t page = set.next(0); page < set.pages(); page = set.next(page + 1)) {
        const VirtAddr at = kBase + page * kPageSize;
        const TouchResult one = kernel.touch(mm, at, kPageSize, access);
        sum.add(one);
        sum.reached = one.reached;
        if (one.reached == at) return sum;
    }
    sum.reached = kBase + kFilePages * kPageSize;
    return sum;
}

// The same operations on both kernels; `figures` after each.
void compare(const std::string& policy, const KernelConfig& with, unsigned seed) {
    NoContents many;
    FrameContents each;  // keeps as little, but does not say so: page after page
    Twin bulk(policy, with, many);
    Twin loop(policy, with, each);
    const std::array<Twin*, 2> both = {&bulk, &loop};
    std::mt19937 random(seed);
    const auto draw = [&](std::uint64_t below) { return random() % below; };
    // Some pages are there before the others, some come with the faults.
    const bool huge = policy.find("huge") != std::string::npos;
    if (!huge) {
        const std::uint64_t ahead = draw(3) == 0 ? draw(kFilePages) : kFilePages;
        for (Twin* twin : both) twin->file->read_ahead(ahead);
    }
    for (Twin* twin : both) twin->kernel.create_mm();
    const std::array<PageSet, 3> sets = {some_pages(random), some_pages(random),
                                         some_pages(random)};
    for (int step = 0; step < 40; ++step) {
        const std::uint64_t who = draw(16);
        const std::uint64_t what = draw(20);
        const PageSet& set = sets[draw(sets.size())];
        // Whole PMD tables and odd ends of them.
        const std::uint64_t page = draw(4) == 0 ? draw(kFilePages) : draw(600) * kEntries;
        const std::uint64_t most = kFilePages - page;
        const std::uint64_t pages = draw(3) == 0 ? most : 1 + draw(most);
        const VirtAddr at = kBase + page * kPageSize;
        const Access access = draw(2) == 0 ? Access::Read : Access::Write;
        const std::uint64_t flags = draw(5) == 0    ? kSharedFile
                                    : draw(40) == 0 ? kMapPrivate | kMapFixed
                                                    : kPtFile;
        const std::uint64_t prot = draw(3) == 0 ? kProtRead : draw(4) == 0 ? 0 : kRw;
        const bool compacts = draw(2) == 0;
        std::array<std::string, 2> said;
        for (unsigned i = 0; i < 2; ++i) {
            Twin& twin = *both[i];
            Mm& mm = twin.mm(who);
            std::ostringstream text;
            if (what == 0 && twin.kernel.mms().size() < 8) {
                twin.kernel.create_mm();
            } else if (what <= 2) {
                text << twin.map(mm, kBase, kFilePages * kPageSize, flags, 0);
            } else if (what == 3) {
                text << static_cast<int>(twin.kernel.mprotect(mm, at, pages * kPageSize, prot));
            } else if (what == 4) {
                text << static_cast<int>(twin.kernel.munmap(mm, at, pages * kPageSize));
            } else if (what == 5 && twin.kernel.mms().size() < 8) {
                twin.kernel.fork(mm);
            } else if (what == 6 && twin.kernel.mms().size() > 1) {
                twin.kernel.exit(mm);
            } else if (what == 7) {
                text << static_cast<int>(twin.kernel.madvise(mm, at, pages * kPageSize, 4));
            } else if (what <= 13) {
                text << shown_touch(&twin == &bulk ? twin.kernel.touch(mm, kBase, set, access)
                                                   : touch_each(twin.kernel, mm, set, access));
                if (compacts) twin.kernel.compact(mm);
            } else {
                text << shown_touch(twin.kernel.touch(mm, at, pages * kPageSize, access));
            }
            said[i] =
                text.str() + '\n' + figures(twin.kernel) + leaves(twin.mm(who), kBase, kFilePages);
        }
        CHECK_EQ(said[0], said[1]);
        CHECK_EQ(loop.kernel.tables().runs(), 0U);
        if (said[0] != said[1]) return;
    }
    CHECK(audit(bulk.kernel).empty());
    for (Twin* twin : both) {
        while (!twin->kernel.mms().empty()) twin->kernel.exit(twin->mm(0));
    }
    CHECK_EQ(bulk.kernel.frames().in_use(FrameUse::Table),
             loop.kernel.frames().in_use(FrameUse::Table));
    CHECK(audit(bulk.kernel).empty());
    if (policy == "rfc-v2") return;  // its hosts stay, as exit drops no reference
    CHECK_EQ(bulk.kernel.frames().in_use(FrameUse::Table), 0U);
    CHECK_EQ(bulk.kernel.tables().runs() + bulk.kernel.tables().pages(), 0U);
}

KernelConfig machine(std::uint64_t around, unsigned levels, bool dirty) {
    return {64ULL << 30, levels, around, dirty, false, 1};
}

}  // namespace

TEST(touch_is_a_fault_for_each_page) {
    for (const PolicyInfo& policy : policies()) {
        for (unsigned seed = 0; seed < 4; ++seed) {
            compare(policy.name,
                    machine(seed % 2 ? 65536 : kPageSize, seed % 3 ? 4 : 5, seed % 4 == 3), seed);
        }
    }
}

TEST(touch_keeps_whole_tables_as_runs) {
    NoContents contents;
    Twin twin("private", machine(kPageSize, 4, false), contents);
    twin.file->read_ahead(kFilePages);
    Mm& mm = twin.kernel.create_mm();
    CHECK(twin.map(mm, kBase, kFilePages * kPageSize, kSharedFile, 0));
    const TouchResult result = twin.kernel.touch(mm, kBase, kFilePages * kPageSize, Access::Write);
    CHECK_EQ(result.faults[static_cast<unsigned>(FaultKind::File)], kFilePages);
    CHECK_EQ(twin.kernel.tables().counts().by_level[index_of(Level::Pte)], 600U);
    CHECK_EQ(twin.kernel.tables().pages(), 2U);  // PGD and PUD
    CHECK_EQ(twin.kernel.tables().runs(), 4U);   // two PMD tables, and what hangs below each
    CHECK(audit(twin.kernel).empty());
}

TEST(touch_leaves_shared_tables_in_their_runs) {
    constexpr std::uint64_t kBytes = 512 * kPmdSize;  // one PMD table
    for (const char* policy : {"ptshare", "hugetlb-pmd"}) {
        NoContents contents;
        Twin twin(policy, machine(kPageSize, 4, false), contents);
        for (unsigned i = 0; i < 3; ++i) {
            Mm& mm = twin.kernel.create_mm();
            CHECK(twin.map(mm, kBase, kBytes, kPtFile, 0));
            if (i == 0) twin.file->read_ahead(512 * kEntries);
            twin.kernel.touch(mm, kBase, kBytes, Access::Write);
        }
        // PGD and PUD of each client, and of the host where it has them.
        const bool huge = twin.kernel.hosts().front()->of_one_table();
        CHECK_EQ(twin.kernel.tables().pages(), huge ? 6U : 8U);
        // The host's PMD table; with PTE tables these, and each client's PMD table of links.
        CHECK_EQ(twin.kernel.tables().runs(), huge ? 1U : 5U);
    }
}

TEST(touch_keeps_a_sparse_set_as_one_shape) {
    NoContents contents;
    PageSet set(kFilePages);
    // Of every third table, two pages; faults map 16 around each.
    for (std::uint64_t i = 0; i < 600; i += 3) {
        set.add(i * kEntries + 40);
        set.add(i * kEntries + 300);
    }
    for (const char* policy : {"private", "ptshare", "mshare"}) {
        Twin twin(policy, machine(65536, 4, false), contents);
        for (unsigned i = 0; i < 3; ++i) {
            Mm& mm = twin.kernel.create_mm();
            CHECK(twin.map(mm, kBase, kFilePages * kPageSize, kPtFile, 0));
            if (i == 0) twin.file->read_ahead(kFilePages);
            const TouchResult result = twin.kernel.touch(mm, kBase, set, Access::Read);
            const std::string name = policy;
            const auto faults = [&](FaultKind kind) {
                return result.faults[static_cast<unsigned>(kind)];
            };
            const bool first = name == "private" || i == 0;
            CHECK_EQ(faults(name == "private" ? FaultKind::File : FaultKind::Host),
                     first ? 400U : 0U);
            CHECK_EQ(result.around, first ? 15 * 400U : 0U);
            if (name == "ptshare") CHECK_EQ(result.linked, 200U);
            if (name == "ptshare") CHECK_EQ(faults(FaultKind::Link), first ? 0U : 200U);
            twin.kernel.compact(mm);
        }
        const std::uint64_t sets = std::string(policy) == "private" ? 3 : 1;
        CHECK_EQ(twin.kernel.tables().counts().by_level[index_of(Level::Pte)], 200 * sets);
        // In two PMD tables of each tree; nothing of 600 tables is a page but in the host of mshare
        // its first table, which comes before the link.
        if (std::string(policy) == "private") {
            CHECK_EQ(twin.kernel.tables().pages(), 0U);
            CHECK_EQ(twin.kernel.tables().runs(), 3 * (2 + 2 + 2U));  // PTE, PMD, PUD and PGD
        }
        // mprotect finds all leaves without taking one out.
        Mm& mm = twin.mm(0);
        const std::uint64_t runs = twin.kernel.tables().runs();
        twin.kernel.take_effects();
        CHECK(twin.kernel.mprotect(mm, kBase, kFilePages * kPageSize, kProtRead) == Errno::Ok);
        CHECK_EQ(twin.kernel.take_effects().ptes_changed, 16 * 400U);
        CHECK_EQ(twin.kernel.tables().runs(), runs);
        CHECK(!mm.table.leaf(kBase + 40 * kPageSize)->pte.writable());
        CHECK(!mm.table.leaf(kBase + (597 * kEntries + 300) * kPageSize)->pte.writable());
        CHECK(!mm.table.leaf(kBase + 30 * kPageSize));
        CHECK(audit(twin.kernel).empty());
    }
}

TEST(compact_keeps_what_tables_say) {
    // given pages that are touched one by one, at random
    NoContents contents;
    Twin twin("private", machine(65536, 4, false), contents);
    twin.file->read_ahead(kFilePages);
    std::mt19937 random(3);
    Mm& mm = twin.kernel.create_mm();
    CHECK(twin.map(mm, kBase, kFilePages * kPageSize, kSharedFile, 0));
    std::vector<std::uint64_t> pages;
    for (unsigned i = 0; i < 1000; ++i) pages.push_back(random() % kFilePages);
    for (const std::uint64_t page : pages) {
        twin.kernel.touch(mm, kBase + page * kPageSize, kPageSize, Access::Read);
    }
    const auto found = [&] {
        std::vector<std::pair<VirtAddr, std::uint64_t>> list;
        mm.table.for_each_leaf(kBase, kBase + kFilePages * kPageSize,
                               [&](VirtAddr at, Pte pte, Level) {
                                   list.push_back({at, pte.bits()});
                               });
        return list;
    };
    const auto before = found();
    const std::uint64_t held = twin.kernel.tables().held_bytes();
    const std::uint64_t tables = twin.kernel.tables().counts().total();
    // when they are kept in little memory
    twin.kernel.compact(mm);
    // then that is so, and nothing else has changed
    CHECK_EQ(twin.kernel.tables().pages(), 0U);
    CHECK_EQ(twin.kernel.tables().runs(), tables);
    CHECK(8 * twin.kernel.tables().held_bytes() < held);
    CHECK(found() == before);
    // and further accesses find what is there
    for (const std::uint64_t page : pages) {
        const TouchResult again =
            twin.kernel.touch(mm, kBase + page * kPageSize, kPageSize, Access::Read);
        CHECK_EQ(again.faults[static_cast<unsigned>(FaultKind::File)], 0U);
    }
    CHECK_EQ(twin.kernel.tables().pages(), 0U);
    CHECK(audit(twin.kernel).empty());
    CHECK(found() == before);
}

TEST(policies_say_where_no_table_is_touched_at_once) {
    constexpr std::uint64_t kBytes = 16 * kPmdSize;
    for (const PolicyInfo& policy : policies()) {
        NoContents contents;
        Twin twin(policy.name, machine(kPageSize, 4, false), contents);
        twin.file->read_ahead(kFilePages);
        Mm& mm = twin.kernel.create_mm();
        CHECK(twin.map(mm, kBase, kBytes, kPtFile, 0));
        twin.kernel.touch(mm, kBase, kBytes, Access::Write);
        CHECK_EQ(twin.kernel.tables().runs() == 0, policy.has(kPageByPage));
    }
}

TEST(touch_runs_out_of_memory_where_the_loop_does) {
    PageSet half(kFilePages);
    for (std::uint64_t page = 0; page < kFilePages; page += 1000) half.add(page);
    for (const char* policy : {"private", "ptshare"}) {
        std::array<std::string, 2> said;
        NoContents many;
        FrameContents each;
        const std::array<FrameContents*, 2> both = {&many, &each};
        for (unsigned i = 0; i < 2; ++i) {
            KernelConfig small = machine(kPageSize, 4, false);
            small.memory_bytes = (kFilePages + 2000) * kPageSize;
            Twin twin(policy, small, *both[i]);
            twin.file->read_ahead(kFilePages);
            unsigned clients = 0;
            try {
                for (; clients < 1000; ++clients) {
                    Mm& mm = twin.kernel.create_mm();
                    twin.map(mm, kBase, kFilePages * kPageSize, kPtFile, 0);
                    if (clients % 2) twin.kernel.touch(mm, kBase, half, Access::Read);
                    twin.kernel.touch(mm, kBase, kFilePages * kPageSize, Access::Read);
                }
            } catch (const OutOfMemory&) {
            }
            CHECK(clients < 1000);
            said[i] = std::to_string(clients) + '\n' + figures(twin.kernel);
            CHECK(audit(twin.kernel).empty());
        }
        CHECK_EQ(said[0], said[1]);
    }
}
