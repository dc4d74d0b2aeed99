// The stream front-end: access patterns straight into the machine, without executing a program.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "accounting/params.h"
#include "core/exec.h"
#include "streams/barrier_run.h"
#include "streams/stream_patterns.h"

namespace ptshare::engine {

// What each process of a stream is: a workload's program, mapped as exec maps it, and its region.
struct StreamRequest {
    std::string pattern;
    std::string file;  // the program's path
    std::uint64_t file_bytes = 0;
    std::vector<Segment> segments;
    ProgramPlaces places;  // the stack is filled in here
    VirtAddr region;
    std::uint64_t region_bytes = 0;
    bool share = true;   // ask for MAP_SHARED_PT
    bool around = true;  // false: the region is registered with userfaultfd, as the programs do
    std::uint64_t processes = 1;
    std::uint64_t seed = 0;
    std::uint64_t work = 0;
    std::uint64_t own = 0;  // as PatternRequest
};

class Stream final : public BarrierRun {
  public:
    // Throws std::invalid_argument (parameters, policy, pattern). step() throws std::runtime_error
    // also when the region cannot be mapped.
    Stream(const Params& params, const std::string& policy, unsigned cores, StreamRequest request);

  private:
    struct Process : Thread {
        bool started = false;
        std::unique_ptr<Pattern> pattern;
        VirtAddr barrier;
        bool done = false;   // with its region of interest
        bool walks = false;  // most accesses of its last batch missed the first TLB
    };

    void run_slice(Core& core, Thread& thread) override;
    void use_batch(Core& core, Process& process, const Batch& batch);
    // What follows a batch; false: the process does not go on in this slice.
    bool follow(Core& core, Process& process, Pattern::Then then, const StreamCall& call);
    void start(Core& core, Process& process);
    void map_region(Core& core, Process& process);
    void enter_kernel(Core& core, Process& process);
    void make_call(Core& core, Process& process, const StreamCall& call);
    VirtAddr map_shared(Core& core, Process& process, const std::shared_ptr<File>& file,
                        VirtAddr at, std::uint64_t bytes, std::uint64_t flags);
    void touch(Core& core, VirtAddr at, bool write);
    // Asks this host to bring near what the model will look at for the next accesses of a batch.
    // Changes no figure.
    void bring_near(const Core& core, const Process& process, const Batch& batch, std::size_t from);
    void use_barrier(Core& core, const Process& process);
    void finish(Core& core, Process& process);
    void leave(Core& core, const Process& process);

    StreamRequest request_;
    std::shared_ptr<File> program_;
    std::shared_ptr<File> region_file_;
    std::shared_ptr<File> barrier_file_;
    std::vector<std::unique_ptr<Process>> processes_;  // index: rank; null when it has ended
};

}  // namespace ptshare::engine
