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
    std::uint64_t writes = 0;  // per cent; scan has none
};

struct StreamAccess {
    VirtAddr address;
    unsigned size = 8;
    bool write = false;
};

// Some accesses in order, and the instructions that a program executes for them.
struct Batch {
    static constexpr std::size_t kRoom = 96;  // a fill may pass kEnough by one item of work
    static constexpr std::size_t kEnough = 64;
    std::array<StreamAccess, kRoom> accesses;
    std::size_t count = 0;
    std::uint64_t instructions = 0;

    void read(VirtAddr at, unsigned size = 8) { accesses[count++] = {at, size, false}; }
    void write(VirtAddr at) { accesses[count++] = {at, 8, true}; }
};

class Pattern {
  public:
    enum class Then { More, Barrier, End };

    virtual ~Pattern() = default;
    // Puts what comes next into an empty batch; what follows it. Barrier: go on when all ranks are
    // there. Not called again after End.
    virtual Then fill(Batch& batch) = 0;
};

// Names of all patterns. What they are, is said by the programs of the same names.
std::vector<std::string> pattern_names();
// Throws std::invalid_argument for an unknown name.
std::unique_ptr<Pattern> make_pattern(const PatternRequest& request, const ProgramPlaces& places);

}  // namespace ptshare::engine
