#include "audit.h"

#include <map>
#include <set>
#include <sstream>
#include <utility>

namespace ptshare {

namespace {

class Auditor {
  public:
    explicit Auditor(const Kernel& kernel) : kernel_(kernel) {}

    std::vector<std::string> run() {
        for (const auto& [id, mm] : kernel_.mms()) check_mm(*mm);
        for (const auto& host : kernel_.hosts()) {
            check_mm(host->mm);
            check_guests(*host);
        }
        check_machine();
        return std::move(problems_);
    }

  private:
    template <class... Parts>
    void expect(bool holds, const Parts&... parts) {
        if (holds) return;
        std::ostringstream line;
        (line << ... << parts);
        problems_.push_back(line.str());
    }

    void check_mm(const Mm& mm) {
        Recount seen;
        check_vmas(mm);
        check_table(mm, mm.table.root(), seen);
        for (unsigned level = 0; level < kLevels; ++level) {
            expect(seen.tables[level] == mm.table.tables(static_cast<Level>(level)), "mm ",
                   mm.id.value, ": ", mm.table.tables(static_cast<Level>(level)),
                   " tables counted at level ", level, ", ", seen.tables[level], " found");
            expect(seen.linked[level] == mm.table.linked_tables(static_cast<Level>(level)), "mm ",
                   mm.id.value, ": ", mm.table.linked_tables(static_cast<Level>(level)),
                   " links counted to level ", level, ", ", seen.linked[level], " found");
        }
        expect(seen.rss_file == mm.rss_file, "mm ", mm.id.value, ": rss_file is ", mm.rss_file,
               ", ", seen.rss_file, " found");
        expect(seen.rss_huge == mm.rss_huge, "mm ", mm.id.value, ": rss_huge is ", mm.rss_huge,
               ", ", seen.rss_huge, " found");
        expect(seen.rss_anon == mm.rss_anon, "mm ", mm.id.value, ": rss_anon is ", mm.rss_anon,
               ", ", seen.rss_anon, " found");
    }

    void check_vmas(const Mm& mm) {
        VirtAddr last;
        for (const auto& [start, vma] : mm.vmas) {
            expect(start == vma.start && vma.start < vma.end && vma.start >= last, "mm ",
                   mm.id.value, ": VMA at 0x", std::hex, start.value, " overlaps or is misfiled");
            expect(is_aligned(vma.start.value | vma.end.value, kPageSize), "mm ", mm.id.value,
                   ": VMA at 0x", std::hex, start.value, " is not page-aligned");
            expect(vma.has(kVmSharedPt) == (vma.host != nullptr), "mm ", mm.id.value,
                   ": VM_SHARED_PT and host differ at 0x", std::hex, start.value);
            expect(!vma.has(kVmHugetlb) ||
                       (is_aligned(vma.start.value | vma.end.value, kPmdSize) && vma.file &&
                        vma.file->huge() && vma.file_page % kEntries == 0),
                   "mm ", mm.id.value, ": VM_HUGETLB on what is no mapping of 2 MiB pages at 0x",
                   std::hex, start.value);
            if (vma.host) attached_[vma.host.get()].insert({mm.id, vma.start});
            last = vma.end;
        }
    }

    struct Recount {
        std::array<std::uint64_t, kLevels> tables{};
        std::array<std::uint64_t, kLevels> linked{};
        std::uint64_t rss_file = 0;
        std::uint64_t rss_anon = 0;
        std::uint64_t rss_huge = 0;
    };

