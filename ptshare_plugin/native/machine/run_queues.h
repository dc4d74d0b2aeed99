// Which thread runs next, on which core: a queue for each core, and turns of one quantum.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "machine/machine.h"

namespace ptshare::engine {

// A thread of a simulated process, as whatever drives the machine has it.
struct Thread : Charged {
    unsigned rank = 0;                // index of the started process that it descends from
    unsigned process_number = 0;      // Sample::process
    unsigned core = 0;                // never another one
    std::uint64_t quantum_start = 0;  // core clock when it was last loaded

    std::uint64_t faults_before = 0;  // minor ones, when its program was in place
    bool in_roi = false;              // its region of interest, between its marks
    Counters roi_begin;               // counters at the begin mark, while in_roi
};

class RunQueues {
  public:
    // The machine must outlive the object. `quantum`: cycles.
    RunQueues(Machine& machine, std::uint64_t quantum)
        : machine_(machine), quantum_(quantum), queues_(machine.cores()) {}

    bool empty(const Core& core) const { return queues_[core.id].empty(); }
    // The thread whose turn it is; null when there is none.
    Thread* front(const Core& core) const {
        return empty(core) ? nullptr : queues_[core.id].front();
    }
    // Of the cores with a thread to run that whose clock is earliest, of equal ones that with the
    // lowest number; null when there is none.
    Core* earliest();

    // The thread can run from `now` on: a core with nothing else to do has idled until then. The
    // thread must not be in a queue, and its address must stay while it is.
    void add(Thread& thread, std::uint64_t now);
    // It waits, or has ended; one that is in no queue stays so.
    void remove(const Thread& thread);

    // Loads the thread whose turn it is, for a new quantum when another was loaded.
    Thread& load(Core& core);
    // The thread whose turn it is gives way to the next one, if there is one.
    void yield(Core& core);
    // After a slice of that thread: it gives way once its quantum is used up.
    void end_slice(Core& core) {
        if (core.clock - queues_[core.id].front()->quantum_start >= quantum_) yield(core);
    }

  private:
    Machine& machine_;
    std::uint64_t quantum_;
    std::vector<std::deque<Thread*>> queues_;  // index: core; runnable threads, not owned
};

}  // namespace ptshare::engine
