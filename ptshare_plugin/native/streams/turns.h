// How processes that execute nothing share the cores: by turns, and waiting for one another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <vector>

#include "machine/machine.h"

namespace ptshare::engine {

struct Turn : Charged {
    unsigned core = 0;
    std::uint64_t quantum_start = 0;  // core clock when it was last loaded
};

// The core whose clock is earliest runs next, with the process at the front of its queue. A process
// at the barrier is in no queue and does not spin. Process: derived from Turn.
template <class Process>
class Turns {
  public:
    // `quantum`: cycles.
    Turns(Machine& machine, std::uint64_t quantum)
        : machine_(machine), quantum_(quantum), queues_(machine.cores()) {}

    // The address must stay.
    void add(Process& process, unsigned core) {
        process.core = core;
        queues_[core].push_back(&process);
        all_.push_back(&process);
    }
    bool over() const { return all_.empty(); }

    // The core to run next.
    Core& next() {
        Core* next = nullptr;
        for (unsigned i = 0; i < machine_.cores(); ++i) {
            Core& core = machine_.core(i);
            if (!queues_[i].empty() && (!next || core.clock < next->clock)) next = &core;
        }
        if (!next) throw std::logic_error("every process waits at a barrier");
        return *next;
    }
    // Loads the process whose turn it is on a core.
    Process& load(Core& core) {
        Process& process = *queues_[core.id].front();
        if (core.running != &process) {
            machine_.switch_to(core, &process);
            process.quantum_start = core.clock;
        }
        return process;
    }
    // After a slice: the next one's turn, once the quantum is used up.
    void end_slice(Core& core) {
        auto& queue = queues_[core.id];
        Process* const process = queue.front();
        if (core.clock - process->quantum_start < quantum_) return;
        process->quantum_start = core.clock;
        queue.pop_front();
        queue.push_back(process);
    }
    // The loaded process waits until all others wait too.
    void wait(Core& core) {
        queues_[core.id].pop_front();
        ++waiting_;
        release(core.clock);
    }
    // The loaded process has ended.
    void leave(Core& core) {
        Process* const process = queues_[core.id].front();
        core.running = nullptr;
        queues_[core.id].pop_front();
        all_.erase(std::find(all_.begin(), all_.end(), process));
        release(core.clock);
    }

  private:
    // When all wait, they go on in the order in which they were added.
    void release(std::uint64_t now) {
        if (waiting_ != all_.size()) return;
        waiting_ = 0;
        for (Process* process : all_) {
            Core& core = machine_.core(process->core);
            if (queues_[core.id].empty() && core.clock < now) {
                core.idle += now - core.clock;
                core.clock = now;
            }
            queues_[core.id].push_back(process);
        }
    }

    Machine& machine_;
    std::uint64_t quantum_;
    std::vector<std::deque<Process*>> queues_;  // index: core; the front runs
    std::vector<Process*> all_;                 // that have not ended
    std::size_t waiting_ = 0;
};

}  // namespace ptshare::engine
