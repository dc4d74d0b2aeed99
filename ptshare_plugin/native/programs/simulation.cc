// Scheduling, waiting, and what executing code meets.
#include "programs/simulation.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <tuple>

#include "programs/instruction.h"

namespace ptshare::engine {

Simulation::Simulation(const Params& params, const std::string& policy, unsigned cores,
                       std::uint64_t seed, const std::string& unicorn_library)
    : Simulation(params, policy, cores, seed, unicorn_library,
                 std::make_shared<HostMemory>(params.count("kernel.memory_bytes"))) {
}

Simulation::Simulation(const Params& params, const std::string& policy, unsigned cores,
                       std::uint64_t seed, const std::string& unicorn_library,
                       const std::shared_ptr<HostMemory>& memory)
    : Run(params, policy, cores, memory),
      frequency_mhz_(params.count("cpu.frequency_mhz")),
      memory_(*memory),
      executor_(unicorn_library, memory_),
      user_memory_(machine_, memory_),
      vfs_(machine_.kernel(), memory_),
      loader_(machine_, user_memory_, seed),
      syscalls_(machine_, user_memory_, vfs_, executor_, *this, ranks_, frequency_mhz_, seed) {
    params.refuse_unread();
}

Simulation::~Simulation() {
    for (const auto& task : tasks_) {
        if (task->registers) executor_.free_context(task->registers);
    }
}

// ---- Scheduling

// A core that idles until its first sleeper wakes competes with that time.
Core& Simulation::next_core() {
    Core* best = queues_.earliest();
    std::uint64_t best_time = best ? best->clock : 0;
    for (const auto& task : tasks_) {
        Core& core = core_of(*task);
        if (task->state != Task::State::Sleeping || !queues_.empty(core)) continue;
        const std::uint64_t time = std::max(core.clock, task->wake_clock);
        if (best && (time > best_time || (time == best_time && core.id > best->id))) continue;
        best = &core;
        best_time = time;
    }
    if (!best) throw std::runtime_error("deadlock: every process left waits for another");
    wake_sleepers(*best);
    return *best;
}

void Simulation::wake_sleepers(Core& core) {
    // With nothing else to run the core idles until its first sleeper wakes.
    std::uint64_t now = core.clock;
    if (queues_.empty(core)) {
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
    task.state = Task::State::Runnable;
    queues_.add(task, clock);
    task.quantum_start = core_of(task).clock;  // it slept for the rest of the last one
}

void Simulation::leave_queue(Task& task, Task::State state) {
    queues_.remove(task);
    task.state = state;
}

unsigned Simulation::least_loaded_core() const {
    std::vector<std::size_t> load(machine_.cores());
    for (const auto& task : tasks_) ++load[task->core];
    return static_cast<unsigned>(std::min_element(load.begin(), load.end()) - load.begin());
}

// Unicorn is to execute the task, which its core has loaded.
void Simulation::activate(Task& task) {
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

void Simulation::run_slice(Core& core, Thread& thread) {
    auto& task = static_cast<Task&>(thread);
    running_core_ = &core;
    activate(task);
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
            if (queues_.front(core) != &task) return;
            break;
        case Executor::Stop::Fault:
            fatal_fault(task);
            return;
        case Executor::Stop::Exception:
            cpu_exception(task);
            return;
    }
    queues_.end_slice(core);
}

void Simulation::serve_syscall(Core& core, Task& task) {
    const SyscallRegisters registers = executor_.syscall_registers();
    const SyscallResult result = syscalls_.perform(core, task, registers);
    // Without a result the task may be gone.
    if (result) executor_.set_result(*result, task.pc);
}

// ---- Waiting

void Simulation::yield(Task& task) {
    queues_.yield(core_of(task));
}

void Simulation::sleep(Task& task, std::uint64_t cycles) {
    task.wake_clock = core_of(task).clock + cycles;
    leave_queue(task, Task::State::Sleeping);
}

void Simulation::futex_wait(Task& task, VirtAddr address) {
    task.futex = address;
    leave_queue(task, Task::State::Futex);
}

std::int64_t Simulation::futex_wake(Task& task, VirtAddr address, std::uint64_t count) {
    // As Linux's futex_key: a word of a shared file wherever it is mapped, else of one mm.
    const auto word = [](const Task& of, VirtAddr at) {
        const Vma* vma = of.mm->find(at);
        const bool file = vma && vma->file && vma->has(kVmShared);
        return file ? std::make_tuple(vma->file->id(), std::uint64_t{0},
                                      (vma->file_page_of(at) << kPageShift) + page_offset(at))
                    : std::make_tuple(std::uint64_t{0}, of.mm->id.value, at.value);
    };
    const auto mine = word(task, address);
    std::int64_t woken = 0;
    for (const auto& other : tasks_) {
        if (static_cast<std::uint64_t>(woken) >= count) break;
        if (other->state != Task::State::Futex || word(*other, other->futex) != mine) continue;
        make_runnable(*other, core_of(task).clock);
        ++woken;
    }
    return woken;
}

// ---- What executing code meets

bool Simulation::map(VirtAddr page, Access access, Mapping& mapping) {
    Core& core = *running_core_;
    // A fault changes no translation but this page's, which Unicorn replaces: nothing to forget.
    PhysAddr physical;
    if (access == Access::Read && writes_back()) access = Access::Write;
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
    Loading* const loading = access == Access::Read ? this : nullptr;
    if (!machine_.access(core, address, in_page, access, &went, loading)) return false;
    // The executor may keep a stale translation for longer than the TLB does. And the load of a
    // read-modify-write reads what the copy that its fault made was made of; the store, for which
    // the executor asks anew, goes to the copy.
    const bool copied = went != physical && loading && writes_back();
    if (went != physical && !copied && !machine_.used_stale(core)) {
        throw std::logic_error("the MMU and the executor disagree on a frame");
    }
    return in_page == size ||
           machine_.access(core, address + in_page, size - in_page, access, nullptr, loading);
}

// Unicorn reports the load of such an instruction, and later its store.
bool Simulation::writes_back() {
    const VirtAddr at = executor_.instruction();
    std::uint8_t bytes[kMostInstructionBytes];
    std::size_t count = 0;
    while (count < sizeof bytes) {
        const VirtAddr from = at + count;
        const auto leaf = running_core_->running->mm->table.leaf(from);
        if (!leaf) break;
        const std::uint64_t part =
            std::min<std::uint64_t>(sizeof bytes - count, kPageSize - page_offset(from));
        std::memcpy(bytes + count,
                    memory_.data() + address_of(leaf->frame_of(from)).value + page_offset(from),
                    part);
        count += part;
    }
    return engine::writes_back(bytes, count);
}

bool Simulation::block(VirtAddr address, unsigned bytes, unsigned instructions) {
    progress_ += instructions;
    return machine_.block(*running_core_, address, bytes, instructions);
}

std::uint64_t Simulation::timestamp() {
    return running_core_->clock;
}

void Simulation::mark(Task& task, std::uint64_t kind) {
    Run::mark(task, kind);
}

std::uint64_t Simulation::nanoseconds(const Task& task) const {
    const std::uint64_t clock = machine_.core(task.core).clock;
    return clock / frequency_mhz_ * 1000 + clock % frequency_mhz_ * 1000 / frequency_mhz_;
}

}  // namespace ptshare::engine
