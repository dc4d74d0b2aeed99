// How much there is in a stream.
#pragma once

#include <cstdint>

#include "recordings/definition.h"

namespace ptshare::recordings {

struct Totals {
    std::uint64_t blocks = 0, instructions = 0;
    std::uint64_t loads = 0, stores = 0, modifies = 0;
    std::uint64_t events = 0;
    std::uint64_t first_stamp = 0, last_stamp = 0;

    void add_block(const Left& done) {
        ++blocks;
        instructions += done.instructions;
        loads += done.loads;
        stores += done.stores;
        modifies += done.modifies;
    }
    // Of those, what was guarded and did not happen.
    void take_absent(const Definition& definition, const Left& done, const Word* addresses);
    void add_event(unsigned kind, const Word* words, std::size_t count);
};

}  // namespace ptshare::recordings
