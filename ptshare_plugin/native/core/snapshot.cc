// Format: magic, version, length and checksum of the body; the body, as Snapshot::run goes through
// it, in the encoding of archive.h. Files and mms are named by their ids (0: none).
#include "snapshot.h"

#include <istream>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "archive.h"
#include "snapshot_checks.h"

namespace ptshare {

using snapshot::Archive;
using snapshot::checksum;
using snapshot::expect;
using snapshot::fail;
using snapshot::take;

namespace {

constexpr char kMagic[] = "PTSHARE\n";
constexpr std::uint64_t kMagicBytes = sizeof(kMagic) - 1;
constexpr std::uint32_t kVersion = 6;
constexpr std::uint64_t kHeadBytes = sizeof(kVersion) + 2 * sizeof(std::uint64_t);

}  // namespace

// Reads or writes one kernel. A friend of those whose state it moves.
template <bool kReads>
class Snapshot {
  public:
    template <class T>
    using Of = std::conditional_t<kReads, T, const T>;  // what is only looked at when writing

    Snapshot(Of<Kernel>& kernel, typename Archive<kReads>::Bytes& bytes)
        : kernel_(kernel), io_(bytes), checks_(kernel) {}

    FilesById run() {
        try {
            origin();
            frames();
            files();
            hosts();
            mms();
            tables();
            rest();
            if constexpr (kReads) {
                expect(io_.left() == 0, "it goes on after its end");
                checks_.ids(files_, kernel_.next_file_, trees_, MmId(kernel_.next_mm_));
                checks_.whole(trees_);
            }
        } catch (...) {
            if constexpr (kReads) abandon();
            throw;
        }
        return std::move(files_);
    }

  private:
    // ---- Parts, in the order of the format

    // What has to be the same already.
    void origin() {
        std::string policy = kernel_.policy().name();
        KernelConfig config = kernel_.config_;
        // Each field by its name, here and below: one more does not compile.
        auto& [memory_bytes, levels, fault_around_bytes, dirty_tracking, pt_reclaim, first_frame,
               share_level, any_address, anonymous, flush_strategy] = config;
        std::uint64_t level = number(share_level);
        std::uint64_t strategy = number(flush_strategy);
        io_(policy, memory_bytes, levels, fault_around_bytes, dirty_tracking, pt_reclaim,
            first_frame, level, any_address, anonymous, strategy);
        if constexpr (kReads) {
            const KernelConfig& here = kernel_.config_;
            same("policy", policy, kernel_.policy().name());
            same("memory_bytes", memory_bytes, here.memory_bytes);
            same("levels", levels, here.levels);
            same("fault_around_bytes", fault_around_bytes, here.fault_around_bytes);
            same("dirty_tracking", dirty_tracking, here.dirty_tracking);
            same("pt_reclaim", pt_reclaim, here.pt_reclaim);
            same("first_frame", first_frame, here.first_frame);
            same("share_level", level, number(here.share_level));
            same("share_any_address", any_address, here.share_any_address);
            same("share_anonymous", anonymous, here.share_anonymous);
            same("flush_strategy", strategy, number(here.flush_strategy));
        }
    }
    // 0: not set.
    template <class Enum>
    static std::uint64_t number(const std::optional<Enum>& value) {
        return value ? 1 + static_cast<std::uint64_t>(*value) : 0;
    }
    static void same(const char* what, const std::string& saved, const std::string& here) {
        if (saved == here) return;
        fail(std::string("made with ") + what + " " + saved + ", but this kernel has " + here);
    }
    static void same(const char* what, std::uint64_t saved, std::uint64_t here) {
        same(what, std::to_string(saved), std::to_string(here));
    }

    void frames() {
        Of<FrameAllocator>& frames = kernel_.frames_;
        io_.template chunked<typename FrameAllocator::Frame>(
            frames.frames_, [&](auto& frame) { io_(frame.use, frame.references); });
        io_.list(frames.free_, [&](auto& pfn) { io_(pfn); });
        io_.list(frames.free_huge_, [&](auto& pfn) { io_(pfn); });
        io_.list(frames.lists_, [&](auto& list) { io_.list(list, [&](auto& pfn) { io_(pfn); }); });
        if constexpr (kReads) checks_.frames(frames);
    }

    // Those that somebody holds; nothing is left of the others.
    void files() {
        if constexpr (kReads) {
            kernel_.files_.clear();
            for (std::uint64_t n = io_.length(); n != 0; --n) {
                std::uint64_t id = 0;
                std::string name;
                io_(id, name);
                auto file =
                    std::make_shared<File>(id, std::move(name), kernel_.frames_, kernel_.contents_);
                expect(id != 0 && files_.emplace(id, file).second, "a file's id");
                kernel_.files_.push_back(file);
                contents_of(*file);
                checks_.file(*file);
            }
        } else {
            for (const auto& weak : kernel_.files_) {
                if (auto file = weak.lock()) files_.emplace(file->id(), std::move(file));
            }
            io_.length(files_.size());
            for (const auto& [id, file] : files_) {
                io_(id, file->name());
                contents_of(*file);
            }
        }
    }
    void contents_of(Of<File>& file) {
        io_(file.size_, file.huge_);
        io_.template chunked<Pfn>(file.cache_, [&](auto& pfn) { io_(pfn); });
    }

