// Replays the trace of a real program in each of some processes, on the machine.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "accounting/marks.h"
#include "accounting/params.h"
#include "machine/machine.h"
#include "machine/machine_metrics.h"
#include "programs/task.h"
#include "streams/trace.h"
#include "streams/turns.h"

namespace ptshare::engine {

// What each process is.
struct ReplayRequest {
    std::string trace;  // path
    // Of TraceSurvey: private anonymous memory with all rights.
    std::vector<AddressRange> ranges;
    // Mapped MAP_SHARED from one file, for reading and writing; empty: none.
    AddressRange shared_range;
    bool share = true;  // ask for MAP_SHARED_PT
    std::uint64_t processes = 1;
};

// One simulation. A process maps its memory, waits until all have, then replays the whole trace:
// its region of interest. Each core takes turns among its processes as in Simulation.
class Replay {
  public:
    // Throws std::invalid_argument (parameters, policy) and std::runtime_error (the trace).
    Replay(const Params& params, const std::string& policy, unsigned cores, ReplayRequest request);

    // Replays about `records` more; true when every process has ended. Throws std::runtime_error:
    // memory runs out, something cannot be mapped, the trace changed under way.
    bool step(std::uint64_t records);

    std::uint64_t instructions() const { return instructions_; }
    std::uint64_t cycles() const { return machine_cycles(machine_); }
    const std::vector<Rank>& ranks() const { return ranks_; }
    const std::vector<Sample>& samples() const { return samples_; }
    const Machine& machine() const { return machine_; }

  private:
    struct Process : Turn {
        unsigned rank = 0;
        std::unique_ptr<TraceReader> reader;  // null: not started
        std::array<TraceRecord, 64> batch;
        std::size_t at = 0;  // in the batch: the next one
        std::size_t count = 0;
        Counters roi_begin;
    };

    void run_slice(Core& core);
    void start(Core& core, Process& process);
    void begin(Process& process);
    void map(Core& core, Process& process, AddressRange range, std::uint64_t prot,
             std::uint64_t flags, const std::shared_ptr<File>& file);
    void replay(Core& core, const TraceRecord& record);
    void use(Core& core, const TraceRecord& record, Access access);
    void end(Core& core, Process& process);
    [[noreturn]] void refused(const TraceRecord& record) const;

    std::uint64_t slice_;  // records
    std::uint64_t line_bytes_;
    ReplayRequest request_;
    std::shared_ptr<const TraceFile> trace_;
    FrameContents contents_;  // nobody reads the bytes
    Machine machine_;
    std::shared_ptr<File> shared_file_;  // null: nothing is shared
    std::vector<Rank> ranks_;
    std::vector<Sample> samples_;    // in the order in which the marks were made
    std::deque<Process> processes_;  // index: rank
    Turns<Process> turns_;
    std::uint64_t records_ = 0;  // replayed
    std::uint64_t instructions_ = 0;
};

}  // namespace ptshare::engine
