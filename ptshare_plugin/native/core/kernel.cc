#include "kernel.h"

#include <algorithm>
#include <utility>

#include "range.h"

namespace ptshare {

Kernel::Kernel(const KernelConfig& config, std::unique_ptr<SharingPolicy> policy,
               FrameContents& contents)
    : config_(config),
      policy_(std::move(policy)),
      contents_(contents),
      frames_(config.memory_bytes, config.first_frame),
      tables_(frames_, contents_) {
    zero_page_ = frames_.allocate(FrameUse::Reserved);
    contents_.zero(zero_page_);
}

Kernel::~Kernel() {
    frames_.retire();
    mms_.clear();  // first: their trees look at the hosts' tables that they link
}

Mm& Kernel::create_mm() {
    const MmId id(next_mm_++);
    return *mms_.emplace(id, std::make_unique<Mm>(id, tables_, Owner::Guest, config_.levels))
                .first->second;
}

Mm* Kernel::find_mm(MmId id) {
    const auto it = mms_.find(id);
    return it == mms_.end() ? nullptr : it->second.get();
}

std::shared_ptr<File> Kernel::create_file(std::string name) {
    auto file = std::make_shared<File>(next_file_++, std::move(name), frames_, contents_);
    files_.push_back(file);
    return file;
}

void Kernel::request_flush(FlushRequest request) {
    const bool caller_only = request.strategy == FlushStrategy::CallerOnly;
    for (FlushTarget& target : request.targets) {
        if (caller_only && target.mm != request.caller) continue;
        if (Mm* mm = find_mm(target.mm)) target.generation = ++mm->tlb_generation;
    }
    effects_.flushes.push_back(std::move(request));
}

void Kernel::request_host_flush(HostMm& host, VirtAddr from, VirtAddr to, bool tables_freed,
                                MmId caller, std::optional<FlushStrategy> strategy) {
    FlushRequest request;
    request.targets = host.guest_ranges(from, to);
    request.tables_freed = tables_freed;
    request.host = host.mm.id;
    request.caller = caller;
    request.strategy = strategy.value_or(flush_strategy());
    const bool all_hear =
        caller == MmId(0) || std::all_of(host.guests.begin(), host.guests.end(),
                                         [&](const Guest& guest) { return guest.mm == caller; });
    if (request.strategy == FlushStrategy::CallerOnly && all_hear) {
        request.strategy = FlushStrategy::Lazy;
    }
    request.host_start = from;
    request.host_generation = request.strategy == FlushStrategy::CallerOnly
                                  ? host.mm.tlb_generation
                                  : ++host.mm.tlb_generation;
    request_flush(std::move(request));
}

Effects Kernel::take_effects() {
    Effects taken = std::exchange(effects_, Effects());
    taken.tables_allocated = tables_.allocated() - seen_allocated_;
    taken.tables_freed = tables_.freed() - seen_freed_;
    seen_allocated_ = tables_.allocated();
    seen_freed_ = tables_.freed();
    return taken;
}

std::shared_ptr<HostMm> Kernel::create_host(const Vma& creator) {
    const MmId id(next_mm_++);
    Vma vma = creator;
    vma.flags &= ~kVmSharedPt;
    vma.host = nullptr;
    vma.unit = kPageSize;
    auto host = std::make_shared<HostMm>(id, tables_, config_.levels, vma);
    host->mm.insert(std::move(vma));
    hosts_.push_back(host);
    stats_.peak_hosts = std::max<std::uint64_t>(stats_.peak_hosts, hosts_.size());
    return host;
}

std::shared_ptr<HostMm> Kernel::create_slot_host(const Vma& vma, VirtAddr slot) {
    const MmId id(next_mm_++);
    Vma range = vma;
    range.start = VirtAddr(0);
    range.end = VirtAddr(kPudSize);
    range.file_page = vma.file_page_of(slot);
    auto host = std::make_shared<HostMm>(id, tables_, config_.levels, range, Pfn(0), Level::Pmd);
    host->mm.insert(std::move(range));
    hosts_.push_back(host);
    stats_.peak_hosts = std::max<std::uint64_t>(stats_.peak_hosts, hosts_.size());
    return host;
}

void Kernel::empty_host(HostMm& host) {
    zap(host.mm, host.start, host.end);
    host.mm.vmas.clear();
    host.mm.table.free_tables(VirtAddr(0), kEverything);
}

void Kernel::destroy_host(HostMm& host) {
    empty_host(host);
    forget_host(host);
}

void Kernel::forget_host(const HostMm& host) {
    hosts_.erase(std::find_if(hosts_.begin(), hosts_.end(),
                              [&](const auto& other) { return other.get() == &host; }));
}

// ---- fork and exit

void Kernel::copy_leaves(Mm& parent, Mm& child, const Vma& vma, bool& withdrew) {
    parent.table.for_each_leaf(vma.start, vma.end, [&](VirtAddr address, Pte pte, Level) {
        // May run out of memory: first.
        map_page(child, vma, address, pte.without(Pte::kWrite | Pte::kExclusive | Pte::kAccessed));
        if (frames_.use(pte.pfn()) == FrameUse::AnonPage) frames_.add_reference(pte.pfn());
        withdrew |= pte.writable();
        parent.table.replace(address, pte.without(Pte::kWrite | Pte::kExclusive));
        ++effects_.ptes_copied;
    });
}

Mm& Kernel::fork(Mm& parent) {
    Mm& child = create_mm();
    child.brk_start = parent.brk_start;
    child.brk = parent.brk;
    bool withdrew = false;
    // As dup_mmap: one flush of the whole parent, at the end.
    const auto flush = [&] {
        if (withdrew) request_flush({{{parent.id, VirtAddr(0), task_size()}}, false});
    };
    try {
        for (const auto& [start, vma] : parent.vmas) {
            Vma& copy = child.vmas.emplace(start, vma).first->second;
            // userfaultfd stays with the parent (no UFFD_FEATURE_EVENT_FORK).
            copy.flags &= ~kVmUffdWp;
            if (copy.anon_vma != 0) {
                copy.anon_vma = next_anon_vma_++;
                copy.anon_inherited = true;
            }
            if (vma.host) {
                policy_->fork(*this, child, copy);
            } else if (vma.anon_vma != 0 || vma.has(kVmPfnMap)) {
                // Only memory with pages of its own: the rest can be faulted in again (the
                // kernel's vma_needs_copy). Tables come first, empty ones too.
                child.table.copy_tables(parent.table, vma.start, vma.end);
                copy_leaves(parent, child, vma, withdrew);
            }
        }
    } catch (const OutOfMemory&) {
        flush();
        exit(child);
        throw;
    }
    flush();
    return child;
}

void Kernel::exit(Mm& mm) {
    if (--mm.users != 0) return;
    const MmId id = mm.id;
    unmap(mm, VirtAddr(0), task_size(), Leaving::Exit);
    mms_.erase(id);
    policy_->end(*this, id);
}

// ---- Pages and their counters

void Kernel::count_page(Mm& mm, Pte pte, std::int64_t change) {
    const FrameUse use = frames_.use(pte.pfn());
    const auto add = static_cast<std::uint64_t>(change);  // two's complement: adds or subtracts
    if (pte.large()) {
        mm.rss_huge += add * kEntries;
        rss_huge_ += add * kEntries;
        stats_.peak_rss_huge = std::max(stats_.peak_rss_huge, rss_huge_);
    } else if (use == FrameUse::FilePage) {
        mm.rss_file += add;
        rss_file_ += add;
        stats_.peak_rss_file = std::max(stats_.peak_rss_file, rss_file_);
    } else if (use == FrameUse::AnonPage) {
        mm.rss_anon += add;
        rss_anon_ += add;
        stats_.peak_rss_anon = std::max(stats_.peak_rss_anon, rss_anon_);
    }  // the zero page counts nowhere, as in the kernel
}

void Kernel::map_page(Mm& mm, const Vma& vma, VirtAddr address, Pte pte) {
    mm.table.set(address, pte, Level::Pte, vma.share_requested);
    count_page(mm, pte, 1);
}

void Kernel::drop_page(Mm& mm, Pte pte) {
    const Pfn pfn = pte.pfn();
    count_page(mm, pte, -1);
    if (frames_.use(pfn) == FrameUse::AnonPage && frames_.drop_reference(pfn)) {
        contents_.released(pfn);
    }
}

std::uint64_t Kernel::zap(Mm& mm, VirtAddr start, VirtAddr end) {
    std::uint64_t dropped = 0;
    mm.table.for_each_leaf(start, end, [&](VirtAddr address, Pte pte, Level level) {
        mm.table.replace(address, Pte(), level);
        drop_page(mm, pte);
        ++dropped;
    });
    effects_.ptes_changed += dropped;
    return dropped;
}

Errno Kernel::truncate(File& file, std::uint64_t bytes) {
    if (file.huge() && !is_aligned(bytes, kPmdSize)) return Errno::Invalid;
    const std::uint64_t first_cut = (bytes + kPageSize - 1) >> kPageShift;
    const auto cut = [&](Mm& mm, HostMm* host) {
        for (const auto& [start, vma] : mm.vmas) {
            if (vma.file.get() != &file || vma.host) continue;
            const std::uint64_t keep = first_cut > vma.file_page ? first_cut - vma.file_page : 0;
            if (keep >= vma.bytes() >> kPageShift) continue;
            const VirtAddr from = start + (keep << kPageShift);
            if (vma.has(kVmHugetlb)) {
                flush_huge(mm, from, vma.end, zap_huge(mm, from, vma.end));
                continue;
            }
            if (zap(mm, from, vma.end) == 0) continue;
            if (host) {
                request_host_flush(*host, from, vma.end, false, MmId(0));
            } else {
                request_flush({{{mm.id, from, vma.end}}, false});
            }
        }
    };
    if (bytes < file.size()) {
        for (const auto& [id, mm] : mms_) cut(*mm, nullptr);
        for (const auto& host : hosts_) {
            if (!host->of_one_table()) cut(host->mm, host.get());  // they through their guests
        }
    }
    file.resize(bytes);
    return Errno::Ok;
}

}  // namespace ptshare
