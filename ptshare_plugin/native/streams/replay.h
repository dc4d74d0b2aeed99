// Replays the trace of a real program in each of some processes, on the machine.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "accounting/params.h"
#include "streams/barrier_run.h"
#include "streams/trace.h"

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
    bool ends_together = true;  // a process that is done waits for the others before it exits
};

// A process maps its memory, waits until all have, then replays the whole trace: its region of
// interest. Progress is counted in records.
class Replay final : public BarrierRun {
  public:
    // Throws std::invalid_argument (parameters, policy) and std::runtime_error (the trace). step()
    // throws std::runtime_error also when something cannot be mapped or the trace changed under
    // way.
    Replay(const Params& params, const std::string& policy, unsigned cores, ReplayRequest request);

    std::uint64_t instructions() const override { return instructions_; }

  private:
    struct Process : Thread {
        std::unique_ptr<TraceReader> reader;  // null: not started
        std::array<TraceRecord, 64> batch;
        std::size_t at = 0;  // in the batch: the next one
        std::size_t count = 0;
        bool done = false;  // with the trace
    };

    void run_slice(Core& core, Thread& thread) override;
    void start(Core& core, Process& process);
    void map(Core& core, Process& process, AddressRange range, std::uint64_t prot,
             std::uint64_t flags, const std::shared_ptr<File>& file);
    void replay(Core& core, const TraceRecord& record);
    void use(Core& core, const TraceRecord& record, Access access, Loading* loading = nullptr);
    void end(Core& core, Process& process);
    void leave(Core& core, Process& process);
    [[noreturn]] void refused(const TraceRecord& record) const;

    // The load of a record that also stores.
    class Modifying final : public Loading {
        bool writes_back() override { return true; }
    };

    Modifying modifies_;
    std::uint64_t line_bytes_;
    ReplayRequest request_;
    std::shared_ptr<const TraceFile> trace_;
    std::shared_ptr<File> shared_file_;  // null: nothing is shared
    std::deque<Process> processes_;      // index: rank
    std::uint64_t instructions_ = 0;
};

}  // namespace ptshare::engine
