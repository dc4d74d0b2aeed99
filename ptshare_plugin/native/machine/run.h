// One simulation: a machine and what drives it, whether executed programs, access patterns or
// traces.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "accounting/marks.h"
#include "accounting/outcome.h"
#include "accounting/params.h"
#include "machine/machine.h"
#include "machine/machine_metrics.h"
#include "machine/run_queues.h"

namespace ptshare::engine {

// Core by core in slices: the one whose clock is earliest runs next.
class Run {
  public:
    virtual ~Run() = default;
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

    // Simulates about `count` more instructions (Replay: records of the trace); true when every
    // process has ended. Throws std::runtime_error when it cannot go on: above all, memory runs
    // out.
    bool step(std::uint64_t count);

    virtual std::uint64_t instructions() const { return progress_; }
    std::uint64_t cycles() const { return machine_cycles(machine_); }
    // What the started processes leave behind; counters once they have ended.
    const std::vector<Rank>& ranks() const { return ranks_; }
    // In the order in which the marks were made.
    const std::vector<Sample>& samples() const { return samples_; }
    const Machine& machine() const { return machine_; }

  protected:
    // Throws std::invalid_argument (parameters, policy).
    Run(const Params& params, const std::string& policy, unsigned cores,
        std::shared_ptr<TableStores> contents);

    // Whether every process has ended.
    virtual bool over() const = 0;
    // The core to run next. Throws when there is none though processes are left.
    virtual Core& next_core() = 0;
    // Runs the thread, which is loaded on the core, for about slice_.
    virtual void run_slice(Core& core, Thread& thread) = 0;

    // The thread makes a mark.
    void mark(Thread& thread, std::uint64_t kind);
    // Its region of interest ends, if it is in one.
    void end_roi(Thread& thread);

  private:
    std::shared_ptr<TableStores> contents_;  // outlives machine_

  protected:
    const std::uint64_t slice_;  // in the units of progress_
    Machine machine_;
    RunQueues queues_;
    std::vector<Rank> ranks_;
    std::uint64_t progress_ = 0;  // what step() counts: grown by run_slice()

  private:
    std::vector<Sample> samples_;
};

}  // namespace ptshare::engine
