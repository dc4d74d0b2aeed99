// The operations of the operating system that concern memory. See README.md for how they fit.
//
// Kernel knows no clock and no CPU: each operation leaves Effects, which the engine takes, prices
// and, for flushes, carries out on its TLBs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "file.h"
#include "frames.h"
#include "mm.h"
#include "page_set.h"
#include "policy.h"
#include "result.h"
#include "tables.h"
#include "types.h"

namespace ptshare {

struct KernelConfig {
    std::uint64_t memory_bytes = 0;
    unsigned levels = 4;                   // of the page table: 4 or 5
    std::uint64_t fault_around_bytes = 0;  // a power of two, 4 KiB (off) to 2 MiB
    bool dirty_tracking = false;  // shared file pages are mapped read-only until written (ext4)
    bool pt_reclaim = false;  // MADV_DONTNEED frees PTE tables that it covers (CONFIG_PT_RECLAIM)
    std::uint64_t first_frame = 1;  // frames below are another's
    // Options of policies that share ranges: level of the tables that guests link (S13), whether
    // guests may map a range at different addresses (S3), whether anonymous memory is shared (S15).
    // Not set: what the policy does by itself.
    std::optional<Level> share_level = std::nullopt;
    bool share_any_address = false;
    bool share_anonymous = false;
    std::optional<FlushStrategy> flush_strategy = std::nullopt;  // not set: the policy's own
};

// One flush: all mms whose translations one operation changed. `tables_freed`: walk caches too.
// With a host, its tables changed and the targets are its guests; which of them hear of it, and
// how, is the strategy's business. Without one the target is an mm of its own, and its CPUs flush
// as Linux's do (FlushStrategy::Lazy).
struct FlushRequest {
    std::vector<FlushTarget> targets;
    bool tables_freed = false;
    MmId host{};
    MmId caller{};  // whose call it was; 0: nobody's through a mapping
    // Set by the kernel with a host: how the flush is carried out, where the range starts in the
    // host, and the host's Mm::tlb_generation once this is done.
    FlushStrategy strategy = FlushStrategy::Lazy;
    VirtAddr host_start{};
    std::uint64_t host_generation = 0;
};

// What operations did since the last take_effects().
struct Effects {
    std::uint64_t tables_allocated = 0;
    std::uint64_t tables_freed = 0;
    std::uint64_t ptes_changed = 0;  // by mprotect, munmap, madvise, mremap, truncate
    std::uint64_t ptes_copied = 0;   // by fork and by sharing over existing pages
    std::vector<FlushRequest> flushes;
    // Faults that MAP_POPULATE took, in order; equal ones that follow each other are one item.
    std::vector<RepeatedFault> populated;
};

// Running figures that no table walk can give.
struct KernelStats {
    std::array<std::uint64_t, kRefusals> refusals{};  // index: Refusal
    std::uint64_t links = 0;                          // guest PMD entries set to a host's
    std::uint64_t carried_pages = 0;   // PTEs copied into a host when it was made (S5)
    std::uint64_t fell_back = 0;       // requests that were mapped privately without a word
    std::uint64_t dangling_links = 0;  // links to tables that were freed under a guest (rfc-v2)
    // Bytes of address space around guests' ranges where nothing else can be mapped, summed over
    // mms. Invariant: equals a recount over VMAs with a host.
    std::uint64_t room = 0;
    std::uint64_t peak_room = 0;
    std::uint64_t peak_hosts = 0;
    std::uint64_t peak_rss_file = 0;  // pages, summed over mms
    std::uint64_t peak_rss_anon = 0;
    std::uint64_t peak_rss_huge = 0;
};

// What touching pages one after the other came to.
struct TouchResult {
    std::array<std::uint64_t, std::size(kFaultKinds)> faults{};  // index: FaultKind
    std::uint64_t linked = 0;  // of them set an entry to the host's
    std::uint64_t around = 0;  // pages that fault-around mapped besides
    VirtAddr reached;          // the end, or the page whose fault was fatal

    void add(const FaultResult& fault);
    void add(const TouchResult& other);  // all but `reached`
};

class Kernel {
  public:
    // `contents` must outlive the kernel.
    Kernel(const KernelConfig& config, std::unique_ptr<SharingPolicy> policy,
           FrameContents& contents);
    ~Kernel();
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;

    // ---- Address spaces

    Mm& create_mm();
    // A thread (clone with CLONE_VM) uses the mm too: no table, no guest (S16).
    void share_mm(Mm& mm) { ++mm.users; }
    // The child of fork: private pages copy-on-write, shared file PTEs not copied.
    Mm& fork(Mm& parent);
    // A task leaves the mm (exit, exec, killing signal); the last one tears it down.
    void exit(Mm& mm);
    Mm* find_mm(MmId id);