    void hosts() {
        const std::uint64_t n = io_.length(kernel_.hosts_.size());
        for (std::uint64_t i = 0; i < n; ++i) {
            MmId id;
            Pfn root;
            bool one_table = false;
            Vma range;  // as the host's constructor takes it
            if constexpr (!kReads) {
                const HostMm& host = *kernel_.hosts_[i];
                id = host.mm.id;
                root = host.mm.table.root_;
                one_table = host.of_one_table();
                range.start = host.start;
                range.end = host.end;
                range.flags = host.flags;
                range.file = host.file;
                range.file_page = host.file_page;
            }
            io_(id, root, one_table);
            vma_fields(range);
            if constexpr (kReads) {
                expect(range.file != nullptr, "a host without a file");
                PageTable*& tree = new_tree(id, root);
                kernel_.hosts_.push_back(std::make_shared<HostMm>(
                    id, kernel_.tables_, kernel_.config_.levels, range, root,
                    one_table ? std::optional<Level>(Level::Pmd) : std::nullopt));
                tree = &kernel_.hosts_.back()->mm.table;
            }
            auto& host = *kernel_.hosts_[i];
            mm_fields(host.mm);
            io_(host.level, host.owner, host.references);
            if constexpr (kReads) expect(host.level <= Level::Pud, "a host's level");
            io_.list(host.guests, [&](auto& guest) {
                auto& [mm, start] = guest;
                io_(mm, start);
            });
        }
    }

    void mms() {
        if constexpr (kReads) {
            for (std::uint64_t n = io_.length(); n != 0; --n) {
                MmId id;
                Pfn root;
                io_(id, root);
                PageTable*& tree = new_tree(id, root);
                auto& mm = kernel_.mms_[id];
                mm = std::make_unique<Mm>(id, kernel_.tables_, Owner::Guest, kernel_.config_.levels,
                                          root);
                tree = &mm->table;
                mm_fields(*mm);
            }
        } else {
            io_.length(kernel_.mms_.size());
            for (const auto& [id, mm] : kernel_.mms_) {
                io_(id, mm->table.root_);
                mm_fields(*mm);
            }
        }
    }
    void mm_fields(Of<Mm>& mm) {
        io_(mm.rss_file, mm.rss_anon, mm.rss_huge, mm.brk_start, mm.brk, mm.users,
            mm.tlb_generation, mm.cpus, mm.next_trim, mm.table.tables_, mm.table.linked_);
        if constexpr (kReads) {
            for (std::uint64_t n = io_.length(); n != 0; --n) {
                Vma vma;
                vma_fields(vma);
                const VirtAddr start = vma.start;
                expect(mm.vmas.emplace(start, std::move(vma)).second, "two VMAs in one place");
            }
        } else {
            io_.length(mm.vmas.size());
            for (const auto& [start, vma] : mm.vmas) vma_fields(vma);
        }
    }
    template <class V>
    void vma_fields(V& vma) {
        auto& [start, end, flags, file, file_page, host, unit, share_requested, anon_vma,
               anon_inherited] = vma;
        std::uint64_t file_id = file ? file->id() : 0;
        MmId host_id = host ? host->mm.id : MmId(0);
        io_(start, end, flags, file_id, file_page, host_id, unit, share_requested, anon_vma,
            anon_inherited);
        if constexpr (kReads) {
            expect(unit >= kPageSize && (unit & (unit - 1)) == 0,
                   "what a link of a VMA translates");
            if (file_id != 0) {
                const auto it = files_.find(file_id);
                expect(it != files_.end(), "a VMA of no file");
                file = it->second;
            }
            if (host_id != MmId(0)) {
                for (const auto& candidate : kernel_.hosts_) {
                    if (candidate->mm.id == host_id) host = candidate;
                }
                expect(host != nullptr, "a VMA of no host");
            }
        }
    }

