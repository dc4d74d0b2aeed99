// execve: builds the address space of a checked static program, as Linux's binfmt_elf does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "programs/task.h"
#include "programs/user_memory.h"

namespace ptshare::engine {

class Loader {
  public:
    // `seed` makes AT_RANDOM's bytes.
    Loader(Machine& machine, UserMemory& memory, std::uint64_t seed)
        : machine_(machine), memory_(memory), seed_(seed) {}

    // Fills the empty mm of the task loaded on `core`; returns the initial stack pointer. Throws
    // std::runtime_error when the program does not fit its address space.
    VirtAddr load(Core& core, Mm& mm, const Program& program, const std::vector<std::string>& argv,
                  const std::vector<std::string>& env);

  private:
    VirtAddr build_stack(Core& core, const Program& program, const std::vector<std::string>& argv,
                         const std::vector<std::string>& env);

    Machine& machine_;
    UserMemory& memory_;
    std::uint64_t seed_;
};

}  // namespace ptshare::engine