    std::shared_ptr<File> create_file(std::string name);
    // Changes a file's size; pages cut off leave every mapping. A huge file's size is a multiple of
    // 2 MiB.
    Errno truncate(File& file, std::uint64_t bytes);

    // ---- System calls, with Linux's answers

    MapResult mmap(Mm& mm, const MapRequest& request);
    Errno munmap(Mm& mm, VirtAddr start, std::uint64_t length);
    Errno mprotect(Mm& mm, VirtAddr start, std::uint64_t length, std::uint64_t prot);
    MapResult mremap(Mm& mm, VirtAddr old_start, std::uint64_t old_length, std::uint64_t new_length,
                     std::uint64_t flags, VirtAddr new_start);
    Errno madvise(Mm& mm, VirtAddr start, std::uint64_t length, int advice);
    // UFFDIO_REGISTER with UFFDIO_REGISTER_MODE_WP. Modelled is what it does when nothing is ever
    // protected: no fault-around, and shared pages that were only read are mapped read-only. Of
    // shared tables, the host's VMAs are registered, for all guests.
    Errno userfault_register(Mm& mm, VirtAddr start, std::uint64_t length);
    // Moves the end of the heap; returns where it is afterwards.
    VirtAddr brk(Mm& mm, VirtAddr end);

    // ---- Faults

    FaultResult fault(Mm& mm, VirtAddr address, Access access);
    // An access to each page of [start, start + length) in order, with the faults that it takes; to
    // the first fatal one. Where contents count only, whole PTE tables are filled at once: all
    // figures are the same, but tables lie in other frames. A and D bits are the MMU's: not set.
    TouchResult touch(Mm& mm, VirtAddr start, std::uint64_t length, Access access);
    // The same for the pages of a set, page 0 at `start`.
    TouchResult touch(Mm& mm, VirtAddr start, const PageSet& set, Access access);
    // Where contents count only: keeps the mm's own tables in little memory until they change.
    void compact(Mm& mm);

    // ---- For policies

    // Serves a fault in `mm` by its own VMA and table, whatever VM_SHARED_PT says.
    FaultResult fault_in(Mm& mm, Vma& vma, VirtAddr address, Access access);
    // Empties the leaves of [start, end) and drops their pages; returns how many there were.
    std::uint64_t zap(Mm& mm, VirtAddr start, VirtAddr end);
    // Gives [start, end), all of it mapped, a protection: VMAs and leaves. `flush`: a present leaf
    // changed (as the kernel's pte_needs_flush: also when it gained a right). Error: beyond what
    // the file allows.
    struct ProtectResult {
        Errno error = Errno::Ok;
        bool flush = false;
    };
    ProtectResult protect(Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t prot);
    std::shared_ptr<HostMm> create_host(const Vma& creator);
    // A host of one table for the slot of a VMA that holds it.
    std::shared_ptr<HostMm> create_slot_host(const Vma& vma, VirtAddr slot);
    // Unmaps everything in a host and frees its tables, but the root. No guest links them.
    void empty_host(HostMm& host);
    // Ends a host that no guest is attached to.
    void destroy_host(HostMm& host);
    const std::vector<std::shared_ptr<HostMm>>& hosts() const { return hosts_; }
    void request_flush(FlushRequest request);
    // Host addresses [from, to) changed, for all its guests. `caller`: the mm whose call it was;
    // without one, or without a guest beside it, CallerOnly leaves nobody out. `strategy`: not the
    // kernel's.
    void request_host_flush(HostMm& host, VirtAddr from, VirtAddr to, bool tables_freed,
                            MmId caller, std::optional<FlushStrategy> strategy = std::nullopt);
    // Whether no other VMA lies in the units around [start, end).
    bool has_room(const Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t unit) const;
    // Maps a page that another table mapped (S5).
    void adopt_page(Mm& mm, const Vma& vma, VirtAddr address, Pte pte);
    void count_link() { ++stats_.links; }
    // A guest's range has come, or goes.
    void count_room(const Vma& vma) {
        stats_.room += vma.room_bytes();
        stats_.peak_room = std::max(stats_.peak_room, stats_.room);
    }
    void uncount_room(const Vma& vma) { stats_.room -= vma.room_bytes(); }
    void count_dangling_links(std::uint64_t links) { stats_.dangling_links += links; }

    // ---- For engines and audits

    Effects take_effects();
    const KernelStats& stats() const { return stats_; }
    TableStore& tables() { return tables_; }
    const TableStore& tables() const { return tables_; }
    const FrameAllocator& frames() const { return frames_; }
    FrameAllocator& frames() { return frames_; }
    const std::map<MmId, std::unique_ptr<Mm>>& mms() const { return mms_; }
    const std::vector<std::weak_ptr<File>>& files() const { return files_; }
    const KernelConfig& config() const { return config_; }
    Pfn zero_page() const { return zero_page_; }
    VirtAddr task_size() const { return VirtAddr((1ULL << 47) - kPageSize); }
    // Below it mmap places what has no address (the kernel's mm->mmap_base).
    VirtAddr mmap_base() const;
    const SharingPolicy& policy() const { return *policy_; }
    FlushStrategy flush_strategy() const {
        return config_.flush_strategy.value_or(policy_->flush_strategy());
    }

