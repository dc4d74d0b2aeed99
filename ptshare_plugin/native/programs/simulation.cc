// Scheduling, and what executing code meets.
#include "programs/simulation.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare::engine {

Simulation::Simulation(const Params& params, const std::string& policy, unsigned cores,
                       std::uint64_t seed, const std::string& unicorn_library)
    : seed_(seed),
      slice_(params.count("sched.slice_instructions")),
      quantum_(params.count("sched.quantum_cycles")),
      frequency_mhz_(params.count("cpu.frequency_mhz")),
      memory_(params.count("kernel.memory_bytes")),
      machine_(params, policy, cores, memory_),
      executor_(unicorn_library, memory_),
      user_memory_(machine_, memory_),
      vfs_(machine_.kernel(), memory_),
      loader_(machine_, user_memory_, seed),
      syscalls_(machine_, user_memory_, vfs_, executor_, *this, ranks_, frequency_mhz_, seed),
      queues_(cores) {
    params.refuse_unread();
}

Simulation::~Simulation() {
    for (const auto& task : tasks_) {
        if (task->registers) executor_.free_context(task->registers);
    }
}

bool Simulation::step(std::uint64_t instructions) {
    const std::uint64_t target = executed_ + instructions;
    try {
        while (executed_ < target) {
            Core* core = next_core();
            if (!core) {
                if (tasks_.empty()) return true;
                throw std::runtime_error("deadlock: every process left waits for another");
            }
            run_slice(*core);
        }
    } catch (const OutOfMemory& error) {
        throw std::runtime_error(error.what());
    }
    return tasks_.empty();
}

// ---- Scheduling

Core* Simulation::next_core() {
    Core* best = nullptr;
    std::uint64_t best_time = 0;
    const auto consider = [&](Core& core, std::uint64_t time) {
        if (best && (time > best_time || (time == best_time && core.id > best->id))) return;
        best = &core;
        best_time = time;
    };
    for (unsigned i = 0; i < machine_.cores(); ++i) {
        if (!queues_[i].empty()) consider(machine_.core(i), machine_.core(i).clock);
    }
    for (const auto& task : tasks_) {
        if (task->state != Task::State::Sleeping || !queues_[task->core].empty()) continue;
        consider(core_of(*task), std::max(core_of(*task).clock, task->wake_clock));
    }
    if (best) wake_sleepers(*best);
    return best;
}

void Simulation::wake_sleepers(Core& core) {
    // With nothing else to run the core idles until its first sleeper wakes.
    std::uint64_t now = core.clock;
    if (queues_[core.id].empty()) {
        std::uint64_t first = ~0ULL;
        for (const auto& task : tasks_) {
            if (task->state == Task::State::Sleeping && task->core == core.id) {
                first = std::min(first, task->wake_clock);
            }
        }
        now = std::max(now, first);
    }
    for (const auto& task : tasks_) {
        if (task->state == Task::State::Sleeping && task->core == core.id &&
            task->wake_clock <= now) {
            make_runnable(*task, task->wake_clock);
        }
    }
}

void Simulation::make_runnable(Task& task, std::uint64_t clock) {
    Core& core = core_of(task);
    if (queues_[core.id].empty() && clock > core.clock) {
        core.idle += clock - core.clock;
        core.clock = clock;
    }
    task.state = Task::State::Runnable;
    task.quantum_start = core.clock;  // it slept for the rest of the last one
    queues_[core.id].push_back(&task);
}

void Simulation::leave_queue(Task& task, Task::State state) {
    auto& queue = queues_[task.core];
    queue.erase(std::remove(queue.begin(), queue.end(), &task), queue.end());
    task.state = state;
}

unsigned Simulation::least_loaded_core() const {
    std::vector<std::size_t> load(queues_.size());
    for (const auto& task : tasks_) ++load[task->core];
    return static_cast<unsigned>(std::min_element(load.begin(), load.end()) - load.begin());
}

