// What runs on the CPUs, and what it is charged.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "accounting/counters.h"
#include "core/mm.h"
#include "cpu/thread_context.hh"
#include "sim/eventq.hh"
#include "translation/translation_caches.h"

namespace ptshare::g5 {

class Scheduler;
class Walker;
struct PhysicalCore;

// One started process with all that it forked, as the statistics list it.
struct Rank {
    unsigned index = 0;
    std::uint64_t pid = 0;
    engine::Counters counters;     // of its tasks that have ended
    engine::Counters roi;          // inside the program's marks, of all its tasks
    engine::Counters at_reset;     // totals at the last reset of statistics
    engine::Counters since_reset;  // up to the last dump, which shows them
    unsigned processes = 1;        // it and its forked descendants, ever
};

// One CPU context and the thread that runs on it; idle while mm is null. Other contexts than those
// of the first processes have no rank until a fork comes to them.
struct Task {
    Task(gem5::ThreadContext* tc, Walker* w, Scheduler& scheduler);

    gem5::ThreadContext* context;          // not owned, as is walker
    Walker* walker;                        // of its core
    PhysicalCore* core = nullptr;          // that it runs on; set by Scheduler::add; not owned
    Rank* rank = nullptr;                  // that it descends from; not owned
    unsigned process_number = 0;           // engine::Sample::process
    bool started = false;                  // its program is loaded, or it was forked
    std::uint64_t faults_before_exec = 0;  // minor ones, when its program was loaded
    Mm* mm = nullptr;                      // one of its users is this task; not owned
    engine::MmuContext mmu;
    engine::Counters counters;
    std::uint64_t first_instruction = 0;  // of the context, when this task came to it

    bool in_roi = false;
    engine::Counters roi_begin;  // values at the begin mark, while inside

    std::uint64_t pending = 0;        // cycles of kernel work that its CPU has not spent yet
    gem5::EventFunctionWrapper wake;  // when it has spent them; the CPU stands still meanwhile
    gem5::Tick sleep_until = 0;       // then off its core until this time; 0: it does not sleep

    // Set when another CPU ends this task while it runs: what it does at its next instruction, page
    // fault or system call, whichever comes first.
    std::function<void()> die;
    gem5::EventFunctionWrapper doom;  // at its next instruction
    gem5::EventFunctionWrapper turn;  // its quantum is over: it gives way at its next instruction

    VirtAddr clear_child_tid;      // set_tid_address: zeroed and woken at its end; 0: nothing
    Task* vfork_parent = nullptr;  // stands still until this task gives the mm back
    bool waiting = false;          // in wait4, for:
    std::int64_t wait_for = -1;    // a pid, or -1
    VirtAddr wait_status;          // where the status goes, 0: nowhere

    // Carries out `die`, which forgets itself with the task.
    void end() { std::exchange(die, nullptr)(); }
    gem5::Process* process() const { return context->getProcessPtr(); }
};

}  // namespace ptshare::g5
