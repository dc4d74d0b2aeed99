#include "gem5/workload.hh"

#include <sys/syscall.h>

#include <cerrno>

#include "accounting/marks.h"
#include "arch/x86/regs/int.hh"
#include "base/logging.hh"
#include "core/linux_tasks.h"
#include "cpu/thread_context.hh"
#include "gem5/kernel.hh"
#include "sim/fd_array.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

namespace x86 = gem5::X86ISA;
using engine::Counters;

namespace {

// Calls whose first argument is a descriptor and which gem5 emulates.
bool takes_descriptor(std::uint64_t number) {
    switch (number) {
        case SYS_read:
        case SYS_write:
        case SYS_close:
        case SYS_fstat:
        case SYS_lseek:
        case SYS_ioctl:
        case SYS_pread64:
        case SYS_pwrite64:
        case SYS_readv:
        case SYS_writev:
        case SYS_dup:
        case SYS_dup2:
        case SYS_fcntl:
        case SYS_fsync:
        case SYS_ftruncate:
        case SYS_getdents:
        case SYS_fchmod:
        case SYS_fchown:
        case SYS_fstatfs:
        case SYS_getdents64:
        case SYS_fallocate:
            return true;
        default:
            return false;
    }
}

}  // namespace

Workload::Workload(const Params& p) : EmuLinux(p), kernel_(*p.kernel) {
}

void Workload::setSystem(gem5::System* sys) {
    EmuLinux::setSystem(sys);
    kernel_.set_system(sys);
}

void Workload::init() {
    EmuLinux::init();
    for (gem5::ThreadContext* tc : system->threads) {
        gem5::Process* process = tc->getProcessPtr();
        if (!process) continue;
        // A process starts on the first of its contexts; the others are for what it forks.
        const bool starts = process->contextIds.front() == tc->contextId();
        kernel_.adopt(tc, starts);
        if (starts) processes_[process->pid()] = {};
    }
}

void Workload::startup() {
    EmuLinux::startup();
    kernel_.begin_run();
}

void Workload::emulate(gem5::ThreadContext* tc) {
    EmuLinux::syscall(tc);
}

void Workload::syscall(gem5::ThreadContext* tc) {
    Task* task = kernel_.task(tc);
    if (!task) {
        emulate(tc);
        return;
    }
    if (!task->mm) return;  // its CPU comes to its end
    if (task->die) {
        task->end();
        return;
    }
    ++task->counters.syscalls;
    kernel_.owe(*task, &Counters::cycles_syscall, kernel_.costs().syscall);
    const std::uint64_t number = tc->getReg(x86::int_reg::Rax);
    const std::uint64_t args[6] = {tc->getReg(x86::int_reg::Rdi), tc->getReg(x86::int_reg::Rsi),
                                   tc->getReg(x86::int_reg::Rdx), tc->getReg(x86::int_reg::R10),
                                   tc->getReg(x86::int_reg::R8),  tc->getReg(x86::int_reg::R9)};
    const Result result = or_fatal([&] { return answer(tc, *task, number, args); });
    if (result) tc->setReg(x86::int_reg::Rax, static_cast<gem5::RegVal>(*result));
    if (!task->mm) return;
    if (tc->status() == gem5::ThreadContext::Suspended) {
        kernel_.scheduler().block(*task);
    } else {
        kernel_.spend(*task);
    }
}

Workload::Result Workload::answer(gem5::ThreadContext* tc, Task& task, std::uint64_t number,
                                  Arguments args) {
    ptshare::Kernel& core = kernel_.core();
    const engine::Costs& costs = kernel_.costs();
    const auto charged = [&](std::int64_t result, std::uint64_t cycles) {
        kernel_.owe(task, &Counters::cycles_syscall, cycles);
        return result;
    };
    const VirtAddr first(args[0]);
    if (takes_descriptor(number) &&
        args[0] >= static_cast<std::uint64_t>(task.process()->fds->getSize())) {
        return -EBADF;  // gem5 asserts that it is none beyond
    }
    switch (number) {
        case engine::kMarkSyscall:
            kernel_.mark(task, args[0]);
            return 0;
        case engine::kAlignmentSyscall:
            return engine::answer_alignment(core);
        case SYS_mmap:
            return charged(mmap(task, args), costs.memory_call(number));
        case SYS_munmap:
            return charged(return_value(core.munmap(*task.mm, first, args[1])),
                           costs.memory_call(number));
        case SYS_mprotect:
            return charged(return_value(core.mprotect(*task.mm, first, args[1], args[2])),
                           costs.memory_call(number));
        case SYS_mremap:
            return charged(return_value(core.mremap(*task.mm, first, args[1], args[2], args[3],
                                                    VirtAddr(args[4]))),
                           costs.memory_call(number));
        case SYS_madvise:
            return charged(
                return_value(core.madvise(*task.mm, first, args[1], static_cast<int>(args[2]))),
                costs.memory_call(number));
        case SYS_brk:
            return charged(static_cast<std::int64_t>(core.brk(*task.mm, first).value),
                           costs.memory_call(number));
        case SYS_read:
        case SYS_write:
        case SYS_pread64:
        case SYS_pwrite64:
            if (const Result moved = transfer(task, number, args)) return charged(*moved, 0);
            break;
        case SYS_readv:
        case SYS_writev:
            if (const Result moved = transfer_vector(task, number, args)) return charged(*moved, 0);
            break;
        case SYS_open:
        case SYS_openat:
        case SYS_creat:
        case SYS_truncate:
        case SYS_ftruncate:
        case SYS_fallocate:
            emulate(tc);
            kernel_.take_host_sizes();
            kernel_.owe(task, &Counters::cycles_syscall, 0);
            return std::nullopt;
        case SYS_clone:
            return clone(task, {args[0], args[1], VirtAddr(args[2]), VirtAddr(args[3]), args[4]});
        case SYS_fork:
            return clone(task, {});
        case SYS_vfork:
            return clone(task, {engine::kCloneVfork | engine::kCloneVm, 0, {}, {}, 0});
        case SYS_clone3:
        case SYS_execve:
        case SYS_execveat:
            warn_once("ptshare: clone3 and exec are not supported under gem5: ENOSYS");
            ++task.counters.syscalls_unknown;
            return -ENOSYS;
        case SYS_sched_yield:
            kernel_.scheduler().yield(task);
            return 0;
        case SYS_set_tid_address:
            task.clear_child_tid = first;
            return static_cast<std::int64_t>(task.process()->pid());
        case SYS_wait4:
            return wait(task, static_cast<std::int32_t>(args[0]), VirtAddr(args[1]), args[2]);
        case SYS_kill:
        case SYS_tkill:
            return kill(task, args[0], args[1]);
        case SYS_tgkill:
            return kill(task, args[1], args[2]);
        case SYS_nanosleep:
            return sleep(task, first, false);
        case SYS_clock_nanosleep: {
            constexpr std::uint64_t kAbsolute = 1;  // TIMER_ABSTIME
            return sleep(task, VirtAddr(args[2]), (args[1] & kAbsolute) != 0);
        }
        case SYS_exit:
            end_thread(task, static_cast<int>(args[0] & 0xff));
            return std::nullopt;
        case SYS_exit_group:
            end_process(task.process()->tgid(), static_cast<int>(args[0] & 0xff), 0, &task);
            return std::nullopt;
        default:
            break;
    }
    emulate(tc);
    return std::nullopt;
}

}  // namespace ptshare::g5