    void tables() {
        Of<TableStore>& store = kernel_.tables_;
        if constexpr (kReads) {
            for (std::uint64_t n = io_.length(); n != 0; --n) {
                TablePage page;
                MmId owner;
                page_fields(page, owner);
                const auto it = trees_.find(owner);
                expect(it != trees_.end(), "a table of no mm");
                page.owner = it->second;
                expect(page.level <= page.owner->top(), "a table's level");
                checks_.claim(page.frame, FrameUse::Table);
                store.put(std::make_unique<TablePage>(page));
            }
        } else {
            std::map<const PageTable*, MmId> owners;
            for (const auto& [id, mm] : kernel_.mms_) owners[&mm->table] = id;
            for (const auto& host : kernel_.hosts_) owners[&host->mm.table] = host->mm.id;
            std::uint64_t live = 0;
            store.for_each([&](Pfn, const TablePage&) { ++live; });
            io_.length(live);
            store.for_each([&](Pfn, const TablePage& page) {
                MmId owner = owners.at(page.owner);
                page_fields(page, owner);
            });
        }
        counts_fields(store.counts_);
        counts_fields(store.peak_);
        io_(store.peak_region_pte_, store.allocated_, store.freed_);
    }
    template <class Page>
    void page_fields(Page& page, MmId& owner_id) {
        auto& [entries, owner, frame, base, level, occupied, region] = page;
        io_(owner_id, frame, base, level, occupied, region);
        std::uint16_t index = 0;
        std::uint64_t bits = 0;
        if constexpr (kReads) {
            for (unsigned n = occupied; n != 0; --n) {
                io_(index, bits);
                expect(index < kEntries && entries[index].none() && bits != 0, "a table's entry");
                entries[index] = Pte(bits);
            }
        } else {
            for (; index < kEntries; ++index) {
                bits = entries[index].bits();
                if (bits != 0) io_(index, bits);
            }
        }
    }
    template <class Counts>
    void counts_fields(Counts& counts) {
        auto& [by_level, by_owner, region_pte] = counts;
        io_(by_level, by_owner, region_pte);
    }

    void rest() {
        auto& k = kernel_;
        io_(k.zero_page_, k.next_mm_, k.next_file_, k.next_anon_vma_, k.rss_file_, k.rss_anon_,
            k.rss_huge_, k.seen_allocated_, k.seen_freed_);
        {
            auto& [tables_allocated, tables_freed, ptes_changed, ptes_copied, flushes, populated] =
                k.effects_;
            io_(tables_allocated, tables_freed, ptes_changed, ptes_copied);
            io_.list(flushes, [&](auto& request) {
                auto& [targets, freed, host, caller, strategy, host_start, host_generation] =
                    request;
                io_(freed, host, caller, strategy, host_start, host_generation);
                io_.list(targets, [&](auto& target) {
                    auto& [mm, start, end, generation] = target;
                    io_(mm, start, end, generation);
                });
            });
            io_.list(populated, [&](auto& item) {
                auto& [kind, linked, region, around] = item.result;
                io_(kind, linked, region, around, item.times);
            });
        }
        auto& [refusals, links, carried, fell_back, dangling, room, peak_room, peak_hosts,
               peak_rss_file, peak_rss_anon, peak_rss_huge] = k.stats_;
        io_(refusals, links, carried, fell_back, dangling, room, peak_room, peak_hosts,
            peak_rss_file, peak_rss_anon, peak_rss_huge);
    }

    // ---- Reading only

    // A place for the tree of a further mm.
    PageTable*& new_tree(MmId id, Pfn root) {
        expect(id != MmId(0) && trees_.count(id) == 0, "an mm's id");
        expect(root != Pfn(0), "an mm without a table");  // the tree would allocate one
        return trees_[id];
    }

    // Destructors must not give back what may have been read wrongly.
    void abandon() noexcept {
        for (const auto& [id, tree] : trees_) {
            if (tree) tree->root_ = Pfn(0);
        }
        for (const auto& [id, file] : files_) {
            file->size_ = 0;
            file->cache_.clear();
        }
    }

    Of<Kernel>& kernel_;  // the caller's
    Archive<kReads> io_;
    FilesById files_;        // alive
    TreesById trees_;        // read: of mms and hosts, which own them
    SnapshotChecks checks_;  // read
};

void save(const Kernel& kernel, std::ostream& to) {
    std::string body;
    Snapshot<false>(kernel, body).run();
    std::string head = kMagic;
    Archive<false> io(head);
    const std::uint64_t length = body.size();
    const std::uint64_t sum = checksum(body);
    io(kVersion, length, sum);
    to << head << body;
    if (!to) fail("cannot be written");
}

FilesById restore(Kernel& kernel, std::istream& from) {
    if (!kernel.files().empty() || kernel.tables().allocated() != 0) {
        throw std::logic_error("restore() into a kernel that has run");
    }
    if (take(from, kMagicBytes) != kMagic) fail("these data are none of a ptshare kernel");
    const std::string head = take(from, kHeadBytes);
    std::uint32_t version = 0;
    std::uint64_t length = 0;
    std::uint64_t sum = 0;
    Archive<true> io(head);
    io(version, length, sum);
    if (version != kVersion) {
        fail("its format is version " + std::to_string(version) + ", this program reads version " +
             std::to_string(kVersion));
    }
    const std::string body = take(from, length);
    if (checksum(body) != sum) fail("damaged: its checksum differs");
    return Snapshot<true>(kernel, body).run();
}

}  // namespace ptshare
