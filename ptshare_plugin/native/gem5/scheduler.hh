// Which CPU contexts run. gem5 binds a process to a CPU, so with more of them than cores several
// CPUs stand for one physical core: they share its caches and its walker, and take turns.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "accounting/params.h"
#include "base/types.hh"
#include "gem5/task.hh"
#include "sim/eventq.hh"
#include "translation/asids.h"

namespace ptshare::g5 {

class Kernel;
class Walker;

// One physical core: the contexts that use one walker. Nothing is owned.
struct PhysicalCore {
    PhysicalCore(unsigned n, Scheduler& scheduler, Walker* w, std::uint64_t pcids);

    unsigned id;  // its place in Scheduler::cores()
    Walker* walker;
    engine::Asids asids;
    unsigned contexts = 0;
    std::deque<Task*> queue;         // runnable, their contexts suspended; the front is next
    Task* current = nullptr;         // has the core; not in the queue
    Task* loaded = nullptr;          // whose mm the core has loaded, until that task ends
    bool used = false;               // some task was loaded before: loading another is a switch
    bool spared = false;             // a flush was not for it, as it rested: due when it goes on
    bool over = false;               // the current one's quantum is
    gem5::Tick quantum_start = 0;    // when its context was activated
    gem5::EventFunctionWrapper in;   // the end of a switch: the current one goes on
    gem5::EventFunctionWrapper out;  // the end of its quantum

    // Whether it has nothing to run: its task sleeps, or waits for another's call.
    bool rests() const;
};

// Round robin on each core, as the embedded engine's. A core with one context has no queue: what is
// runnable runs.
class Scheduler {
  public:
    // `kernel` must outlive this.
    Scheduler(Kernel& kernel, const engine::Params& machine);

    // A context, by its task; those of one walker are one core's.
    void add(Task& task);
    // When the run begins or goes on: gem5 has activated the context.
    void begin(Task& task);
    // The task can run: now, or when its turn comes.
    void ready(Task& task);
    // It cannot: its context is suspended, and the core goes to the next one at once.
    void block(Task& task);
    // It would let the others of its core run first, when its system call is done.
    void yield(Task& task) { task.core->over = !task.core->queue.empty(); }
    // It has ended.
    void leave(Task& task);
    // The core has the task's mm to use: at a switch, and when it goes on after it was spared.
    void load(PhysicalCore& core, Task& task);
    // It may execute. gem5 itself activates the contexts that futexes and pipes wake.
    bool has_core(const Task& task) const { return task.core->current == &task; }
    // The core's time for it alone: nobody waits for a turn, ever.
    bool alone(const Task& task) const { return task.core->contexts == 1; }
    // Its kernel work is done, or the time is over for which it sleeps.
    void woken(Task& task);

    std::deque<PhysicalCore>& cores() { return cores_; }
    // Whether some core has several contexts.
    bool shares_cores() const;

  private:
    friend struct Task;
    friend struct PhysicalCore;

    void dispatch(PhysicalCore& core);
    void release(PhysicalCore& core);
    // To the end of the queue.
    void requeue(Task& task);
    void arm(PhysicalCore& core);
    void switched_in(PhysicalCore& core);
    void quantum_over(PhysicalCore& core);
    // The current task, between two of its instructions.
    void give_way(Task& task);

    Kernel& kernel_;
    std::uint64_t pcids_;
    gem5::Cycles quantum_;
    std::deque<PhysicalCore> cores_;  // one a walker; tasks point at them
};

}  // namespace ptshare::g5
