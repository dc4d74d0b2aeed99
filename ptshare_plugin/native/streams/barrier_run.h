// A simulation of processes that execute nothing and wait for one another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "machine/run.h"

namespace ptshare::engine {

// Each process is a rank of one thread. One that waits is in no queue, and does not spin.
class BarrierRun : public Run {
  protected:
    // All parameters must have been read by then. Throws std::invalid_argument (parameters,
    // policy).
    BarrierRun(const Params& params, const std::string& policy, unsigned cores);

    // A process that starts with the simulation, as the next rank. Its address must stay.
    void add(Thread& process);
    // The loaded process waits until all others wait too.
    void wait(Core& core);
    // The loaded process ends.
    void exit(Core& core);

    bool over() const override { return alive_.empty(); }
    Core& next_core() override;

  private:
    void release_when_all_wait(std::uint64_t now);

    std::vector<Thread*> alive_;  // that have not ended, by rank; not owned
    std::size_t waiting_ = 0;     // of them
};

}  // namespace ptshare::engine
