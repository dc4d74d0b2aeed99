// What the patterns of programs have in common that check each word of the region with expect().
#pragma once

#include "streams/pattern.h"

namespace ptshare::engine {

// Instructions of a round of the programs' loops, as GCC 12 compiles them.
constexpr std::uint64_t kStore = 35;
constexpr std::uint64_t kVerify = 50;  // 38 to 56

// A word of the region gets its datum.
inline void store(Batch& batch, const ProgramPlaces& places, VirtAddr word) {
    batch.read(places.options);
    batch.write(word);
    batch.read(places.stack);
    batch.instructions += kStore;
}

// A word is read, and expect() compares it with what it should hold.
inline void verify(Batch& batch, const ProgramPlaces& places, VirtAddr word) {
    batch.read(places.options);
    batch.read(word);
    batch.write(places.stack);
    batch.instructions += kVerify;
}

}  // namespace ptshare::engine
