// Core's kernel as a SimObject: it owns the processes' address spaces, hands out the simulated
// memory, serves faults, and charges what they cost.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "accounting/costs.h"
#include "accounting/marks.h"
#include "accounting/params.h"
#include "core/kernel.h"
#include "gem5/contents.hh"
#include "gem5/scheduler.hh"
#include "gem5/task.hh"
#include "gem5/values.hh"
#include "mem/port_proxy.hh"
#include "params/PtshareKernel.hh"
#include "sim/clocked_object.hh"
#include "sim/process.hh"
#include "translation/shootdown.h"

namespace ptshare::g5 {

using gem5::PtshareKernelParams;

class Kernel : public gem5::ClockedObject {
  public:
    PARAMS(PtshareKernel);
    explicit Kernel(const Params& p);
    ~Kernel() override;

    const engine::Params& machine() const { return machine_; }
    const engine::Costs& costs() const { return costs_; }
    Scheduler& scheduler() { return scheduler_; }
    engine::Shootdowns& shootdowns() { return shootdowns_; }
    // Built at first use: memory is known only when the system has been put together.
    ptshare::Kernel& core();
    gem5::PortProxy& memory();

    void set_system(gem5::System* system) { system_ = system; }

    // ---- Tasks

    // Makes the context one of ours; with `starts`, its process is to be run. In init(): memory
    // cannot be written yet.
    void adopt(gem5::ThreadContext* tc, bool starts);
    // Gives a process that starts its address space with its program in it, once.
    void load(Task& task);
    // When the run begins or goes on after a checkpoint.
    void begin_run();
    // The task of a context whose process core knows, or null.
    Task* task(const gem5::ThreadContext* tc) const;
    // The task of a context, idle ones too; null: not one of ours.
    Task* context_task(const gem5::ThreadContext* tc) const;
    // Those that have an address space, by context.
    std::vector<Task*> tasks() const;
    // What an idle context runs next: a task with the parent's mm, or with a copy of it. Throws
    // OutOfMemory, and then nothing has changed.
    void begin_task(Task& task, Task& parent, bool same_mm);
    // The task leaves its address space, for ever.
    void end_task(Task& task);
    void mark(Task& task, std::uint64_t kind);
    // The file behind a host descriptor, known by device and inode; made when `create`, else null.
    std::shared_ptr<File> file(int host_fd, bool create);

    // Files whose size was changed on the host have it here too; pages cut off are unmapped.
    void take_host_sizes();

    // How a process ended: its exit code, or minus the signal that killed it.
    void set_status(std::uint64_t pid, int status);
    // Of the process `index`, in the order in which they were started; -1000: it has not ended.
    int status(unsigned index) const;
    // What processes had at their marks, in time's order: the fields of engine::Sample in theirs.
    std::vector<std::vector<std::uint64_t>> samples() const;

    // ---- Faults and time

    // Serves a page fault and charges it. A fatal one ends the simulation.
    void page_fault(gem5::ThreadContext* tc, VirtAddr address, Access access);
    // The frame behind an address of user memory, faulted in as copy_to_user does; Pfn(0): EFAULT.
    Pfn user_frame(Task& task, VirtAddr address, Access access);
    bool copy_in(Task& task, VirtAddr from, void* to, std::uint64_t n);
    bool copy_out(Task& task, VirtAddr to, const void* from, std::uint64_t n);
    // What core does from now on it does on the task's CPU.
    void enter(const Task& task);
    // Adds kernel work to what the task owes, flushes included.
    void owe(Task& task, std::uint64_t engine::Counters::*category, std::uint64_t cycles);
    // The CPU spends what its task owes: it stands still for so long.
    void spend(Task& task);
    // The same when its context is suspended already.
    void work_off(Task& task);

    void init() override;
    void resetStats() override;
    void preDumpStats() override;
    gem5::DrainState drain() override;
    void serialize(gem5::CheckpointOut& cp) const override;
    void unserialize(gem5::CheckpointIn& cp) override;

  private:
    void build_core(std::uint64_t memory_bytes, std::uint64_t first_frame);
    // One fault: served, counted, owed for. False: fatal.
    bool serve(Task& task, VirtAddr address, Access access, FaultResult& result);
    void shoot_down(Task& task, const FlushRequest& request);
    void store_tables(Task& task);
    void count_instructions(Task& task);
    void end_marks(Task& task);
    // Of a rank with its live tasks.
    engine::Counters total(const Rank& rank);
    void add_statistics(Rank& rank);

    gem5::System* system_ = nullptr;  // not owned; set by the workload, which is made before it
    engine::Params machine_;
    KernelConfig config_;  // its memory: set when core is built
    engine::Costs costs_;
    engine::Shootdowns shootdowns_;
    Scheduler scheduler_;
    std::unique_ptr<Contents> contents_;  // outlives core_; both are null before core() made them
    std::unique_ptr<ptshare::Kernel> core_;
    std::deque<Task> contexts_;      // a deque, as ranks_: others point at what is in it
    std::vector<Task*> by_context_;  // into contexts_; index: context id; null: none of ours
    std::deque<Rank> ranks_;
    std::map<std::uint64_t, int> statuses_;  // by pid, of processes that have ended
    // By device and inode: those that were mapped, held for the whole run.
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::shared_ptr<File>> files_;
    bool restored_ = false;  // from a checkpoint
    bool running_ = false;
    unsigned inside_ = 0;  // invariant: tasks with in_roi
    std::vector<engine::Sample> samples_;
    std::deque<Values> values_;            // the kernel's own, then two groups a rank
    std::deque<std::string> group_names_;  // gem5 keeps pointers to them
};

// A kind of fault or configuration that ends the simulation with one line.
template <class Work>
auto or_fatal(Work&& work) {
    try {
        return work();
    } catch (const std::exception& error) {
        fatal("ptshare: %s", error.what());
    }
}

}  // namespace ptshare::g5
