// Signals, and the faults and exceptions that end a process as one does.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sstream>

#include "core/linux_tasks.h"
#include "programs/simulation.h"

namespace ptshare::engine {

namespace {

// Signals that a process sends itself because it has found itself broken (signal(7): "Core").
bool dumps_core(int signal) {
    return signal == SIGABRT || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
           signal == SIGILL || signal == SIGTRAP;
}

}  // namespace

Task* Simulation::find_task(std::int32_t pid) {
    for (const auto& task : tasks_) {
        if (task->pid == static_cast<std::uint32_t>(pid) && task->alive()) {
            return task.get();
        }
    }
    return nullptr;
}

SyscallResult Simulation::kill(Task& task, std::int32_t pid, int signal) {
    if (signal < 0 || signal > kMostSignals || pid <= 0) return -EINVAL;
    Task* target = find_task(pid);
    if (!target) {
        // A process that has ended and was not waited for can still be named.
        const bool ended = std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& other) {
            return other->pid == static_cast<std::uint32_t>(pid);
        });
        return ended ? 0 : -ESRCH;
    }
    if (signal == 0 || harmless(signal)) return 0;
    if (signal != SIGKILL && target->ignored.count(signal)) return 0;
    const bool self = target->tgid == task.tgid;
    if (self && dumps_core(signal)) {
        crash(task, signal, "sent to itself");  // abort() above all
        return std::nullopt;
    }
    end_process(self ? task : *target, 0, signal, self ? "sent to itself" : "sent by another");
    if (self) return std::nullopt;
    return 0;
}

void Simulation::fatal_fault(Task& task) {
    const Machine::Fatal& fault = machine_.last_fault();
    static constexpr const char* kVerbs[] = {"read of page", "write to page", "fetch from page"};
    std::ostringstream note;
    note << kVerbs[static_cast<unsigned>(fault.access)] << " 0x" << std::hex
         << align_down(fault.address, kPageSize).value << " at ip 0x" << task.pc.value;
    crash(task, fault.kind == FaultKind::Bus ? SIGBUS : SIGSEGV, note.str());
}

// A started process that crashes takes the others with it: they may wait for it for ever.
void Simulation::crash(Task& task, int signal, const std::string& note) {
    if (ranks_[task.rank].pid == task.tgid) {
        const std::string why = "ended because process " + std::to_string(task.rank) + " crashed";
        const auto another = [&](const auto& other) {
            return other->tgid != task.tgid && other->alive();
        };
        for (;;) {
            const auto next = std::find_if(tasks_.begin(), tasks_.end(), another);
            if (next == tasks_.end()) break;
            end_process(**next, 0, SIGKILL, why);
        }
    }
    // Last: until then it is the task that runs, and so the one that is charged.
    end_process(task, 0, signal, note);
}

void Simulation::cpu_exception(Task& task) {
    // x86 exception vectors (Intel SDM volume 3A, table 6-1).
    int signal = SIGSEGV;
    const char* what = "CPU exception";
    switch (executor_.exception()) {
        case 0:
            signal = SIGFPE;
            what = "divide error";
            break;
        case 1:
        case 3:
            signal = SIGTRAP;
            what = "breakpoint";
            break;
        case -1:
        case 6:
            signal = SIGILL;
            what = "invalid or unsupported instruction";
            break;
        case 16:
        case 19:
            signal = SIGFPE;
            what = "floating-point exception";
            break;
        default:
            break;
    }
    std::ostringstream note;
    note << what << " at ip 0x" << std::hex << task.pc.value;
    crash(task, signal, note.str());
}

}  // namespace ptshare::engine
