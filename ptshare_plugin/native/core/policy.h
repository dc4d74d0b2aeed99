// What a sharing policy decides. One policy is one file in policies/ and registers itself there;
// the kernel asks it whenever MAP_SHARED_PT is requested and for every VMA with VM_SHARED_PT.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mm.h"
#include "result.h"
#include "types.h"
#include "vma.h"

namespace ptshare {

class Kernel;

struct MapRequest {
    VirtAddr address;  // hint, or the address with MAP_FIXED
    std::uint64_t length = 0;
    std::uint64_t prot = 0;
    std::uint64_t flags = 0;
    std::shared_ptr<File> file;  // null: anonymous
    std::uint64_t offset = 0;    // bytes into the file
    bool file_readable = true;   // how the descriptor was opened
    bool file_writable = true;
};

// Why a request for MAP_SHARED_PT was refused; each reason is counted.
enum class Refusal : unsigned { Anonymous, Private, Misaligned, Address, Protection, Size, Room };
constexpr unsigned kRefusals = 7;

struct ShareDecision {
    Errno error = Errno::Ok;              // not Ok: mmap fails with it and changes nothing
    Refusal reason = Refusal::Anonymous;  // of the error
    bool share = false;                   // with Ok: the VMA gets VM_SHARED_PT and is attached
    bool huge = false;                    // with Ok: VM_HUGETLB; the file is turned into a huge one
    // With Ok: what was asked could not be shared, and is mapped privately without a word.
    bool fell_back = false;
    std::uint64_t unit = kPageSize;  // with share: Vma::unit

    static ShareDecision refuse(Errno error, Refusal reason) {
        ShareDecision decision;
        decision.error = error;
        decision.reason = reason;
        return decision;
    }
    static ShareDecision to_share(std::uint64_t unit) {
        ShareDecision decision;
        decision.share = true;
        decision.unit = unit;
        return decision;
    }
    static ShareDecision to_map_huge() {
        ShareDecision decision;
        decision.huge = true;
        return decision;
    }
    static ShareDecision to_fall_back() {
        ShareDecision decision;
        decision.fell_back = true;
        return decision;
    }
};

// Which CPUs must drop translations of tables that several processes walk. An engine carries it
// out; the kernel decides with it whose generation grows.
enum class FlushStrategy : unsigned {
    CallerOnly,  // those that run the caller's mm, as flush_tlb_range on its VMA
    AllCpus,     // all there are, of everything, as flush_tlb_all
    Sharers,     // all that may hold translations of an affected mm, whatever they run
    Lazy,        // those that run an affected mm; others find its newer generation at switch-in
};

// As parameters, tests and `ptshare policies` name them.
constexpr const char* name_of(FlushStrategy strategy) {
    constexpr const char* kNames[] = {"caller-only", "all-cpus", "sharers", "lazy"};
    return kNames[static_cast<unsigned>(strategy)];
}

// How mappings of an mm come to an end.
enum class Leaving : unsigned { Unmap, Exit };  // munmap or MAP_FIXED; exit, exec, a killing signal

// How a fault ended: F(X, kind, name), the name that metrics and studies give it; X is handed on.
// The kinds partition the faults.
#define PTSHARE_FAULT_KINDS(F, X)                                                             \
    F(X, Link, link)                  /* only the guest's PMD entry was missing */            \
    F(X, Host, host)                  /* a page was mapped in a host mm, the link included */ \
    F(X, File, file)                  /* a file page was mapped in the process's own table */ \
    F(X, Anon, anon)                  /* a new anonymous page, or the zero page */            \
    F(X, Cow, cow)                    /* a private copy was made */                           \
    F(X, WriteProtect, write_protect) /* a present page was made writable */                  \
    F(X, Spurious, spurious)          /* the table already permitted the access */            \
    F(X, Segv, segv)                                                                          \
    F(X, Bus, bus)

enum class FaultKind : unsigned {
#define PTSHARE_KIND(X, kind, name) kind,
    PTSHARE_FAULT_KINDS(PTSHARE_KIND, )
#undef PTSHARE_KIND
};

constexpr FaultKind kFaultKinds[] = {
#define PTSHARE_KIND(X, kind, name) FaultKind::kind,
    PTSHARE_FAULT_KINDS(PTSHARE_KIND, )
#undef PTSHARE_KIND
};
constexpr const char* name_of(FaultKind kind) {
    constexpr const char* kNames[] = {
#define PTSHARE_KIND(X, kind, name) #name,
        PTSHARE_FAULT_KINDS(PTSHARE_KIND, )
#undef PTSHARE_KIND
    };
    return kNames[static_cast<unsigned>(kind)];
}
// Whether the process gets a signal instead of its access.
constexpr bool is_fatal(FaultKind kind) {
    return kind == FaultKind::Segv || kind == FaultKind::Bus;
}

struct FaultResult {
    FaultKind kind = FaultKind::Segv;
    bool linked = false;       // a guest PMD entry was set to the host's
    bool region = false;       // in memory for which MAP_SHARED_PT was asked
    std::uint64_t around = 0;  // further pages mapped by fault-around

