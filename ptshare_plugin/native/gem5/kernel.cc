#include "gem5/kernel.hh"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <sstream>
#include <utility>

#include "accounting/kernel_config.h"
#include "base/logging.hh"
#include "cpu/base.hh"
#include "debug/Ptshare.hh"
#include "gem5/program.hh"
#include "gem5/tlb.hh"
#include "gem5/walker.hh"
#include "sim/se_workload.hh"
#include "sim/sim_exit.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

namespace {

// Frames left to gem5's own emulation: vsyscall pages.
constexpr std::uint64_t kFramesForGem5 = 4096;
constexpr int kMaxTries = 8;  // of one access; the engine's limit
constexpr int kStillRunning = -1000;

}  // namespace

Kernel::Kernel(const Params& p)
    : ClockedObject(p),
      machine_(or_fatal([&p] { return engine::Params::parse(p.machine); })),
      config_(or_fatal([this] { return engine::kernel_config(machine_); })),
      costs_(or_fatal([this] { return engine::Costs(machine_); })),
      shootdowns_(or_fatal([this] { return engine::Shootdowns(machine_, costs_); })),
      scheduler_(or_fatal([this] { return Scheduler(*this, machine_); })) {
    or_fatal([&p] { return make_policy(p.policy); });  // refused here, not in the first system call
}

Kernel::~Kernel() = default;

gem5::PortProxy& Kernel::memory() {
    return system_->physProxy;
}

ptshare::Kernel& Kernel::core() {
    if (!core_) {
        auto* workload = dynamic_cast<gem5::SEWorkload*>(system_->workload);
        fatal_if(!workload, "PtshareKernel works in system-call emulation only");
        const std::uint64_t free = workload->freeMemSize() >> kPageShift;
        fatal_if(free < 2 * kFramesForGem5, "the system's memory is too small: %d free pages",
                 free);
        const std::uint64_t frames = free - kFramesForGem5;
        fatal_if(frames > std::numeric_limits<int>::max(), "the system's memory exceeds 8 TiB");
        const gem5::Addr base = workload->allocPhysPages(static_cast<int>(frames));
        // Frame 0 means "none" in core.
        build_core(base + (frames << kPageShift), std::max<std::uint64_t>(base >> kPageShift, 1));
    }
    return *core_;
}

void Kernel::build_core(std::uint64_t memory_bytes, std::uint64_t first_frame) {
    config_.memory_bytes = memory_bytes;
    config_.first_frame = first_frame;
    contents_ = std::make_unique<Contents>(memory());
    core_ = std::make_unique<ptshare::Kernel>(config_, make_policy(params().policy), *contents_);
}

// ---- Tasks

void Kernel::adopt(gem5::ThreadContext* tc, bool starts) {
    const auto id = static_cast<std::size_t>(tc->contextId());
    fatal_if(id >= std::numeric_limits<Pcid>::max(), "ptshare: too many CPU contexts");
    if (by_context_.size() <= id) by_context_.resize(id + 1);
    auto* tlb = dynamic_cast<Tlb*>(tc->getMMUPtr()->dtb);
    fatal_if(!tlb, "%s: its data TLB is no PtshareTLB", tc->getCpuPtr()->name());
    Task& task = contexts_.emplace_back(tc, &tlb->pages(), scheduler_);
    scheduler_.add(task);
    by_context_[id] = &task;
    if (!starts) return;
    Rank& rank = ranks_.emplace_back();
    rank.index = static_cast<unsigned>(ranks_.size() - 1);
    rank.pid = task.process()->pid();
    task.rank = &rank;
    add_statistics(rank);
    // gem5 would copy the program into memory of its own: its pages come from the page cache.
    task.process()->image = gem5::loader::MemoryImage();
}

void Kernel::load(Task& task) {
    task.started = true;
    enter(task);
    or_fatal([&] {
        task.mm = &core().create_mm();
        const HostFile program(task.process()->executable);
        const std::shared_ptr<File> image = file(program.fd(), true);
        map_program(core(), *task.mm, image, read_segments(program),
                    [&](VirtAddr at, std::uint64_t n) {
                        const std::vector<std::uint8_t> zeros(n);
                        return copy_out(task, at, zeros.data(), n);
                    });
    });
}

void Kernel::begin_run() {
    running_ = true;
    for (Task* task : tasks()) {
        if (restored_) {
            // A context counts anew after a checkpoint.
            task->first_instruction =
                task->context->getCurrentInstCount() - task->counters.instructions;
        } else {
            task->pending = 0;  // what loading took is before the start
            task->faults_before_exec = engine::minor_faults(task->counters);
        }
        scheduler_.begin(*task);
    }
}

Task* Kernel::context_task(const gem5::ThreadContext* tc) const {
    const auto id = static_cast<std::size_t>(tc->contextId());
    return id < by_context_.size() ? by_context_[id] : nullptr;
}

Task* Kernel::task(const gem5::ThreadContext* tc) const {
    Task* found = context_task(tc);
    return found && found->rank ? found : nullptr;
}

std::vector<Task*> Kernel::tasks() const {
    std::vector<Task*> alive;
    for (Task* task : by_context_) {
        if (task && task->mm) alive.push_back(task);
    }
    return alive;
}

