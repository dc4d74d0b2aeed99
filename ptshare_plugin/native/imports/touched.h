// Which pages a trace touches, and the areas that must have been mapped for that: traces seldom say
// what is mapped.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "recordings/definition.h"

namespace ptshare::imports {

using recordings::Word;

constexpr Word kPage = 4096, kChunk = Word{2} << 20;

// Rights as of mmap's PROT_*.
constexpr std::uint8_t kReads = 1, kWrites = 2, kExecutes = 4;

struct Area {
    Word start = 0, end = 0;
    std::uint8_t rights = 0;
};

class Touched {
  public:
    void touch(Word address, Word bytes, std::uint8_t how) {
        for (Word page = address / kPage; page <= (address + bytes - 1) / kPage; ++page) {
            if (page == last_page_ && (last_how_ & how) == how) continue;
            mark(page, how);
        }
    }
    // Whether any page of [start, end) is.
    bool any(Word start, Word end) const;
    // Pages without 2 MiB that nobody touches between them lie in one area, which may do what is
    // done in any of it. `apart`: ranges that are areas of their own, in order.
    std::vector<Area> areas(const std::vector<Area>& apart) const;

  private:
    static constexpr std::size_t kPages = kChunk / kPage;

    void mark(Word page, std::uint8_t how);

    std::map<Word, std::array<std::uint8_t, kPages>> chunks_;  // by number
    Word last_page_ = ~Word{0};
    std::uint8_t last_how_ = 0;  // all that was done with it
};

}  // namespace ptshare::imports
