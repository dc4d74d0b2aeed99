// Format: magic, version, length and checksum of the body; the body, as Snapshot::run goes through
// it. Integers are little-endian and as wide as their types, lists start with their length, files
// and mms are named by their ids (0: none).
#include "snapshot.h"

#include <algorithm>
#include <array>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "audit.h"

namespace ptshare {

namespace {

constexpr char kMagic[] = "PTSHARE\n";
constexpr std::uint64_t kMagicBytes = sizeof(kMagic) - 1;
constexpr std::uint32_t kVersion = 5;
constexpr std::uint64_t kHeadBytes = sizeof(kVersion) + 2 * sizeof(std::uint64_t);
static_assert(sizeof(unsigned) == 4, "fields of this type are written with four bytes");

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error("snapshot: " + what);
}
void expect(bool holds, const char* what) {
    if (!holds) fail(std::string("damaged: ") + what);
}

// FNV-1a. Its steps are bijections: no change of a single byte goes unnoticed.
std::uint64_t checksum(const std::string& bytes) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
}

// Fields to or from bytes: what describes a structure once serves both directions.
template <bool kReads>
class Archive {
  public:
    using Bytes = std::conditional_t<kReads, const std::string, std::string>;
    explicit Archive(Bytes& bytes) : bytes_(bytes) {}

    template <class... Fields>
    void operator()(Fields&... fields) {
        (field(fields), ...);
    }
    // The length of a list whose elements take at least a byte each.
    std::uint64_t length(std::uint64_t have = 0) {
        field(have);
        expect(!kReads || have <= left(), "a list is longer than the data");
        return have;
    }
    template <class List, class Each>
    void list(List& items, const Each& each) {
        const std::uint64_t n = length(items.size());
        if constexpr (kReads) items.resize(n);
        for (auto& item : items) each(item);
    }
    template <class T, class Each>
    void chunked(std::conditional_t<kReads, Chunked<T>, const Chunked<T>>& items,
                 const Each& each) {
        const std::uint64_t n = length(items.size());
        if constexpr (kReads) items.clear();
        for (std::uint64_t i = 0; i < n; ++i) {
            T item = T();
            if constexpr (!kReads) item = items[i];
            each(item);
            if constexpr (kReads) items.append(item);
        }
    }
    std::uint64_t left() const { return bytes_.size() - at_; }

  private:
    template <class T>
    void field(T& value) {
        if constexpr (std::is_enum_v<T>) {
            auto number = static_cast<std::underlying_type_t<T>>(value);
            field(number);
            if constexpr (kReads) value = static_cast<T>(number);
        } else if constexpr (kReads) {
            expect(left() >= sizeof(T), "it ends too early");
            std::uint64_t number = 0;
            for (unsigned i = 0; i < sizeof(T); ++i) {
                number |= std::uint64_t{static_cast<unsigned char>(bytes_[at_++])} << (8 * i);
            }
            value = static_cast<T>(number);
        } else {
            for (unsigned i = 0; i < sizeof(T); ++i) {
                bytes_.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i)));
            }
        }
    }
    template <class Tag>
    void field(Number<Tag>& number) {
        field(number.value);
    }
    template <class Tag>
    void field(const Number<Tag>& number) {
        field(number.value);
    }
    template <class T, std::size_t n>
    void field(std::array<T, n>& items) {
        for (T& item : items) field(item);
    }
    template <class T, std::size_t n>
    void field(const std::array<T, n>& items) {
        for (const T& item : items) field(item);
    }
    void field(std::string& text) {
        list(text, [&](char& c) { field(c); });
    }
    void field(const std::string& text) {
        list(text, [&](const char& c) { field(c); });
    }

    Bytes& bytes_;
    std::uint64_t at_ = 0;  // of the next byte to read
};

}  // namespace

// Reads or writes one kernel. A friend of those whose state it moves.
template <bool kReads>
class Snapshot {
  public:
    template <class T>
    using Of = std::conditional_t<kReads, T, const T>;  // what is only looked at when writing