void Kernel::begin_task(Task& task, Task& parent, bool same_mm) {
    if (same_mm) {
        core().share_mm(*parent.mm);
        task.mm = parent.mm;
    } else {
        task.mm = &core().fork(*parent.mm);
    }
    task.started = true;
    task.rank = parent.rank;
    task.process_number = same_mm ? parent.process_number : task.rank->processes++;
    task.faults_before_exec = 0;
    task.first_instruction = task.context->getCurrentInstCount();
    task.clear_child_tid = VirtAddr(0);
    task.waiting = false;
}

void Kernel::end_task(Task& task) {
    count_instructions(task);
    end_marks(task);
    core().exit(*task.mm);
    task.mm = nullptr;
    task.mmu.suspect = nullptr;
    task.die = nullptr;
    if (task.wake.scheduled()) deschedule(task.wake);
    if (task.doom.scheduled()) task.context->descheduleInstCountEvent(&task.doom);
    owe(task, &engine::Counters::cycles_syscall, costs_.exit);
    scheduler_.leave(task);
    engine::add(task.rank->counters, task.counters);
    task.counters = {};
    task.pending = 0;
    task.sleep_until = 0;
}

void Kernel::count_instructions(Task& task) {
    // A context keeps counting what it ran before.
    task.counters.instructions = task.context->getCurrentInstCount() - task.first_instruction;
}

void Kernel::mark(Task& task, std::uint64_t kind) {
    count_instructions(task);
    samples_.push_back(engine::take_sample(task.rank->index, task.process_number, kind, *task.mm,
                                           task.counters, task.faults_before_exec));
    if (kind == engine::kMarkBegin && !task.in_roi) {
        task.in_roi = true;
        task.roi_begin = task.counters;
        if (inside_++ == 0) gem5::exitSimLoop("ptshare: the region of interest begins");
    } else if (kind == engine::kMarkEnd) {
        end_marks(task);
    }
}

void Kernel::end_marks(Task& task) {
    if (!task.in_roi) return;
    task.in_roi = false;
    engine::Counters inside = task.counters;
    engine::subtract(inside, task.roi_begin);
    engine::add(task.rank->roi, inside);
    if (--inside_ == 0) gem5::exitSimLoop("ptshare: the region of interest ends");
}

std::vector<std::vector<std::uint64_t>> Kernel::samples() const {
    std::vector<std::vector<std::uint64_t>> rows;
    for (const engine::Sample& sample : samples_) rows.push_back(sample.row());
    return rows;
}

std::shared_ptr<File> Kernel::file(int host_fd, bool create) {
    struct stat status;
    if (::fstat(host_fd, &status) != 0 || !S_ISREG(status.st_mode)) return nullptr;
    const std::pair<std::uint64_t, std::uint64_t> key{status.st_dev, status.st_ino};
    if (const auto found = files_.find(key); found != files_.end()) return found->second;
    if (!create) return nullptr;
    auto made = core().create_file(host_path(host_fd));
    contents_->back(*made, host_fd);
    made->resize(static_cast<std::uint64_t>(status.st_size));
    files_[key] = made;
    return made;
}

void Kernel::take_host_sizes() {
    for (const auto& [key, file] : files_) {
        const std::uint64_t size = contents_->host_size(*file);
        if (size != file->size()) core().truncate(*file, size);
    }
}

void Kernel::set_status(std::uint64_t pid, int status) {
    statuses_.emplace(pid, status);
}

int Kernel::status(unsigned index) const {
    const auto found = statuses_.find(ranks_.at(index).pid);
    return found == statuses_.end() ? kStillRunning : found->second;
}

// ---- Faults and time

bool Kernel::serve(Task& task, VirtAddr address, Access access, FaultResult& result) {
    result = or_fatal([&] { return core().fault(*task.mm, address, access); });
    engine::count_fault(task.counters, result);
    DPRINTF(Ptshare, "process %d: fault of kind %d at %#x\n", task.rank->index,
            static_cast<int>(result.kind), address.value);
    owe(task, &engine::Counters::cycles_fault, costs_.fault(result));
    return !result.is_fatal();
}

void Kernel::page_fault(gem5::ThreadContext* tc, VirtAddr address, Access access) {
    Task& task = *this->task(tc);
    enter(task);
    if (!task.mm) return;  // killed while its CPU was on the way here
    if (!scheduler_.has_core(task)) {
        scheduler_.ready(task);  // gem5 has woken it: see Tlb::may_fetch
        return;
    }
    if (task.die) {
        task.end();
        return;
    }
    FaultResult result;
    if (serve(task, address, access, result)) {
        spend(task);
        return;
    }
    static constexpr const char* kVerbs[] = {"read of", "write to", "fetch from"};
    const bool bus = result.kind == FaultKind::Bus;
    const int signal = bus ? SIGBUS : SIGSEGV;
    std::ostringstream why;
    why << "ptshare: process " << task.rank->index << " was killed by "
        << (bus ? "SIGBUS" : "SIGSEGV") << " (" << kVerbs[static_cast<unsigned>(access)] << " 0x"
        << std::hex << address.value << " at ip 0x" << tc->pcState().instAddr() << ")";
    set_status(task.process()->tgid(), -signal);
    end_task(task);
    tc->suspend();
    gem5::exitSimLoop(why.str(), 128 + signal);
}

