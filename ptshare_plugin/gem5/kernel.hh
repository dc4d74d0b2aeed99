// Core's kernel as a SimObject: it owns the processes' address spaces, hands out the simulated
// memory, serves faults, and charges what they cost.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/exec.h"
#include "core/kernel.h"
#include "cpu/thread_context.hh"
#include "engine/costs.h"
#include "engine/counters.h"
#include "engine/params.h"
#include "engine/translation_caches.h"
#include "gem5/values.hh"
#include "mem/port_proxy.hh"
#include "params/PtshareKernel.hh"
#include "sim/clocked_object.hh"

namespace ptshare::g5 {

using gem5::PtshareKernelParams;

class Walker;

// One process of the run, and what it is charged.
struct ProcessRecord {
    unsigned index = 0;                      // in the order of the CPUs
    gem5::Process* process = nullptr;        // not owned
    gem5::ThreadContext* context = nullptr;  // not owned
    bool loaded = false;
    Mm* mm = nullptr;          // not owned; null before it is loaded and once the process has left
    Walker* walker = nullptr;  // of its CPU; not owned
    engine::MmuContext mmu;
    engine::Counters counters;
    engine::Counters at_reset;   // values at the last reset of statistics
    engine::Counters roi;        // inside the program's marks
    engine::Counters roi_begin;  // values at the begin mark, while inside
    bool in_roi = false;
    std::uint64_t pending = 0;  // cycles of kernel work that its CPU has not spent yet
    int exit_code = 0;
    int signal = 0;  // that killed it; 0: none
};

// Simulated physical memory as core writes it: through the system port, so that caches see it.
class Contents final : public FrameContents {
  public:
    explicit Contents(gem5::PortProxy& memory) : memory_(memory) {}
    ~Contents() override;

    // Bytes of `file` come from the host file behind `fd`, which is duplicated.
    void back(const File& file, int fd);
    // The host file's descriptor, or -1.
    int host_file(const File& file) const;

    void zero(Pfn pfn) override;
    void copy(Pfn to, Pfn from) override;
    void read_file(const File& file, std::uint64_t index, Pfn pfn) override;
    void cut_file(const File& file, std::uint64_t bytes, Pfn last) override;
    void zero_table(Pfn pfn) override { zero(pfn); }
    void write_entry(PhysAddr at, std::uint64_t bits) override;

  private:
    gem5::PortProxy& memory_;
    std::map<std::uint64_t, int> host_;  // by file id; descriptors are owned
};

class Kernel : public gem5::ClockedObject {
  public:
    PARAMS(PtshareKernel);
    explicit Kernel(const Params& p);
    ~Kernel() override;

    const engine::Params& machine() const { return machine_; }
    const engine::Costs& costs() const { return costs_; }
    // Built at first use: memory is known only when the system has been put together.
    ptshare::Kernel& core();
    gem5::PortProxy& memory();

    void set_system(gem5::System* system) { system_ = system; }

    // ---- Processes

    // Makes the context's process one of ours. In init(): memory cannot be written yet.
    void adopt(gem5::ThreadContext* tc);
    // Gives it an address space with its program in it. In initState(), before anything else.
    void load(ProcessRecord& record);
    // The process that runs on a context, or null.
    ProcessRecord* record(const gem5::ThreadContext* tc) const {
        const auto id = static_cast<std::size_t>(tc->contextId());
        return id < by_context_.size() ? by_context_[id] : nullptr;
    }
    // The process leaves its address space.
    void leave(ProcessRecord& record);
    void mark(ProcessRecord& record, std::uint64_t kind);
    // The file behind a host descriptor, known by device and inode; made when `create`, else null.
    std::shared_ptr<File> file(int host_fd, bool create);

    // ---- Faults and time

    // Serves a page fault and charges it. A fatal one ends the simulation.
    void page_fault(gem5::ThreadContext* tc, VirtAddr address, Access access);
    // The frame behind an address of user memory, faulted in as copy_to_user does; Pfn(0): EFAULT.
    Pfn user_frame(ProcessRecord& record, VirtAddr address, Access access);
    bool copy_in(ProcessRecord& record, VirtAddr from, void* to, std::uint64_t n);
    bool copy_out(ProcessRecord& record, VirtAddr to, const void* from, std::uint64_t n);
    // Adds kernel work to what the process owes, flushes included.
    void owe(ProcessRecord& record, std::uint64_t engine::Counters::*category,
             std::uint64_t cycles);
    // The CPU spends what its process owes: it stands still for so long.
    void spend(ProcessRecord& record);

    // How process `index` ended: its exit code, or minus the signal that killed it.
    int status(unsigned index) const;

    void init() override;
    void resetStats() override;
    void preDumpStats() override;

  private:
    // One fault: served, counted, owed for. False: fatal.
    bool serve(ProcessRecord& record, VirtAddr address, Access access, FaultResult& result);
    void shoot_down(ProcessRecord& record, const FlushRequest& request);
    std::uint64_t flush(ProcessRecord& record, const FlushTarget& target);
    void update_instructions(ProcessRecord& record);
    void add_statistics(ProcessRecord& record);

    gem5::System* system_ = nullptr;  // not owned; set by the workload, which is made before it
    engine::Params machine_;
    engine::Costs costs_;
    std::uint64_t flush_ceiling_;  // pages
    std::unique_ptr<Contents> contents_;
    std::unique_ptr<ptshare::Kernel> core_;
    std::deque<ProcessRecord> records_;
    std::vector<ProcessRecord*> by_context_;  // index: context id; null: no process
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::shared_ptr<File>> files_;
    unsigned inside_ = 0;  // processes between their marks
    std::uint64_t invalidated_ranges_ = 0;
    std::deque<Values> values_;  // the kernel's own, then two groups a process
    std::deque<std::string> group_names_;
};

}  // namespace ptshare::g5
