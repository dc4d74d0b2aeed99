// A block of code of the recorded program: what it executes and accesses each time it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "recordings/words.h"

namespace ptshare::recordings {

using Word = std::uint64_t;

enum class AccessKind : std::uint8_t {
    Load = PTSHARE_LOAD,
    Store = PTSHARE_STORE,
    Modify = PTSHARE_MODIFY  // one instruction that reads and writes it
};

struct Instruction {
    Word address = 0;
    std::uint8_t bytes = 0;
};

struct Access {
    std::uint16_t instruction = 0;  // of the block, the first being 0
    std::uint16_t bytes = 0;
    AccessKind kind = AccessKind::Load;
    bool guarded = false;
    std::uint16_t base = 0;  // PTSHARE_BASE_NONE or a recorded address of the block
    Word offset = 0;

    // Where it is, `addresses` being those recorded for one run of the block.
    Word address(const Word* addresses) const {
        return (base == PTSHARE_BASE_NONE ? 0 : addresses[base] & ~PTSHARE_ABSENT) + offset;
    }
    bool happens(const Word* addresses) const {
        return !guarded || (addresses[base] & PTSHARE_ABSENT) == 0;
    }
};

// What has been done when a block is left at one place.
struct Left {
    std::uint16_t instructions = 0, accesses = 0, addresses = 0;
    std::uint16_t loads = 0, stores = 0, modifies = 0;  // guarded ones as if all had happened
    std::uint16_t stack_base = PTSHARE_BASE_UNKNOWN;
    Word stack_offset = 0;
};

class Definition {
  public:
    // From the words of PTSHARE_DEFINE. Throws std::runtime_error.
    Definition(const Word* words, std::size_t count);

    // `left` as in PTSHARE_BLOCK; what it does not have is an error.
    Left left(unsigned left) const;
    // The same for its end (0) and side exits, without a check.
    const Left& exit(std::size_t number) const { return exits[number]; }

    Word address = 0;
    bool calls = false, returns = false;
    bool guarded = false;  // has guarded accesses
    bool foreign = false;  // Valgrind's own code, in none of the program's mappings
    std::vector<Instruction> instructions;
    // Of the instructions in order: those that follow each other in memory.
    struct Span {
        Word address = 0;
        std::uint16_t instructions = 0;
    };
    std::vector<Span> spans;
    std::vector<Access> accesses;
    std::uint16_t addresses = 0;
    std::uint16_t stack_address = PTSHARE_BASE_NONE;  // the one that is relative to the stack
    Word stack_distance = 0;                          // its, from the stack pointer at the entry
    std::vector<Left> exits;

  private:
    void add_up(Left& left) const;
};

// Those of one stream. Only its owner adds; others may copy meanwhile.
class Definitions {
  public:
    Definitions() = default;
    // The first `count` of a parent's, for a forked child. Throws std::runtime_error if fewer.
    Definitions(const Definitions& parent, std::size_t count);

    const Definition& add(const Word* words, std::size_t count);
    // Throws std::runtime_error.
    const Definition& at(std::size_t number) const;
    std::size_t size() const;

  private:
    std::vector<std::shared_ptr<const Definition>> all_;
    mutable std::mutex adding_;
};

}  // namespace ptshare::recordings
