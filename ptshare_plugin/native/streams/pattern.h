// The workloads' access patterns, made by the code that the programs use (se_workloads/patterns).
// One pattern is one file in patterns/ and registers itself there.
//
// Accesses are those of the region of interest. Those to the region are exact. Of those to the
// program's own data and stack one stands for each change of page: more of them would hit the same
// entry.
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
    VirtAddr region;
    std::uint64_t region_bytes = 0;
    std::uint64_t rank = 0;
    std::uint64_t procs = 1;
    std::uint64_t seed = 0;
    std::uint64_t work = 0;
    std::uint64_t own = 0;  // the value of PatternInfo::argument
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

// Whether the region is mapped when a pattern begins, or its own calls map it.
enum class Region { Mapped, MapsItself };

struct PatternInfo {
    std::string name;      // of the workload whose accesses it makes
    std::string argument;  // that it takes of the workload's own ones; empty: none
    Region region;
    std::unique_ptr<Pattern> (*make)(const PatternRequest&, const ProgramPlaces&);
};

// All registered patterns, by name. What they are, is said by the programs of the same names.
std::vector<PatternInfo> patterns();
// Throws std::invalid_argument for an unknown name.
PatternInfo find_pattern(const std::string& name);

// For PatternInfo::make.
template <typename Made>
std::unique_ptr<Pattern> make_as(const PatternRequest& request, const ProgramPlaces& places) {
    return std::make_unique<Made>(request, places);
}

// A static object of this type in a pattern's file registers it.
struct RegisterPattern {
    explicit RegisterPattern(PatternInfo info);
};

}  // namespace ptshare::engine