Pfn Kernel::user_frame(Task& task, VirtAddr address, Access access) {
    if (!task.mm || address >= core().task_size()) return Pfn(0);
    for (int tries = 0; tries < kMaxTries; ++tries) {
        // As for the program itself: what the TLBs hold decides, also when it is stale.
        if (const auto held = task.walker->held(task, address, access)) return pfn_of(*held);
        const auto leaf = task.mm->table.leaf(address);
        if (leaf && leaf->pte.permits(access)) return leaf->frame_of(address);
        FaultResult result;
        if (!serve(task, address, access, result)) return Pfn(0);
    }
    panic("ptshare: a page fault repeats without end");
}

namespace {

// Calls copy(physical address, done, part) for each page's part of [address, address + n).
template <class Frame, class Copy>
bool each_page(VirtAddr address, std::uint64_t n, Frame&& frame, Copy&& copy) {
    for (std::uint64_t done = 0; done < n;) {
        const VirtAddr at = address + done;
        const std::uint64_t part = std::min(n - done, kPageSize - page_offset(at));
        const Pfn pfn = frame(at);
        if (pfn == Pfn(0)) return false;
        copy(address_of(pfn).value + page_offset(at), done, part);
        done += part;
    }
    return true;
}

}  // namespace

bool Kernel::copy_in(Task& task, VirtAddr from, void* to, std::uint64_t n) {
    return each_page(
        from, n, [&](VirtAddr at) { return user_frame(task, at, Access::Read); },
        [&](gem5::Addr at, std::uint64_t done, std::uint64_t part) {
            memory().readBlob(at, static_cast<std::uint8_t*>(to) + done, part);
        });
}

bool Kernel::copy_out(Task& task, VirtAddr to, const void* from, std::uint64_t n) {
    return each_page(
        to, n, [&](VirtAddr at) { return user_frame(task, at, Access::Write); },
        [&](gem5::Addr at, std::uint64_t done, std::uint64_t part) {
            memory().writeBlob(at, static_cast<const std::uint8_t*>(from) + done, part);
        });
}

void Kernel::enter(const Task& task) {
    core().frames().use_list(task.core->id);
}

// What tables are cleared with does not pass through the caches: their lines come with the first
// entry. Before the run begins there is no time in which packets could go anywhere.
void Kernel::store_tables(Task& task) {
    const engine::TableStores::Noted noted = contents_->take();
    if (!running_) return;
    task.counters.table_stores += noted.lines.size();
    for (const PhysAddr line : noted.lines) task.walker->store(line);
}

void Kernel::owe(Task& task, std::uint64_t engine::Counters::*category, std::uint64_t cycles) {
    const Effects effects = core().take_effects();
    cycles += costs_.effects(effects);
    store_tables(task);
    task.counters.*category += cycles;
    task.pending += cycles;
    engine::count_populated(task.counters, effects);
    for (const FlushRequest& request : effects.flushes) shoot_down(task, request);
}

void Kernel::spend(Task& task) {
    // A CPU that a system call put to sleep goes on when that says so.
    const bool goes_on = task.pending == 0 && task.sleep_until == 0 && !task.core->over;
    if (goes_on || task.wake.scheduled()) return;
    if (task.context->status() != gem5::ThreadContext::Active) return;
    task.context->suspend();
    work_off(task);
}

void Kernel::work_off(Task& task) {
    schedule(task.wake, clockEdge(gem5::Cycles(std::exchange(task.pending, 0))));
}

// A CPU that is interrupted spends its time for it at its own next fault or system call.
void Kernel::shoot_down(Task& from, const FlushRequest& request) {
    // The asking task may be leaving, its mm gone; its core runs it still.
    const auto running = [&from](const PhysicalCore& core) {
        return core.loaded && (core.loaded->mm || core.loaded == &from) ? core.loaded : nullptr;
    };
    std::vector<engine::Shootdowns::Cpu> cpus;
    for (PhysicalCore& core : scheduler_.cores()) {
        Task* task = running(core);
        const bool lazy = &core != from.core && core.rests();
        core.spared |= lazy;
        cpus.push_back(
            {&core.asids, &core.walker->caches(), task ? &task->counters : nullptr, lazy});
    }
    const auto charge = [](Task& task, std::uint64_t cycles) {
        task.counters.cycles_shootdown += cycles;
        task.pending += cycles;
    };
    charge(from, shootdowns_.carry_out(request, from.counters, cpus, *core_, curCycle()));
    for (std::size_t i = 0; i < cpus.size(); ++i) {
        PhysicalCore& core = scheduler_.cores()[i];
        Task* task = running(core);
        if (!task) continue;
        charge(*task, cpus[i].cycles);
        if (cpus[i].changed && task->mm) {
            task->mmu.suspect = core.asids.suspect() ? &task->mm->table : nullptr;
        }
    }
}

}  // namespace ptshare::g5
