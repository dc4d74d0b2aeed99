// What the kernel stores to page tables: whoever drives caches carries it out on them.
#pragma once

#include <utility>
#include <vector>

#include "core/frames.h"

namespace ptshare::engine {

// Contents that note it until it is taken.
class TableStores : public FrameContents {
  public:
    struct Noted {
        std::vector<Pfn> cleared;     // new tables
        std::vector<PhysAddr> lines;  // 64-byte lines with entries that changed, in order; one
                                      // that is stored to several times in a row is there once
    };

    Noted take() { return std::exchange(noted_, {}); }

    void zero_table(Pfn pfn) override { noted_.cleared.push_back(pfn); }
    void write_entry(PhysAddr address, std::uint64_t) override {
        const PhysAddr line(address.value & ~std::uint64_t{63});
        if (noted_.lines.empty() || noted_.lines.back() != line) noted_.lines.push_back(line);
    }
    // The walker's own stores are not the kernel's.
    void walker_wrote(PhysAddr, std::uint64_t) override {}

  private:
    Noted noted_;
};

}  // namespace ptshare::engine
