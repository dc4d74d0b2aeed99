// One page-table entry, in the layout of the x86 manuals (Intel SDM volume 3A, "Paging").
//
//    63 | 62..52  | 51..12                      | 11..9 | 8 | 7  | 6 | 5 | 4   | 3   | 2   | 1   |
//    0 NX | ignored | frame of the table or page  | ign.  | G | PS | D | A | PCD | PWT | U/S | R/W
//    | P
//
// PS (bit 7) in a PMD entry makes it a 2 MiB leaf; in a PTE it would be PAT, which is not modelled.
#pragma once

#include <cstdint>

#include "types.h"

namespace ptshare {

class Pte {
  public:
    static constexpr std::uint64_t kPresent = 1ULL << 0;
    static constexpr std::uint64_t kWrite = 1ULL << 1;
    static constexpr std::uint64_t kUser = 1ULL << 2;
    static constexpr std::uint64_t kAccessed = 1ULL << 5;
    static constexpr std::uint64_t kDirty = 1ULL << 6;
    static constexpr std::uint64_t kLarge = 1ULL << 7;
    // In an entry with P clear: the page is there, mprotect(PROT_NONE) took every right. Linux uses
    // the same bit (_PAGE_PROTNONE); hardware ignores it.
    static constexpr std::uint64_t kProtNone = 1ULL << 8;
    // Ignored by hardware. In an anonymous page's leaf: no other mm has had the page since this one
    // last wrote it (PageAnonExclusive, which Linux keeps with the page).
    static constexpr std::uint64_t kExclusive = 1ULL << 9;
    static constexpr std::uint64_t kNoExecute = 1ULL << 63;
    static constexpr std::uint64_t kFrameMask = 0x000FFFFFFFFFF000ULL;

    constexpr Pte() = default;
    explicit constexpr Pte(std::uint64_t bits) : bits_(bits) {}

    static constexpr Pte make(Pfn pfn, std::uint64_t flags) {
        return Pte((pfn.value << kPageShift) | flags);
    }

    constexpr std::uint64_t bits() const { return bits_; }
    constexpr Pfn pfn() const { return Pfn((bits_ & kFrameMask) >> kPageShift); }
    // Nothing is mapped: neither present nor withdrawn by PROT_NONE.
    constexpr bool none() const { return bits_ == 0; }
    constexpr bool present() const { return (bits_ & kPresent) != 0; }
    constexpr bool writable() const { return (bits_ & kWrite) != 0; }
    constexpr bool user() const { return (bits_ & kUser) != 0; }
    constexpr bool accessed() const { return (bits_ & kAccessed) != 0; }
    constexpr bool dirty() const { return (bits_ & kDirty) != 0; }
    constexpr bool large() const { return (bits_ & kLarge) != 0; }
    constexpr bool executable() const { return (bits_ & kNoExecute) == 0; }

    constexpr Pte with(std::uint64_t set) const { return Pte(bits_ | set); }
    constexpr Pte without(std::uint64_t clear) const { return Pte(bits_ & ~clear); }

    // Whether this leaf lets a user-mode access through (CR0.WP and EFER.NXE set).
    constexpr bool permits(Access access) const {
        return present() && user() && (access != Access::Write || writable()) &&
               (access != Access::Fetch || executable());
    }

    friend constexpr bool operator==(Pte a, Pte b) { return a.bits_ == b.bits_; }
    friend constexpr bool operator!=(Pte a, Pte b) { return a.bits_ != b.bits_; }

  private:
    std::uint64_t bits_ = 0;
};

static_assert(sizeof(Pte) == 8, "a page-table entry is eight bytes");

}  // namespace ptshare