  private:
    template <bool kReads>
    friend class Snapshot;

    // ---- VMAs with VM_HUGETLB (kernel_huge.cc)

    // The host whose table the PUD entry for `address` points at, or null.
    HostMm* slot_host(const Mm& mm, VirtAddr address) const;
    FaultResult fault_huge(Mm& mm, Vma& vma, VirtAddr address, Access access);
    // Takes a linked table out of the mm; the last guest's goes with its pages.
    void unlink_slot(Mm& mm, VirtAddr slot, HostMm& host);
    // All that the VMA links; whether there were any.
    bool unlink_slots(Mm& mm, const Vma& vma);
    // It is in the list no more; its tables are gone, or another's.
    void forget_host(const HostMm& host);
    // The table of a host whose only guest the mm is becomes its own.
    void adopt_slot(Mm& mm, VirtAddr slot, HostMm& host);
    // Cuts the VMA in two, if one holds `address`; the slot that is cut can be shared no more.
    void split(Mm& mm, VirtAddr address);
    // Empties the leaves of [start, end), or only unlinks the table where others use it too.
    struct HugeZap {
        std::uint64_t dropped = 0;
        bool unlinked = false;
    };
    HugeZap zap_huge(Mm& mm, VirtAddr start, VirtAddr end);
    // The same for a VMA that goes: nothing stays linked.
    HugeZap unmap_huge(Mm& mm, const Vma& vma);
    // Leaves a VMA without links, and without leaves that would stand in a slot that the VMA holds
    // at `to`; whether there were any.
    bool unlink_before_move(Mm& mm, const Vma& vma, VirtAddr to);
    // The VMA's own flags and leaves; widens what is to be flushed.
    Errno protect_huge(Mm& mm, VirtAddr start, VirtAddr end, std::uint64_t prot,
                       FlushTarget& changed, bool& unlinked);
    // One flush for what zap_huge() did.
    void flush_huge(Mm& mm, VirtAddr start, VirtAddr end, const HugeZap& zapped);
    // Unmaps a file's cached pages everywhere and turns it into a huge file.
    void make_huge(File& file);

    // ---- The steps of mmap, in the order of Linux's checks (kernel_map.cc)

    struct Mapping;
    // Of the request by itself.
    Errno check(const MapRequest& request) const;
    // Where: the fixed address, the hint, what the policy prefers, or the highest place.
    Errno place(const Mm& mm, Mapping& mapping) const;
    Errno place_fixed(const Mm& mm, Mapping& mapping) const;
    VirtAddr choose_place(const Mm& mm, const Mapping& mapping,
                          const SharingPolicy::Placement& preference) const;  // 0: no room
    // Whether tables are shared, and whether what lies there may make way. Only counts.
    Errno decide(const Mm& mm, Mapping& mapping);
    void insert(Mm& mm, const Mapping& mapping);
    std::vector<CarriedPage> pages_to_carry(const Mm& mm, const Mapping& mapping) const;
    Vma new_vma(const Mapping& mapping);
    void populate(Mm& mm, const Mapping& mapping);
    // Faults until the access goes through, as MAP_POPULATE does; false: it never will.
    bool populate_page(Mm& mm, VirtAddr at, Access access);

    // ---- The steps of mremap, in the order of Linux's checks, and of others (kernel_remap.cc)

    struct Remap;
    Errno check_arguments(const Remap& remap) const;
    // The VMA that is to move.
    Errno check_old(Mm& mm, Remap& remap) const;
    // The place that the caller names.
    Errno check_fixed(const Mm& mm, const Remap& remap) const;
    // Whether what lies behind the VMA left room for it.
    bool grow_in_place(Mm& mm, const Remap& remap);
    void move(Mm& mm, const Remap& remap);
    // Those of the new place of `pages`; OutOfMemory: nothing has changed.
    void make_tables(Mm& mm, const Remap& remap, const Vma& moved,
                     const std::vector<CarriedPage>& pages);
    // MADV_DONTNEED of [start, end) of a VMA.
    Errno discard(Mm& mm, Vma& vma, VirtAddr start, VirtAddr end);
    // Whether all of [start, end) that is mapped can be registered: all or nothing. Anonymous
    // memory and tmpfs can, other file systems cannot.
    Errno check_userfault(const Mm& mm, VirtAddr start, VirtAddr end) const;

    // ---- Others

