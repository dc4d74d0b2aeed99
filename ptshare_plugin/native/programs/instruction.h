// What must be known of an x86-64 instruction before its first memory access is served.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ptshare::engine {

constexpr std::size_t kMostInstructionBytes = 15;

// Whether the instruction reads its memory operand in order to write it back (add to memory, XCHG,
// CMPXCHG that fails, ...): the processor asks for the right to write at once, and faults once, as
// a write (Intel SDM volume 3A, 4.7: W/R of the error code). All of these have one memory operand.
// String instructions are none: what they read and what they write are two operands.
//
// `bytes`: the instruction's first ones, `count` of them; false where they end too early.
bool writes_back(const std::uint8_t* bytes, std::size_t count);

}  // namespace ptshare::engine