    void check_table(const Mm& mm, Pfn pfn, Recount& seen) {
        const TablePage& page = kernel_.tables().at(pfn);
        expect(reached_.insert(pfn).second, "table frame ", pfn.value, " is reached twice");
        expect(kernel_.frames().use(pfn) == FrameUse::Table, "table frame ", pfn.value,
               " is not allocated as one");
        const VirtAddr end = page.base + entry_span(page.level) * kEntries;
        expect(pfn == mm.table.root() || mm.overlaps(page.base, end), "mm ", mm.id.value,
               ": table at 0x", std::hex, page.base.value, " outlives its VMAs");
        ++seen.tables[index_of(page.level)];
        ++counts_.by_level[index_of(kernel_name(page.level, mm.table.levels()))];
        ++counts_.by_owner[static_cast<unsigned>(mm.table.owner())];
        if (page.region) ++counts_.region_pte;
        std::uint64_t occupied = 0;
        for (std::uint64_t i = 0; i < kEntries; ++i) {
            const Pte entry = page.entries[i];
            if (entry.none()) continue;
            ++occupied;
            const VirtAddr address = page.base + i * entry_span(page.level);
            if (page.level == Level::Pte || entry.large()) {
                check_leaf(mm, address, entry, page.level, seen);
            } else if (!kernel_.tables().is_table(entry.pfn())) {
                expect(false, "mm ", mm.id.value, ": entry at 0x", std::hex, address.value,
                       " points at frame ", std::dec, entry.pfn().value, ", which is no table");
            } else if (const TablePage& next = kernel_.tables().at(entry.pfn());
                       next.owner == &mm.table) {
                expect(next.base == address && next.level == below(page.level), "table frame ",
                       entry.pfn().value, " hangs in the wrong place");
                check_table(mm, entry.pfn(), seen);
            } else {
                ++seen.linked[index_of(next.level)];
                check_link(mm, address, entry, page.level);
            }
        }
        expect(occupied == page.occupied, "table frame ", pfn.value, ": ", page.occupied,
               " entries counted, ", occupied, " found");
    }

    void check_leaf(const Mm& mm, VirtAddr address, Pte pte, Level level, Recount& seen) {
        const Vma* vma = const_cast<Mm&>(mm).find(address);
        expect(vma != nullptr, "mm ", mm.id.value, ": leaf at 0x", std::hex, address.value,
               " without a VMA");
        if (!vma) return;
        expect(!vma->host, "mm ", mm.id.value, ": own leaf at 0x", std::hex, address.value,
               " in a shared VMA");
        expect(!pte.writable() || vma->has(kVmWrite), "mm ", mm.id.value, ": writable leaf at 0x",
               std::hex, address.value, " in a VMA that is not");
        expect(!pte.present() || pte.executable() == vma->has(kVmExec), "mm ", mm.id.value,
               ": NX of the leaf at 0x", std::hex, address.value, " differs from its VMA");
        expect(pte.present() == vma->has(kVmProtMask), "mm ", mm.id.value, ": leaf at 0x", std::hex,
               address.value, " present against its VMA");
        expect(vma->has(kVmHugetlb) == (level == Level::Pmd), "mm ", mm.id.value, ": leaf at 0x",
               std::hex, address.value, " is of the wrong size for its VMA");
        const FrameUse use = kernel_.frames().use(pte.pfn());
        if (level == Level::Pmd) {
            seen.rss_huge += kEntries;
            bool right = vma->file != nullptr && address + kPmdSize <= vma->end;
            for (std::uint64_t i = 0; right && i < kEntries; ++i) {
                right = vma->file->cached(vma->file_page_of(address) + i) == pte.pfn() + i;
            }
            expect(right, "mm ", mm.id.value, ": leaf at 0x", std::hex, address.value,
                   " is not the file's 2 MiB page");
        } else if (use == FrameUse::FilePage) {
            ++seen.rss_file;
            const bool right =
                vma->file && vma->file->cached(vma->file_page_of(address)) == pte.pfn();
            expect(right, "mm ", mm.id.value, ": leaf at 0x", std::hex, address.value,
                   " is not the file's page");
            expect(!pte.writable() || vma->has(kVmShared), "mm ", mm.id.value,
                   ": private mapping writes the file's page at 0x", std::hex, address.value);
        } else if (use == FrameUse::AnonPage) {
            ++seen.rss_anon;
            ++anon_[pte.pfn()];
            expect(!pte.writable() || kernel_.frames().references(pte.pfn()) == 1, "mm ",
                   mm.id.value, ": writable leaf of a shared private page at 0x", std::hex,
                   address.value);
        } else {
            expect(pte.pfn() == kernel_.zero_page() && !pte.writable(), "mm ", mm.id.value,
                   ": leaf at 0x", std::hex, address.value, " maps frame ", std::dec,
                   pte.pfn().value, ", which holds no page");
        }
    }

