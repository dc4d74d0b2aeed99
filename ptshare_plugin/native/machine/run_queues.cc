#include "machine/run_queues.h"

#include <algorithm>

namespace ptshare::engine {

Core* RunQueues::earliest() {
    Core* first = nullptr;
    for (unsigned i = 0; i < machine_.cores(); ++i) {
        Core& core = machine_.core(i);
        if (!empty(core) && (!first || core.clock < first->clock)) first = &core;
    }
    return first;
}

void RunQueues::add(Thread& thread, std::uint64_t now) {
    Core& core = machine_.core(thread.core);
    if (empty(core)) core.idle_until(now);
    queues_[core.id].push_back(&thread);
}

void RunQueues::remove(const Thread& thread) {
    auto& queue = queues_[thread.core];
    queue.erase(std::remove(queue.begin(), queue.end(), &thread), queue.end());
    if (queue.empty()) machine_.rest(machine_.core(thread.core));
}

Thread& RunQueues::load(Core& core) {
    Thread& thread = *queues_[core.id].front();
    if (core.running != &thread) {
        machine_.switch_to(core, &thread);
        thread.quantum_start = core.clock;
    }
    return thread;
}

void RunQueues::yield(Core& core) {
    auto& queue = queues_[core.id];
    Thread* const thread = queue.front();
    thread->quantum_start = core.clock;
    queue.pop_front();
    queue.push_back(thread);
}

}  // namespace ptshare::engine