    Snapshot(Of<Kernel>& kernel, typename Archive<kReads>::Bytes& bytes)
        : kernel_(kernel), io_(bytes) {}

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
                check();
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
        if constexpr (kReads) check_frames();
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
                expect(file->cache_.size() <= file->pages(), "pages beyond the end of a file");
                for (std::uint64_t i = 0; i < file->cache_.size(); ++i) {
                    const Pfn pfn = file->cache_[i];
                    if (pfn != Pfn(0)) claim(pfn, FrameUse::FilePage);
                }
                if (file->huge()) check_huge(*file);
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
            mm.tlb_generation, mm.table.tables_, mm.table.linked_);
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
                claim(page.frame, FrameUse::Table);
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

    void check_frames() {
        FrameAllocator& frames = kernel_.frames_;
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
        expect(free == frames.free_.size() + kEntries * frames.free_huge_.size(),
               "the list of free frames");
        for (const Pfn pfn : frames.free_) claim(pfn, FrameUse::Free);
        for (const Pfn first : frames.free_huge_) {
            expect(is_aligned(first.value, kEntries), "2 MiB of free frames");
            for (std::uint64_t i = 0; i < kEntries; ++i) claim(first + i, FrameUse::Free);
        }
    }

    // A frame has one owner, which uses it as the allocator says.
    void claim(Pfn pfn, FrameUse use) {
        expect(
            pfn.value < claimed_.size() && kernel_.frames_.use(pfn) == use && !claimed_[pfn.value],
            "a frame's use");
        claimed_[pfn.value] = true;
    }

    static void check_huge(const File& file) {
        expect(is_aligned(file.size() | (file.cache_.size() << kPageShift), kPmdSize),
               "the size of a huge file");
        for (std::uint64_t i = 0; i < file.cache_.size(); ++i) {
            const Pfn first = file.cache_[i & ~(kEntries - 1)];
            const Pfn want = first == Pfn(0) ? first : first + i % kEntries;
            expect(is_aligned(first.value, kEntries) && file.cache_[i] == want, "a 2 MiB page");
        }
    }

    // A place for the tree of a further mm.
    PageTable*& new_tree(MmId id, Pfn root) {
        expect(id != MmId(0) && trees_.count(id) == 0, "an mm's id");
        expect(root != Pfn(0), "an mm without a table");  // the tree would allocate one
        return trees_[id];
    }

    // That nothing points into the void, which audit() relies on; it finds whatever else is wrong.
    void check() {
        claim(kernel_.zero_page_, FrameUse::Reserved);
        expect(files_.empty() || files_.rbegin()->first < kernel_.next_file_, "the next file's id");
        expect(trees_.empty() || trees_.rbegin()->first.value < kernel_.next_mm_,
               "the next mm's id");
        const TableStore& store = kernel_.tables_;
        for (const auto& [id, tree] : trees_) {
            const bool rooted = store.is_table(tree->root_) &&
                                store.at(tree->root_).owner == tree &&
                                store.at(tree->root_).level == tree->top_;
            expect(rooted, "the root of a table");
        }
        store.for_each([&](Pfn, const TablePage& page) {
            for (const Pte entry : page.entries) {
                if (entry.none()) continue;
                const bool large = page.level == Level::Pmd && entry.large();
                if (page.level == Level::Pte || large) {
                    const Pfn last = entry.pfn() + (large ? kEntries - 1 : 0);
                    expect(last.value < claimed_.size(), "a leaf beyond memory");
                } else {
                    const bool leads = entry.present() && !entry.large() &&
                                       store.is_table(entry.pfn()) &&
                                       store.at(entry.pfn()).level == below(page.level);
                    expect(leads, "an entry that leads nowhere");
                }
            }
        });
        const std::vector<std::string> problems = audit(kernel_);
        if (!problems.empty()) fail("damaged: " + problems.front());
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

    Of<Kernel>& kernel_;
    Archive<kReads> io_;
    FilesById files_;                   // alive
    std::map<MmId, PageTable*> trees_;  // read: of mms and hosts
    std::vector<bool> claimed_;         // read; index: frame
};

namespace {

std::string take(std::istream& from, std::uint64_t bytes) {
    std::string taken;
    std::array<char, 1 << 16> block;  // a damaged length must not be allocated at once
    while (taken.size() < bytes) {
        const std::uint64_t ask = std::min<std::uint64_t>(block.size(), bytes - taken.size());
        from.read(block.data(), static_cast<std::streamsize>(ask));
        if (from.gcount() == 0) fail("truncated");
        taken.append(block.data(), static_cast<std::size_t>(from.gcount()));
    }
    return taken;
}

}  // namespace

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
