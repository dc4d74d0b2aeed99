// A simulation from its first step to its end, with a trace to drive it.
#include "machine/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "check.h"
#include "parameters.h"
#include "streams/replay.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

// Lackey's text in a file, as long as the object lives.
class TraceText {
  public:
    explicit TraceText(const std::string& text) {
        const int fd = mkstemp(path_.data());
        if (fd < 0 || write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
            throw std::runtime_error(path_ + " cannot be written");
        }
        close(fd);
    }
    ~TraceText() { std::remove(path_.c_str()); }
    TraceText(const TraceText&) = delete;
    TraceText& operator=(const TraceText&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_ = "/tmp/ptshare-run-test-XXXXXX";
};

constexpr std::uint64_t kPage = 0x400000;

Params parameters() {
    const auto count = [](std::int64_t n) { return Parameter(n); };
    return small_machine({{"sched.slice_instructions", count(2)},
                          {"sched.quantum_cycles", count(100000)},
                          {"cpu.frequency_mhz", count(1000)}});
}

ReplayRequest request(const TraceText& trace, std::uint64_t processes) {
    ReplayRequest made;
    made.trace = trace.path();
    made.ranges = {{VirtAddr(kPage), VirtAddr(kPage + 2 * kPageSize)}};
    made.processes = processes;
    return made;
}

}  // namespace

TEST(processes_run_from_their_marks_to_their_end) {
    const TraceText trace("I  400000,4\n L 401000,8\nI  400004,4\n S 401008,8\n");
    Replay replay(parameters(), "private", 2, request(trace, 3));
    Run& run = replay;
    CHECK(!run.step(1));
    CHECK(run.samples().size() < 6);
    while (!run.step(1)) continue;
    CHECK(run.step(1));  // nothing is left to do
    CHECK_EQ(run.instructions(), 3U * 2);
    CHECK_EQ(run.cycles(), std::max(run.machine().core(0).clock, run.machine().core(1).clock));
    CHECK_EQ(run.machine().kernel().mms().size(), 0U);
    CHECK_EQ(run.ranks().size(), 3U);
    for (std::size_t rank = 0; rank < 3; ++rank) {
        const Rank& left = run.ranks()[rank];
        CHECK_EQ(left.pid, 1000 + rank);
        CHECK(left.marked);
        CHECK_EQ(left.roi.data_reads, 1U);
        CHECK_EQ(left.roi.data_writes, 1U);
        CHECK_EQ(left.roi.syscalls, 0U);  // it had mapped its memory before
        CHECK_EQ(left.counters.syscalls, 1U);
    }
    CHECK_EQ(run.samples().size(), 6U);
    // All wait until the last one has mapped its memory; ranks 0 and 2 are on core 0.
    CHECK_EQ(run.samples().front().mark, kMarkBegin);
    CHECK_EQ(run.samples().front().rank, 0U);
    CHECK_EQ(run.samples().back().mark, kMarkEnd);
}

TEST(one_that_runs_out_of_memory_says_so) {
    const TraceText trace(" S 400000,8\n");
    Params small = small_machine({{"sched.slice_instructions", Parameter(std::int64_t{2})},
                                  {"sched.quantum_cycles", Parameter(std::int64_t{1000})},
                                  {"cpu.frequency_mhz", Parameter(std::int64_t{1000})},
                                  {"kernel.memory_bytes", Parameter(std::int64_t{65536})}});
    Replay replay(small, "private", 1, request(trace, 13));
    // Of 16 frames a root for each process, and four more for the first that stores.
    CHECK_THROWS(replay.step(100), std::runtime_error, "memory");
}
