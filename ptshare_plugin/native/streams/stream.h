// The stream front-end: access patterns straight into the machine, without executing a program.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "accounting/marks.h"
#include "accounting/params.h"
#include "core/exec.h"
#include "machine/machine.h"
#include "machine/machine_metrics.h"
#include "programs/task.h"
#include "streams/pattern.h"
#include "streams/turns.h"

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

// One simulation. Cores and processes take turns as Simulation's do, see Turns.
class Stream {
  public:
    // Throws std::invalid_argument (parameters, policy, pattern).
    Stream(const Params& params, const std::string& policy, unsigned cores, StreamRequest request);

    // Simulates about `instructions` more; true when every process has ended. Throws
    // std::runtime_error when memory runs out or the region cannot be mapped.
    bool step(std::uint64_t instructions);

    std::uint64_t instructions() const { return executed_; }
    std::uint64_t cycles() const { return machine_cycles(machine_); }
    const std::vector<Rank>& ranks() const { return ranks_; }
    const std::vector<Sample>& samples() const { return samples_; }
    const Machine& machine() const { return machine_; }

  private:
    struct Process : Turn {
        unsigned rank = 0;
        bool started = false;
        std::unique_ptr<Pattern> pattern;
        VirtAddr barrier;
        std::uint64_t faults_before = 0;  // when its program was mapped
        Counters roi_begin;
        bool in_roi = false;
        bool done = false;   // with its region of interest
        bool walks = false;  // most accesses of its last batch missed the first TLB
    };

    void run_slice(Core& core);
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
    void mark(Process& process, std::uint64_t kind);
    void end_roi(Core& core, Process& process);
    void exit(Core& core, Process& process);

    std::uint64_t slice_;  // instructions
    StreamRequest request_;
    PatternInfo pattern_;
    FrameContents contents_;  // nobody reads the bytes
    Machine machine_;
    std::shared_ptr<File> program_;
    std::shared_ptr<File> region_file_;
    std::shared_ptr<File> barrier_file_;
    std::vector<Rank> ranks_;
    std::vector<Sample> samples_;                      // in the order in which the marks were made
    std::vector<std::unique_ptr<Process>> processes_;  // index: rank; null when it has ended
    Turns<Process> turns_;
    std::uint64_t executed_ = 0;  // instructions
};

}  // namespace ptshare::engine