void Simulation::activate(Core& core, Task& task) {
    if (core.running != &task) {
        machine_.switch_to(core, &task);
        task.quantum_start = core.clock;
    }
    const bool changed = machine_.take_translations_changed();
    if (active_ != &task) {
        if (active_) executor_.save(active_->registers);
        active_ = &task;
        executor_.load(task.registers);
        executor_.forget_translations();
    } else if (changed) {
        executor_.forget_translations();
    }
}

void Simulation::run_slice(Core& core) {
    Task& task = *queues_[core.id].front();
    running_core_ = &core;
    activate(core, task);
    if (task.needs_exec) start_program(core, task);
    if (task.set_child_tid != VirtAddr(0)) {
        user_memory_.put(core, task.set_child_tid, task.pid);
        task.set_child_tid = VirtAddr(0);
    }
    if (task.repeat_syscall) {
        task.repeat_syscall = false;
        serve_syscall(core, task);
        return;
    }
    const Executor::Stop stop = executor_.run(*this, task.pc, slice_, task.program);
    task.pc = executor_.pc();
    switch (stop) {
        case Executor::Stop::Budget:
            break;
        case Executor::Stop::Syscall:
            serve_syscall(core, task);
            // The task may be gone or blocked.
            if (queues_[core.id].empty() || queues_[core.id].front() != &task) return;
            break;
        case Executor::Stop::Fault:
            fatal_fault(task);
            return;
        case Executor::Stop::Exception:
            cpu_exception(task);
            return;
    }
    if (core.clock - task.quantum_start >= quantum_) yield(task);
}

void Simulation::serve_syscall(Core& core, Task& task) {
    const SyscallRegisters registers = executor_.syscall_registers();
    const SyscallResult result = syscalls_.perform(core, task, registers);
    // Without a result the task may be gone.
    if (result) executor_.set_result(*result, task.pc);
}

// ---- What executing code meets

bool Simulation::map(VirtAddr page, Access access, Mapping& mapping) {
    Core& core = *running_core_;
    // A fault changes no translation but this page's, which Unicorn replaces: nothing to forget.
    PhysAddr physical;
    if (!machine_.make_accessible(core, page, access, &physical)) return false;
    const auto leaf = core.running->mm->table.leaf(page);
    if (core.context.suspect || !leaf) {  // a TLB entry may serve this access and no other
        mapping = {pfn_of(physical), access != Access::Fetch, access == Access::Write,
                   access == Access::Fetch};
        return true;
    }
    mapping.frame = leaf->frame_of(page);
    mapping.read = leaf->pte.permits(Access::Read);
    mapping.write = leaf->pte.permits(Access::Write);
    mapping.execute = leaf->pte.permits(Access::Fetch);
    return true;
}

void Simulation::approach(PhysAddr physical) {
    machine_.hierarchy().prefetch(running_core_->id, physical);
}

bool Simulation::data(VirtAddr address, PhysAddr physical, unsigned size, Access access) {
    Core& core = *running_core_;
    const auto in_page =
        static_cast<unsigned>(std::min<std::uint64_t>(size, kPageSize - page_offset(address)));
    PhysAddr went;
    if (!machine_.access(core, address, in_page, access, &went)) return false;
    // The executor may keep a stale translation for longer than the TLB does.
    if (went != physical && !machine_.used_stale(core)) {
        throw std::logic_error("the MMU and the executor disagree on a frame");
    }
    if (in_page < size && !machine_.access(core, address + in_page, size - in_page, access)) {
        return false;
    }
    return true;
}

bool Simulation::block(VirtAddr address, unsigned bytes, unsigned instructions) {
    executed_ += instructions;
    return machine_.block(*running_core_, address, bytes, instructions);
}

std::uint64_t Simulation::timestamp() {
    return running_core_->clock;
}

std::uint64_t Simulation::nanoseconds(const Task& task) const {
    const std::uint64_t clock = machine_.core(task.core).clock;
    return clock / frequency_mhz_ * 1000 + clock % frequency_mhz_ * 1000 / frequency_mhz_;
}

}  // namespace ptshare::engine