    // Where to map `length` bytes, top-down below the stack; 0 when there is no room.
    VirtAddr find_area(const Mm& mm, std::uint64_t length, std::uint64_t alignment) const;
    VirtAddr find_anonymous_area(const Mm& mm, std::uint64_t length) const;
    std::uint64_t vm_flags_of(const MapRequest& request) const;
    Errno check_unmap(const Mm& mm, VirtAddr start, VirtAddr end) const;
    // Unmaps what lies in [start, end); the policy has agreed.
    void unmap(Mm& mm, VirtAddr start, VirtAddr end, Leaving how = Leaving::Unmap);
    // Frees tables around a hole that [start, end) is part of.
    void free_tables(Mm& mm, VirtAddr start, VirtAddr end);
    void copy_leaves(Mm& parent, Mm& child, const Vma& vma, bool& withdrew);
    Vma* grow_stack(Mm& mm, VirtAddr address);

    // Whether the first write to a page that was read must be seen (vma_wants_writenotify).
    bool write_notify(const Vma& vma) const { return config_.dirty_tracking || vma.has(kVmUffdWp); }
    Pte leaf_for(const Vma& vma, Pfn pfn, bool writable) const;
    void map_page(Mm& mm, const Vma& vma, VirtAddr address, Pte pte);
    void drop_page(Mm& mm, Pte pte);
    void count_page(Mm& mm, Pte pte, std::int64_t change);
    // Gives the leaves of [start, end) the rights of `vma`; whether a present one changed.
    bool protect_leaves(Mm& mm, const Vma& vma, VirtAddr start, VirtAddr end);
    // ---- touch() of many pages (kernel_touch.cc): as far as it goes, `at` if nowhere

    VirtAddr touch_many(Mm& mm, Vma& vma, VirtAddr at, VirtAddr end, Access access,
                        TouchResult& result);
    VirtAddr touch_file(Mm& mm, const Vma& vma, VirtAddr at, VirtAddr end, Access access,
                        FaultKind kind, TouchResult& result);
    VirtAddr touch_huge(Mm& mm, const Vma& vma, VirtAddr at, VirtAddr end, Access access,
                        TouchResult& result);
    VirtAddr touch_shared(Mm& mm, Vma& vma, VirtAddr at, VirtAddr end, Access access,
                          TouchResult& result);
    // ---- touch() of a set (kernel_touch_set.cc): the PTE tables from `at` on, as far as it goes

    struct SetPart;
    VirtAddr touch_part(Mm& mm, Vma& vma, VirtAddr at, const SetPart& part, TouchResult& result);
    VirtAddr touch_part_of_file(Mm& mm, const Vma& vma, VirtAddr at, const SetPart& part,
                                FaultKind kind, TouchResult& result);
    VirtAddr touch_part_shared(Mm& mm, Vma& vma, VirtAddr at, const SetPart& part,
                               TouchResult& result);
    VirtAddr touch_part_huge(Mm& mm, const Vma& vma, VirtAddr at, const SetPart& part,
                             TouchResult& result);
    // Pages that a fault maps, if all of the window are cached and none is mapped.
    std::uint64_t around_window(const Vma& vma, Access access) const;
    FaultResult fault_missing(Mm& mm, Vma& vma, VirtAddr address, Access access);
    FaultResult fault_write_protected(Mm& mm, Vma& vma, VirtAddr address, Pte pte);
    std::uint64_t fault_around(Mm& mm, const Vma& vma, VirtAddr address);
    Pfn copy_of(Pfn from);
    // The VMA is about to get a page of its own.
    void prepare_anon(Mm& mm, Vma& vma);

    KernelConfig config_;
    std::unique_ptr<SharingPolicy> policy_;
    FrameContents& contents_;  // the engine's
    FrameAllocator frames_;    // before those that give frames back when they go
    TableStore tables_;        // likewise, for their tables
    Pfn zero_page_;  // mapped read-only by reads of untouched anonymous memory; never freed
    std::map<MmId, std::unique_ptr<Mm>> mms_;
    std::vector<std::shared_ptr<HostMm>> hosts_;  // in order of creation
    std::vector<std::weak_ptr<File>> files_;      // all files ever made (restored: those alive)
    std::uint64_t next_mm_ = 1;  // invariant: above all ids so far, as the two below
    std::uint64_t next_file_ = 1;
    std::uint64_t next_anon_vma_ = 1;
    std::uint64_t rss_file_ = 0;  // for the peaks; invariant: sums over mms and hosts
    std::uint64_t rss_anon_ = 0;
    std::uint64_t rss_huge_ = 0;
    std::uint64_t seen_allocated_ = 0;  // table traffic already handed out as effects
    std::uint64_t seen_freed_ = 0;
    Effects effects_;
    KernelStats stats_;
};

}  // namespace ptshare
