// The workloads' access patterns, made by the code that the programs use (se_workloads/patterns).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/types.h"

namespace ptshare::engine {

// Where a program keeps what it uses inside its region of interest beside the region itself.
struct ProgramPlaces {
    VirtAddr options;       // struct Options
    VirtAddr barrier_page;  // the pointer of that name
    VirtAddr powers;        // zipf's table; 0: none
    VirtAddr stack;
};

struct PatternRequest {
    std::string name;
    VirtAddr region;
    std::uint64_t region_bytes = 0;
    std::uint64_t rank = 0;
    std::uint64_t procs = 1;
    std::uint64_t seed = 0;
    std::uint64_t work = 0;
    std::uint64_t own = 0;  // the value of the argument that the workload alone has
};

struct StreamAccess {
    VirtAddr address;
    unsigned size = 8;
    bool write = false;
};

// What the kernel is asked for. The region is mapped and unmapped as a whole.
struct StreamCall {
    enum class Kind { Map, Unmap, Protect, RefusedStore };  // the last: a read() into memory
    Kind kind = Kind::Map;
    VirtAddr address;          // Protect, RefusedStore
    std::uint64_t length = 0;  // Protect
    bool writable = false;     // Protect
};

// Some accesses in order, and the instructions that a program executes for them.
struct Batch {
    static constexpr std::size_t kRoom = 96;  // a fill may pass kEnough by one item of work
    static constexpr std::size_t kEnough = 64;
    std::array<StreamAccess, kRoom> accesses;
    std::size_t count = 0;
    std::uint64_t instructions = 0;
    StreamCall call;  // with Then::Call

    void read(VirtAddr at, unsigned size = 8) { accesses[count++] = {at, size, false}; }
    void write(VirtAddr at) { accesses[count++] = {at, 8, true}; }
};

class Pattern {
  public:
    enum class Then {
        More,
        Call,     // of the batch
        Barrier,  // go on when all ranks are there
        End,      // of the region of interest
        Killed,   // the same, and of the process, by SIGKILL
    };

    virtual ~Pattern() = default;
    // Puts what comes next into an empty batch; what follows it. Not called again after an end.
    virtual Then fill(Batch& batch) = 0;
};

// Names of all patterns. What they are, is said by the programs of the same names.
std::vector<std::string> pattern_names();
// Throws std::invalid_argument for an unknown name.
std::unique_ptr<Pattern> make_pattern(const PatternRequest& request, const ProgramPlaces& places);

}  // namespace ptshare::engine
