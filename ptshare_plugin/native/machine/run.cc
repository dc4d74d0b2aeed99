#include "machine/run.h"

#include <stdexcept>
#include <utility>

namespace ptshare::engine {

Run::Run(const Params& params, const std::string& policy, unsigned cores,
         std::shared_ptr<TableStores> contents)
    : contents_(std::move(contents)),
      slice_(params.count("sched.slice_instructions")),
      machine_(params, policy, cores, *contents_),
      queues_(machine_, params.count("sched.quantum_cycles")) {
}

bool Run::step(std::uint64_t count) {
    const std::uint64_t target = progress_ + count;
    try {
        while (!over() && progress_ < target) {
            Core& core = next_core();
            machine_.enter(core);
            run_slice(core, queues_.load(core));
        }
    } catch (const OutOfMemory& error) {
        throw std::runtime_error(error.what());
    }
    return over();
}

void Run::mark(Thread& thread, std::uint64_t kind) {
    samples_.push_back(take_sample(thread.rank, thread.process_number, kind, *thread.mm,
                                   thread.counters, thread.faults_before));
    if (kind == kMarkBegin && !thread.in_roi) {
        thread.in_roi = true;
        thread.roi_begin = thread.counters;
        ranks_[thread.rank].marked = true;
    } else if (kind == kMarkEnd) {
        end_roi(thread);
    }
}

void Run::end_roi(Thread& thread) {
    if (!thread.in_roi) return;
    thread.in_roi = false;
    Counters inside = thread.counters;
    subtract(inside, thread.roi_begin);
    add(ranks_[thread.rank].roi, inside);
}

}  // namespace ptshare::engine
