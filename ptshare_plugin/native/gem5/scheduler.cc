#include "gem5/scheduler.hh"

#include <algorithm>

#include "arch/x86/regs/misc.hh"
#include "base/logging.hh"
#include "gem5/kernel.hh"
#include "gem5/walker.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

using gem5::ThreadContext;

Task::Task(ThreadContext* tc, Walker* w, Scheduler& scheduler)
    : context(tc),
      walker(w),
      wake([this, &scheduler] { scheduler.woken(*this); }, "ptshare wake-up"),
      doom([this] { end(); }, "ptshare death"),
      turn([this, &scheduler] { scheduler.give_way(*this); }, "ptshare preemption") {
}

PhysicalCore::PhysicalCore(unsigned n, Scheduler& scheduler, Walker* w, std::uint64_t pcids)
    : id(n),
      walker(w),
      asids(pcids),
      in([this, &scheduler] { scheduler.switched_in(*this); }, "ptshare switch"),
      out([this, &scheduler] { scheduler.quantum_over(*this); }, "ptshare quantum") {
}

Scheduler::Scheduler(Kernel& kernel, const engine::Params& machine)
    : kernel_(kernel),
      pcids_(machine.count("mmu.pcids")),
      quantum_(machine.count("sched.quantum_cycles")) {
}

void Scheduler::add(Task& task) {
    auto core = std::find_if(cores_.begin(), cores_.end(),
                             [&](const PhysicalCore& c) { return c.walker == task.walker; });
    if (core == cores_.end()) {
        cores_.emplace_back(static_cast<unsigned>(cores_.size()), *this, task.walker, pcids_);
        core = std::prev(cores_.end());
    }
    task.core = &*core;
    ++core->contexts;
}

bool Scheduler::shares_cores() const {
    return std::any_of(cores_.begin(), cores_.end(),
                       [](const PhysicalCore& core) { return core.contexts > 1; });
}

void Scheduler::begin(Task& task) {
    if (alone(task)) {
        task.core->current = &task;
        load(*task.core, task);
    } else {
        ready(task);
    }
}

// As the kernel's switch_mm_irqs_off. The walker asks the task; the register is for whoever looks.
void Scheduler::load(PhysicalCore& core, Task& task) {
    task.mmu = kernel_.shootdowns().load(core.id, core.asids, core.walker->caches(), *task.mm);
    core.loaded = &task;
    core.used = true;
    core.spared = false;
    task.context->setMiscRegNoEffect(gem5::X86ISA::misc_reg::Cr3,
                                     address_of(task.mmu.root).value | task.mmu.pcid);
}

void Scheduler::ready(Task& task) {
    PhysicalCore& core = *task.core;
    if (alone(task)) {
        if (core.current != &task) {
            core.current = &task;
            load(core, task);
        }
        task.context->activate();
        return;
    }
    // A halted context would be taken for a free one: suspended it is not.
    if (task.context->status() == ThreadContext::Halted) task.context->activate();
    if (task.context->status() == ThreadContext::Active) task.context->suspend();
    requeue(task);
    if (core.current) {
        arm(core);
    } else {
        dispatch(core);
    }
}

void Scheduler::requeue(Task& task) {
    task.core->queue.push_back(&task);
}

void Scheduler::block(Task& task) {
    if (task.context->status() == ThreadContext::Active) task.context->suspend();
    if (!alone(task) && has_core(task)) release(*task.core);
}

void Scheduler::leave(Task& task) {
    PhysicalCore& core = *task.core;
    if (core.loaded == &task) core.loaded = nullptr;
    core.queue.erase(std::remove(core.queue.begin(), core.queue.end(), &task), core.queue.end());
    if (!has_core(task)) return;
    if (alone(task)) {
        core.current = nullptr;
    } else {
        release(core);
    }
}

// The current task gives the core to the next one.
void Scheduler::release(PhysicalCore& core) {
    Task& task = *core.current;
    if (task.turn.scheduled()) task.context->descheduleInstCountEvent(&task.turn);
    if (core.in.scheduled()) kernel_.deschedule(core.in);
    if (core.out.scheduled()) kernel_.deschedule(core.out);
    core.over = false;
    core.current = nullptr;
    dispatch(core);
}

void Scheduler::dispatch(PhysicalCore& core) {
    if (core.queue.empty()) return;
    Task& task = *core.queue.front();
    core.queue.pop_front();
    core.current = &task;
    std::uint64_t cycles = 0;
    if (core.used && core.loaded != &task) {
        cycles = kernel_.costs().switch_to;
        ++task.counters.switches;
        task.counters.cycles_switch += cycles;
    }
    load(core, task);
    kernel_.schedule(core.in, kernel_.clockEdge(gem5::Cycles(cycles)));
}

void Scheduler::switched_in(PhysicalCore& core) {
    core.quantum_start = kernel_.clockEdge();
    arm(core);
    Task& task = *core.current;
    if (task.pending != 0) {
        kernel_.work_off(task);
    } else {
        task.context->activate();
    }
}

bool PhysicalCore::rests() const {
    if (!current) return true;
    if (current->context->status() != ThreadContext::Suspended || in.scheduled()) return false;
    return current->sleep_until != 0 || !current->wake.scheduled();
}

// A quantum ends only when somebody waits.
void Scheduler::arm(PhysicalCore& core) {
    if (core.queue.empty() || core.over || core.in.scheduled() || core.out.scheduled()) return;
    const gem5::Tick quantum = kernel_.cyclesToTicks(quantum_);
    kernel_.schedule(core.out, std::max(core.quantum_start + quantum, kernel_.clockEdge()));
}

void Scheduler::quantum_over(PhysicalCore& core) {
    if (core.queue.empty()) return;
    core.over = true;
    Task& task = *core.current;
    // Kernel work is not preempted: see woken().
    if (task.context->status() != ThreadContext::Active) return;
    if (task.context->getSystemPtr()->isAtomicMode()) {
        // Nothing is under way between the ticks of an Atomic CPU, which would execute on for a
        // while if it were suspended within one.
        give_way(task);
    } else {
        task.context->scheduleInstCountEvent(&task.turn, task.context->getCurrentInstCount() + 1);
    }
}

void Scheduler::give_way(Task& task) {
    if (!has_core(task) || !task.core->over) return;
    if (task.context->status() != ThreadContext::Active) return;
    task.context->suspend();
    requeue(task);
    release(*task.core);
}

void Scheduler::woken(Task& task) {
    if (task.sleep_until != 0) {
        if (gem5::curTick() < task.sleep_until) {
            block(task);
            kernel_.schedule(task.wake, task.sleep_until);
            return;
        }
        task.sleep_until = 0;
        if (!has_core(task)) {
            ready(task);
            return;
        }
    }
    if (task.core->over) {
        requeue(task);
        release(*task.core);
    } else {
        task.context->activate();
    }
}

}  // namespace ptshare::g5
