// A virtual memory area: one mapping of one address space.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "file.h"
#include "types.h"

namespace ptshare {

class HostMm;

// Linux's values for protection and mapping flags (uapi/asm-generic/mman*.h).
constexpr std::uint64_t kProtRead = 1;
constexpr std::uint64_t kProtWrite = 2;
constexpr std::uint64_t kProtExec = 4;
constexpr std::uint64_t kProtMask = kProtRead | kProtWrite | kProtExec;

constexpr std::uint64_t kMapShared = 0x01;
constexpr std::uint64_t kMapPrivate = 0x02;
constexpr std::uint64_t kMapSharedValidate = 0x03;
constexpr std::uint64_t kMapTypeMask = 0x0f;
constexpr std::uint64_t kMapFixed = 0x10;
constexpr std::uint64_t kMapAnonymous = 0x20;
constexpr std::uint64_t kMapGrowsDown = 0x0100;
constexpr std::uint64_t kMapPopulate = 0x8000;
constexpr std::uint64_t kMapFixedNoReplace = 0x100000;
constexpr std::uint64_t kMapSharedPt = 0x200000;  // the flag of the RFC

// VMA flags with the kernel's names (include/linux/mm.h). VM_SHARED_PT needs a bit above 31.
constexpr std::uint64_t kVmRead = 1ULL << 0;
constexpr std::uint64_t kVmWrite = 1ULL << 1;
constexpr std::uint64_t kVmExec = 1ULL << 2;
constexpr std::uint64_t kVmShared = 1ULL << 3;
constexpr std::uint64_t kVmMayRead = 1ULL << 4;
constexpr std::uint64_t kVmMayWrite = 1ULL << 5;
constexpr std::uint64_t kVmMayExec = 1ULL << 6;
constexpr std::uint64_t kVmGrowsDown = 1ULL << 8;
constexpr std::uint64_t kVmPfnMap = 1ULL << 10;  // the kernel's own pages: nothing faults here
constexpr std::uint64_t kVmUffdWp = 1ULL << 12;  // registered with userfaultfd: no fault-around
// Private memory that could be written when it was mapped, or later: it is accounted for, and not
// joined with such that is not.
constexpr std::uint64_t kVmAccount = 1ULL << 20;
constexpr std::uint64_t kVmHugetlb = 1ULL << 22;
constexpr std::uint64_t kVmSharedPt = 1ULL << 37;
constexpr std::uint64_t kVmProtMask = kVmRead | kVmWrite | kVmExec;
static_assert(kVmRead == kProtRead && kVmWrite == kProtWrite && kVmExec == kProtExec,
              "a protection is the low three VMA flags");

struct Vma {
    VirtAddr start;  // page-aligned; start < end; with VM_HUGETLB both multiples of 2 MiB
    VirtAddr end;
    std::uint64_t flags = 0;
    std::shared_ptr<File> file;  // null: anonymous memory; with VM_HUGETLB one that is huge()
    // Page of the file at `start`. Anonymous memory: the page number of the address at which it was
    // mapped, or first written after a move (the kernel's vm_pgoff).
    std::uint64_t file_page = 0;
    // Set exactly when flags has VM_SHARED_PT: the host that this guest VMA is attached to.
    std::shared_ptr<HostMm> host;
    // Bytes that one link of a guest VMA translates: a power of two, kPageSize without a host. The
    // address space around the VMA up to multiples of it is the VMA's alone, as a linked table
    // translates it too.
    std::uint64_t unit = kPageSize;
    // MAP_SHARED_PT was asked for, whatever the policy answered.
    bool share_requested = false;
    // Some page of a private VMA is or was anonymous: fork copies its PTEs. As the kernel's
    // anon_vma: VMAs with two different ones are never joined. 0: none.
    std::uint64_t anon_vma = 0;
    // It came from a parent (more than one entry in the kernel's anon_vma_chain): the VMA is not
    // joined with one that has none.
    bool anon_inherited = false;

    std::uint64_t bytes() const { return end - start; }
    VirtAddr room_start() const { return align_down(start, unit); }
    VirtAddr room_end() const { return align_up(end, unit); }
    std::uint64_t room_bytes() const { return room_end() - room_start() - bytes(); }
    bool has(std::uint64_t flag) const { return (flags & flag) != 0; }
    std::uint64_t file_page_of(VirtAddr address) const {
        return file_page + ((address - start) >> kPageShift);
    }
    // As the kernel's access_error on x86: any right lets a read through.
    bool permits(Access access) const {
        return has(access == Access::Read    ? kVmProtMask
                   : access == Access::Write ? kVmWrite
                                             : kVmExec);
    }
};

// VMAs of one mm by start address. Invariant: they do not overlap.
using VmaMap = std::map<VirtAddr, Vma>;

}  // namespace ptshare
