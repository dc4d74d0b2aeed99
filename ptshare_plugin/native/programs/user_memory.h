// How system calls and the loader reach a process's memory: through its page tables, faulting pages
// in, as the kernel's copy_to_user and copy_from_user do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "machine/machine.h"
#include "programs/memory.h"

namespace ptshare::engine {

class UserMemory {
  public:
    UserMemory(Machine& machine, HostMemory& memory) : machine_(machine), memory_(memory) {}

    // All act on the task loaded on `core`. False (or nothing): EFAULT, part may have been copied.
    bool read(Core& core, VirtAddr from, void* to, std::uint64_t n);
    bool write(Core& core, VirtAddr to, const void* from, std::uint64_t n);
    bool fill_zero(Core& core, VirtAddr to, std::uint64_t n);
    std::optional<std::string> read_string(Core& core, VirtAddr from);

    template <class T>
    bool put(Core& core, VirtAddr to, const T& value) {
        return write(core, to, &value, sizeof(value));
    }
    template <class T>
    bool get(Core& core, VirtAddr from, T& value) {
        return read(core, from, &value, sizeof(value));
    }

  private:
    template <class Copy>
    bool each_page(Core& core, VirtAddr address, std::uint64_t n, Access access, Copy&& copy);

    Machine& machine_;
    HostMemory& memory_;
};

}  // namespace ptshare::engine
