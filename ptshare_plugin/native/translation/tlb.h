// A translation lookaside buffer: leaves of page tables by address-space id and page.
#pragma once

#include <cstdint>
#include <string>

#include "core/pte.h"
#include "core/types.h"
#include "set_associative.h"

namespace ptshare {

using Pcid = std::uint16_t;

enum class PageSize : std::uint64_t { Small = 0, Large = 1 };  // 4 KiB, 2 MiB

constexpr unsigned page_shift(PageSize size) {
    return size == PageSize::Small ? kPageShift : kPageShift + kIndexBits;
}

// One array. It may hold pages of both sizes: the size is part of the tag.
class Tlb {
  public:
    Tlb(const std::string& what, std::uint64_t entries, std::uint64_t ways)
        : array_(what, entries, ways) {}

    bool present() const { return array_.present(); }

    // The leaf that translates `address`, or null. The caller may update its D bit.
    Pte* find(Pcid pcid, VirtAddr address, PageSize size) {
        if (size == PageSize::Large && !had_large_) return nullptr;
        return array_.find(page(address, size), key(pcid, address, size));
    }
    // The same without a change of the order of use.
    const Pte* peek(Pcid pcid, VirtAddr address, PageSize size) {
        return array_.peek(page(address, size), key(pcid, address, size));
    }
    void insert(Pcid pcid, VirtAddr address, PageSize size, Pte leaf) {
        had_large_ |= size == PageSize::Large;
        array_.insert(page(address, size), key(pcid, address, size), leaf);
    }

    // Flushes return how many entries they dropped.
    std::uint64_t flush_page(Pcid pcid, VirtAddr address) {
        std::uint64_t dropped = 0;
        for (const PageSize size : {PageSize::Small, PageSize::Large}) {
            dropped += array_.erase(page(address, size), key(pcid, address, size)) ? 1 : 0;
        }
        return dropped;
    }
    std::uint64_t flush_pcid(Pcid pcid) {
        return array_.erase_if([&](std::uint64_t held) { return pcid_of(held) == pcid; });
    }
    std::uint64_t flush_all() {
        return array_.erase_if([](std::uint64_t) { return true; });
    }

    // Calls fn(pcid, first address, page size, leaf) for every entry.
    template <class Fn>
    void for_each(Fn&& fn) const {
        array_.for_each([&](std::uint64_t held, Pte leaf) {
            const auto size = static_cast<PageSize>(held & 1);
            fn(pcid_of(held), VirtAddr((held >> kPageBit) << page_shift(size)), size, leaf);
        });
    }

  private:
    //   63..17        | 16..1 | 0
    //   page number   | PCID  | page size
    static constexpr unsigned kPageBit = 17;
    static constexpr std::uint64_t page(VirtAddr address, PageSize size) {
        return address.value >> page_shift(size);
    }
    static constexpr std::uint64_t key(Pcid pcid, VirtAddr address, PageSize size) {
        return (page(address, size) << kPageBit) | (std::uint64_t{pcid} << 1) |
               static_cast<std::uint64_t>(size);
    }
    static constexpr Pcid pcid_of(std::uint64_t held) { return static_cast<Pcid>(held >> 1); }

    SetAssociative<Pte> array_;
    bool had_large_ = false;  // a large page was put in once
};

}  // namespace ptshare
