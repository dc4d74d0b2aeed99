// The marks of a program: where its region of interest begins and ends, and points to be noted.
#pragma once

#include <cerrno>
#include <cstdint>
#include <vector>

#include "accounting/counters.h"
#include "core/kernel.h"

namespace ptshare::engine {

// A system-call number that Linux does not use and answers with ENOSYS, and its arguments.
constexpr std::uint64_t kMarkSyscall = 20564;
constexpr std::uint64_t kMarkBegin = 1;
constexpr std::uint64_t kMarkEnd = 2;
// The next one asks what addresses for MAP_SHARED_PT must be multiples of, in bytes. ENOSYS where
// the flag does nothing, as on Linux.
constexpr std::uint64_t kAlignmentSyscall = 20565;
// Any other argument marks a point: a Sample is taken there too, and nothing else happens.

inline std::int64_t answer_alignment(const Kernel& kernel) {
    const std::uint64_t bytes = kernel.policy().alignment(kernel);
    return bytes == 0 ? -ENOSYS : static_cast<std::int64_t>(bytes);
}

// What a process has at a mark.
struct Sample {
    unsigned rank = 0;     // of the started process that it descends from
    unsigned process = 0;  // 0: the started process itself; 1, 2, ...: those it forked, in order
    std::uint64_t mark = 0;
    std::uint64_t vm_pte_bytes = 0;
    std::uint64_t rss_anon_bytes = 0;
    std::uint64_t rss_file_bytes = 0;
    // Of the thread, since its fork or since its program was loaded.
    std::uint64_t minor_faults = 0;

    // All of it, in this order: for Python's Sample.
    std::vector<std::uint64_t> row() const {
        return {rank, process, mark, vm_pte_bytes, rss_anon_bytes, rss_file_bytes, minor_faults};
    }
};

// `faults_before`: minor faults that `counters` held when the program was in place.
inline Sample take_sample(unsigned rank, unsigned process, std::uint64_t mark, const Mm& mm,
                          const Counters& counters, std::uint64_t faults_before) {
    return {rank,
            process,
            mark,
            mm.vm_pte_bytes(),
            mm.rss_anon * kPageSize,
            mm.rss_file * kPageSize,
            minor_faults(counters) - faults_before};
}

}  // namespace ptshare::engine
