#include "streams/barrier_run.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace ptshare::engine {

namespace {

constexpr std::uint32_t kFirstPid = 1000;

}  // namespace

// Nobody reads bytes of its memory.
BarrierRun::BarrierRun(const Params& params, const std::string& policy, unsigned cores)
    : Run(params, policy, cores, std::make_shared<TableStores>()) {
    params.count("cpu.frequency_mhz");  // nothing here reads a clock
    params.refuse_unread();
}

void BarrierRun::add(Thread& process) {
    process.rank = static_cast<unsigned>(ranks_.size());
    process.core = process.rank % machine_.cores();
    process.mm = &machine_.create_mm();
    ranks_.emplace_back().pid = kFirstPid + process.rank;
    alive_.push_back(&process);
    queues_.add(process, 0);
}

Core& BarrierRun::next_core() {
    if (Core* const next = queues_.earliest()) return *next;
    throw std::logic_error("every process waits at a barrier");
}

void BarrierRun::wait(Core& core) {
    queues_.remove(*queues_.front(core));
    ++waiting_;
    release_when_all_wait(core.clock);
}

void BarrierRun::exit(Core& core) {
    Thread& process = *queues_.front(core);
    machine_.kernel().exit(*process.mm);
    process.mm = nullptr;
    machine_.charge_syscall(core, machine_.costs().exit);
    core.running = nullptr;
    engine::add(ranks_[process.rank].counters, process.counters);
    queues_.remove(process);
    alive_.erase(std::find(alive_.begin(), alive_.end(), &process));
    release_when_all_wait(core.clock);
}

void BarrierRun::release_when_all_wait(std::uint64_t now) {
    if (waiting_ != alive_.size()) return;
    waiting_ = 0;
    for (Thread* process : alive_) queues_.add(*process, now);
}

}  // namespace ptshare::engine
