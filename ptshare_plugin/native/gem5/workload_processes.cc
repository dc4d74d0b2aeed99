// Life and death of processes and threads: gem5's contexts, core's address spaces.
#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "arch/x86/linux/linux.hh"
#include "arch/x86/regs/int.hh"
#include "core/linux_tasks.h"
#include "cpu/thread_context.hh"
#include "gem5/kernel.hh"
#include "gem5/workload.hh"
#include "params/Process.hh"
#include "sim/core.hh"
#include "sim/process.hh"
#include "sim/syscall_emul.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

namespace int_reg = gem5::X86ISA::int_reg;
using engine::Counters;

namespace {

// A gem5 process for what `parent` forks. It lives as long as the simulation, as gem5's own do.
gem5::Process* new_process(gem5::Process& parent, std::uint64_t pid, bool thread) {
    auto* params = new gem5::ProcessParams();
    params->name = parent.name() + ".child" + std::to_string(pid);
    params->executable = parent.progName();
    params->cmd = {parent.progName()};
    params->system = parent.system;
    params->cwd = parent.tgtCwd;
    params->input = "stdin";
    params->output = "stdout";
    params->errout = "stderr";
    params->uid = parent.uid();
    params->euid = parent.euid();
    params->gid = parent.gid();
    params->egid = parent.egid();
    params->release = parent.release;
    params->pid = static_cast<int>(pid);
    params->ppid = static_cast<int>(thread ? parent.ppid() : parent.tgid());
    params->useArchPT = false;
    params->kvmInSE = false;
    gem5::Process* process = params->create();
    // Its memory is core's: there is no program to be loaded, nor arguments.
    process->image = gem5::loader::MemoryImage();
    process->useForClone = true;
    return process;
}

}  // namespace

// As gem5's doClone, but that memory is core's to copy.
std::int64_t Workload::clone(Task& parent, const CloneRequest& request) {
    const bool thread = (request.flags & engine::kCloneThread) != 0;
    const bool same_mm = (request.flags & engine::kCloneVm) != 0;
    if (thread && !same_mm) return -EINVAL;
    gem5::ThreadContext* tc = parent.context;
    gem5::ThreadContext* child_tc = system->threads.findFree();
    // As Linux with too many processes.
    if (!child_tc) return -EAGAIN;
    Task* child = kernel_.context_task(child_tc);
    if (!child) return -EAGAIN;
    try {
        kernel_.begin_task(*child, parent, same_mm);
    } catch (const OutOfMemory&) {
        kernel_.owe(parent, &Counters::cycles_syscall, 0);
        return -ENOMEM;
    }
    kernel_.owe(parent, &Counters::cycles_syscall, kernel_.costs().fork);

    gem5::Process& old = *tc->getProcessPtr();
    const auto pid = static_cast<std::uint64_t>(*system->PIDs.rbegin()) + 1;
    gem5::Process* process = new_process(old, pid, thread);
    child_tc->getProcessPtr()->revokeThreadContext(child_tc->contextId());
    child_tc->setProcessPtr(process);
    process->assignThreadContext(child_tc->contextId());
    child_tc->setUseForClone(true);
    process->initState();
    // Memory is core's, and so is vfork (see vfork_parent).
    old.clone(tc, child_tc, process, (request.flags | engine::kCloneVm) & ~engine::kCloneVfork);
    child_tc->clearArchRegs();
    gem5::X86Linux64::archClone(request.flags, &old, process, tc, child_tc, request.stack,
                                request.tls);
    child_tc->setReg(int_reg::Rax, gem5::RegVal{0});
    if (!thread) processes_[pid].parent = old.tgid();

    // As Linux: a bad address is not reported.
    const auto number = static_cast<std::uint32_t>(pid);
    if (request.flags & engine::kCloneParentSetTid) {
        kernel_.copy_out(parent, request.parent_tid, &number, sizeof(number));
    }
    if (request.flags & engine::kCloneChildClearTid) child->clear_child_tid = request.child_tid;
    if (request.flags & engine::kCloneChildSetTid) {
        kernel_.copy_out(*child, request.child_tid, &number, sizeof(number));
    }
    if (request.flags & engine::kCloneVfork) {
        child->vfork_parent = &parent;
        // Its result must be there before it stands still.
        tc->setReg(int_reg::Rax, static_cast<gem5::RegVal>(pid));
        kernel_.scheduler().block(parent);
    }
    kernel_.scheduler().ready(*child);
    return static_cast<std::int64_t>(pid);
}

void Workload::end_process(std::uint64_t pid, int code, int signal, Task* calling) {
    Process& process = processes_.at(pid);
    if (!process.ending) {
        process.ending = true;
        process.code = code;
        process.signal = signal;
    }
    const int reported = signal != 0 ? 128 + signal : code;  // as a shell reports a signal
    for (Task* task : kernel_.tasks()) {
        if (task == calling || task->process()->tgid() != pid || task->die) continue;
        end_elsewhere(*task, reported);
    }
    if (calling) end_thread(*calling, reported);
}

// Ends a task that is not the one whose system call this is.
void Workload::end_elsewhere(Task& task, int code) {
    if (task.context->status() != gem5::ThreadContext::Active) {
        end_thread(task, code);
        return;
    }
    // Its CPU is amid an instruction, and gem5 can halt it only between two.
    task.die = [this, &task, code] { end_thread(task, code); };
    task.context->scheduleInstCountEvent(&task.doom, task.context->getCurrentInstCount() + 1);
}