    bool is_fatal() const { return ptshare::is_fatal(kind); }
    friend bool operator==(const FaultResult& a, const FaultResult& b) {
        return a.kind == b.kind && a.linked == b.linked && a.region == b.region &&
               a.around == b.around;
    }
};

struct RepeatedFault {
    FaultResult result;
    std::uint64_t times = 0;
};

// A page that was mapped where a shared mapping now comes (S5).
struct CarriedPage {
    VirtAddr address;
    Pte pte;
};

class SharingPolicy {
  public:
    virtual ~SharingPolicy() = default;

    // Under which it is registered; empty when make_policy did not make it.
    const std::string& name() const { return name_; }

    // ---- mmap with MAP_SHARED_PT

    // Where to map when the caller leaves the address to the kernel: an address to prefer (0: none)
    // and the alignment of any other. Lengths and hints are rounded up to multiples of `granule`.
    struct Placement {
        VirtAddr preferred;
        std::uint64_t alignment = kPageSize;
        std::uint64_t granule = kPageSize;
    };
    virtual Placement placement(const Kernel& kernel, const MapRequest& request) const;
    // What an address must be a multiple of, for the query call (S14); 0: the flag does nothing.
    virtual std::uint64_t alignment(const Kernel& kernel) const;
    // Judges a request for [start, start + length) whose VMA would have `vm_flags`. Changes
    // nothing.
    virtual ShareDecision decide(const Kernel& kernel, const MapRequest& request, VirtAddr start,
                                 std::uint64_t vm_flags) const;

    // ---- VMAs with VM_SHARED_PT; the defaults are for policies that make none, and throw

    // Attaches a new VMA (inserted, no host yet) to a host mm, an existing one or its own.
    virtual void attach(Kernel& kernel, Mm& mm, Vma& vma, const std::vector<CarriedPage>& carried);
    // Whether [start, end) of the VMA may be unmapped.
    virtual Errno check_unmap(const Vma& vma, VirtAddr start, VirtAddr end) const;
    virtual Errno check_remap(const Vma& vma) const;
    // The whole VMA goes. Returns whether entries of `mm` were cleared: the caller flushes them,
    // with whatever else it unmaps.
    virtual bool detach(Kernel& kernel, Mm& mm, Vma& vma, Leaving how);
    // The last task of `mm` has left, and nothing is mapped in it any more.
    virtual void end(Kernel& kernel, MmId mm);
    // `vma` is the child's copy; its host has not heard of the child yet.
    virtual void fork(Kernel& kernel, Mm& child, Vma& vma);
    virtual FaultResult fault(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr address, Access access);
    // For touching many pages at once, by policies whose fault() does nothing but to have the host
    // mm serve it and to link, and calls what the host calls File, Host and, where only the link
    // was missing, Link: the level of the guest's entry that links. None: each page is asked for.
    virtual std::optional<Level> links_at(const Kernel&) const { return std::nullopt; }
    virtual Errno protect(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end,
                          std::uint64_t prot);
    virtual void discard(Kernel& kernel, Mm& mm, Vma& vma, VirtAddr start, VirtAddr end);

    // How changes of host tables reach TLBs.
    virtual FlushStrategy flush_strategy() const { return FlushStrategy::Lazy; }

    // ---- VMAs with VM_HUGETLB

    // The host of one table that a fault in `slot` of the VMA shall link, which may be a new one;
    // null: the mm has a PMD table of its own (the default).
    virtual HostMm* slot_host(Kernel& kernel, const Vma& vma, VirtAddr slot);

  private:
    friend std::unique_ptr<SharingPolicy> make_policy(const std::string& name);
    std::string name_;
};

struct PolicyInfo {
    std::string name;
    std::string description;
    std::unique_ptr<SharingPolicy> (*make)();
};

// All registered policies, by name.
std::vector<PolicyInfo> policies();
// Throws std::invalid_argument that names the policies there are.
std::unique_ptr<SharingPolicy> make_policy(const std::string& name);

// A static object of this type in a policy's file registers it.
struct RegisterPolicy {
    explicit RegisterPolicy(PolicyInfo info);
};

}  // namespace ptshare