    void check_link(const Mm& mm, VirtAddr address, Pte entry, Level level) {
        const Vma* vma = const_cast<Mm&>(mm).find(address);
        if (!vma) {  // a VMA may begin further up in what one link translates
            vma = mm.after(address);
            if (vma && vma->room_start() > address) vma = nullptr;
        }
        if (level == Level::Pud && vma && vma->has(kVmHugetlb)) {
            check_slot(mm, *vma, address, entry);
            return;
        }
        const bool shared = vma && vma->host && !vma->host->is_dead();
        expect(shared, "mm ", mm.id.value, ": foreign table linked at 0x", std::hex, address.value,
               " outside a shared VMA");
        if (!shared) return;
        HostMm& host = *vma->host;
        const Pte* theirs = host.mm.table.find(host.to_host(*vma, address), level);
        expect(theirs && *theirs == entry, "mm ", mm.id.value, ": ", kLevelNames[index_of(level)],
               " entry at 0x", std::hex, address.value, " differs from its host's");
    }

    void check_slot(const Mm& mm, const Vma& vma, VirtAddr slot, Pte entry) {
        const HostMm* host = nullptr;
        for (const auto& candidate : kernel_.hosts()) {
            if (candidate->of_one_table() && candidate->mm.table.root() == entry.pfn()) {
                host = candidate.get();
            }
        }
        expect(host && holds_slot(vma, slot) && host->flags == vma.flags &&
                   host->file == vma.file && host->file_page == vma.file_page_of(slot),
               "mm ", mm.id.value, ": the PMD table linked at 0x", std::hex, slot.value,
               " is not for its VMA");
        if (host) attached_[host].insert({mm.id, slot});
    }

    void check_guests(const HostMm& host) {
        std::multiset<std::pair<MmId, VirtAddr>> listed;
        for (const Guest& guest : host.guests) listed.insert({guest.mm, guest.start});
        VirtAddr covered = host.start;
        for (const auto& [start, vma] : host.mm.vmas) {
            if (start == covered) covered = vma.end;
        }
        expect(covered == host.end || host.is_dead(), "host mm ", host.mm.id.value,
               ": VMAs leave a hole at 0x", std::hex, covered.value);
        expect(!listed.empty() || host.is_kept(), "host mm ", host.mm.id.value, " without a guest");
        expect(host.owner == MmId(0) || kernel_.mms().count(host.owner) == 1, "host mm ",
               host.mm.id.value, " of a process that is gone");
        expect(listed == attached_[&host], "host mm ", host.mm.id.value, ": ", listed.size(),
               " guests listed, ", attached_[&host].size(), " attached");
        attached_.erase(&host);
    }

    void check_machine() {
        std::uint64_t room = 0;
        for (const auto& [id, mm] : kernel_.mms()) {
            for (const auto& [start, vma] : mm->vmas) room += vma.host ? vma.room_bytes() : 0;
        }
        expect(room == kernel_.stats().room, kernel_.stats().room,
               " bytes around shared ranges counted, ", room, " found");
        for (const auto& [host, guests] : attached_) {
            expect(guests.empty(), "a VMA is attached to a host mm that is gone");
        }
        expect(counts_ == kernel_.tables().counts(),
               "table counts: ", kernel_.tables().counts().total(), " claimed, ", counts_.total(),
               " found");
        const FrameAllocator& frames = kernel_.frames();
        expect(frames.in_use(FrameUse::Table) == reached_.size(),
               "table frames: ", frames.in_use(FrameUse::Table), " in use, ", reached_.size(),
               " reached");
        expect(frames.in_use(FrameUse::AnonPage) == anon_.size(),
               "anonymous frames: ", frames.in_use(FrameUse::AnonPage), " in use, ", anon_.size(),
               " mapped");
        for (const auto& [pfn, mapped] : anon_) {
            expect(frames.references(pfn) == mapped, "frame ", pfn.value, ": ",
                   frames.references(pfn), " references, mapped ", mapped, " times");
        }
        std::uint64_t cached = 0;
        for (const auto& weak : kernel_.files()) {
            const auto file = weak.lock();
            for (std::uint64_t i = 0; file && i < file->cached_end(); ++i) {
                if (file->cached(i) != Pfn(0)) ++cached;
            }
        }
        expect(frames.in_use(FrameUse::FilePage) == cached,
               "page-cache frames: ", frames.in_use(FrameUse::FilePage), " in use, ", cached,
               " cached");
    }

    const Kernel& kernel_;
    std::vector<std::string> problems_;
    std::set<Pfn> reached_;
    TableCounts counts_;
    std::map<Pfn, std::uint64_t> anon_;
    std::map<const HostMm*, std::multiset<std::pair<MmId, VirtAddr>>> attached_;
};

}  // namespace

std::vector<std::string> audit(const Kernel& kernel) {
    return Auditor(kernel).run();
}

}  // namespace ptshare