void Workload::end_thread(Task& task, int code) {
    const std::uint64_t pid = task.process()->tgid();
    if (task.clear_child_tid != VirtAddr(0) && task.mm->users > 1) {
        const std::uint32_t zero = 0;
        kernel_.copy_out(task, task.clear_child_tid, &zero, sizeof(zero));
        system->futexMap.wakeup(task.clear_child_tid.value, pid, 1);
    }
    Task* vfork_parent = std::exchange(task.vfork_parent, nullptr);
    bool last = true;
    for (Task* other : kernel_.tasks()) {
        if (other->vfork_parent == &task) other->vfork_parent = nullptr;
        if (other != &task && other->process()->tgid() == pid) last = false;
    }
    kernel_.end_task(task);
    if (vfork_parent) kernel_.scheduler().ready(*vfork_parent);
    if (last) {
        Process& process = processes_.at(pid);
        if (!process.ending) process.code = code;
        process_ended(pid);
    }
    // gem5 halts the context, and ends the simulation with the last one.
    gem5::exitFunc(nullptr, task.context, code);
}

void Workload::process_ended(std::uint64_t pid) {
    Process& mine = processes_.at(pid);
    mine.ended = true;
    kernel_.set_status(pid, mine.signal != 0 ? -mine.signal : mine.code);
    const std::uint64_t parent = mine.parent;
    // Whom it leaves behind nobody waits for.
    for (auto& [other, process] : processes_) {
        if (process.parent == pid) process.parent = 0;
    }
    for (auto it = processes_.begin(); it != processes_.end();) {
        const bool unwanted = it->second.ended && it->second.parent == 0;
        it = unwanted ? processes_.erase(it) : std::next(it);
    }
    if (parent == 0) return;
    for (Task* other : kernel_.tasks()) {
        if (!other->waiting || other->process()->tgid() != parent) continue;
        const Result result =
            wait(*other, other->wait_for, other->wait_status, engine::kWaitNoHang);
        if (*result == 0) continue;
        other->waiting = false;
        other->context->setReg(int_reg::Rax, static_cast<gem5::RegVal>(*result));
        kernel_.scheduler().ready(*other);
    }
}

Workload::Result Workload::wait(Task& task, std::int64_t pid, VirtAddr status,
                                std::uint64_t options) {
    if (pid == 0 || pid < -1) return -EINVAL;  // process groups are not modelled
    const std::uint64_t parent = task.process()->tgid();
    bool any = false;
    for (auto it = processes_.begin(); it != processes_.end(); ++it) {
        if (it->second.parent != parent) continue;
        if (pid > 0 && it->first != static_cast<std::uint64_t>(pid)) continue;
        any = true;
        if (!it->second.ended) continue;
        // As wait(2) encodes it.
        const int how = it->second.signal != 0 ? it->second.signal : it->second.code << 8;
        if (status != VirtAddr(0) && !kernel_.copy_out(task, status, &how, sizeof(how))) {
            return -EFAULT;
        }
        const auto found = static_cast<std::int64_t>(it->first);
        processes_.erase(it);
        return found;
    }
    if (!any) return -ECHILD;
    if (options & engine::kWaitNoHang) return 0;
    task.waiting = true;
    task.wait_for = pid;
    task.wait_status = status;
    kernel_.scheduler().block(task);  // until process_ended() answers
    return std::nullopt;
}

std::int64_t Workload::sleep(Task& task, VirtAddr span, bool absolute) {
    constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
    constexpr std::uint64_t kMostSeconds = 1'000'000;  // as the embedded engine
    std::uint64_t time[2];                             // struct timespec
    if (!kernel_.copy_in(task, span, time, sizeof(time))) return -EFAULT;
    if (static_cast<std::int64_t>(time[0]) < 0 || time[1] >= kNanosecondsPerSecond) return -EINVAL;
    const std::uint64_t nanoseconds =
        std::min(time[0], kMostSeconds) * kNanosecondsPerSecond + time[1];
    std::uint64_t ticks = nanoseconds * gem5::sim_clock::as_int::ns;
    if (absolute) ticks -= std::min<std::uint64_t>(ticks, gem5::curTick());
    if (kernel_.scheduler().alone(task)) {
        task.pending += kernel_.ticksToCycles(ticks);
    } else {
        task.sleep_until = gem5::curTick() + ticks;
    }
    return 0;
}

Workload::Result Workload::kill(Task& task, std::uint64_t pid, std::uint64_t signal) {
    const auto number = static_cast<std::int32_t>(signal);
    const auto whom = static_cast<std::int32_t>(pid);
    if (number < 0 || number > engine::kMostSignals || whom <= 0) return -EINVAL;
    Task* target = nullptr;
    for (Task* other : kernel_.tasks()) {
        const auto id = static_cast<std::int32_t>(other->process()->pid());
        const auto group = static_cast<std::int32_t>(other->process()->tgid());
        if (id == whom || (!target && group == whom)) target = other;
    }
    // A process that has ended and was not waited for can still be named.
    if (!target) return processes_.count(static_cast<std::uint64_t>(whom)) ? 0 : -ESRCH;
    if (number == 0 || engine::harmless(number)) return 0;
    const std::uint64_t victim = target->process()->tgid();
    const bool self = victim == task.process()->tgid();
    end_process(victim, 0, number, self ? &task : nullptr);
    if (self) return std::nullopt;
    return 0;
}

}  // namespace ptshare::g5
