// The part of execve that concerns memory: a static program's segments, heap and stack, laid out as
// Linux's binfmt_elf does.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernel.h"

namespace ptshare {

constexpr VirtAddr kStackTop(0x7ffffffff000);

// A loadable segment (PT_LOAD) of an ELF file that has been checked.
struct Segment {
    VirtAddr address;
    std::uint64_t offset = 0;  // into the file
    std::uint64_t file_bytes = 0;
    std::uint64_t memory_bytes = 0;
    std::uint64_t prot = 0;
};

// Writes zeros to `n` bytes of user memory of the mm under way; false: the fault was fatal.
using ClearUser = std::function<bool(VirtAddr at, std::uint64_t n)>;

// Maps the segments and an empty stack into an empty mm, and places the heap behind the segments.
// Throws std::runtime_error that names `file` when they do not fit the address space.
void map_program(Kernel& kernel, Mm& mm, const std::shared_ptr<File>& file,
                 const std::vector<Segment>& segments, const ClearUser& clear);

}  // namespace ptshare
