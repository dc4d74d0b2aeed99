#include "gem5/workload.hh"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

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
constexpr std::uint64_t kTakeDescriptor[] = {
    SYS_read,    SYS_write,      SYS_close,     SYS_fstat,  SYS_lseek,  SYS_ioctl,
    SYS_pread64, SYS_pwrite64,   SYS_readv,     SYS_writev, SYS_dup,    SYS_dup2,
    SYS_fcntl,   SYS_fsync,      SYS_ftruncate, SYS_fchmod, SYS_fchown, SYS_getdents,
    SYS_fstatfs, SYS_getdents64, SYS_fallocate};

bool takes_descriptor(std::uint64_t number) {
    return std::find(std::begin(kTakeDescriptor), std::end(kTakeDescriptor), number) !=
           std::end(kTakeDescriptor);
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
    kernel_.enter(*task);
    ++task->counters.syscalls;
    kernel_.owe(*task, &Counters::cycles_syscall, kernel_.costs().syscall);
    const std::uint64_t number = tc->getReg(x86::int_reg::Rax);
    const std::uint64_t args[6] = {tc->getReg(x86::int_reg::Rdi), tc->getReg(x86::int_reg::Rsi),
                                   tc->getReg(x86::int_reg::Rdx), tc->getReg(x86::int_reg::R10),
                                   tc->getReg(x86::int_reg::R8),  tc->getReg(x86::int_reg::R9)};
    const Result result = or_fatal([&] { return answer({tc, *task, number, args}); });
    if (result) tc->setReg(x86::int_reg::Rax, static_cast<gem5::RegVal>(*result));
    if (!task->mm) return;
    if (tc->status() == gem5::ThreadContext::Suspended) {
        kernel_.scheduler().block(*task);
    } else {
        kernel_.spend(*task);
    }
}

const Workload::Handlers& Workload::handlers() {
    static const Handlers all = {
        {engine::kMarkSyscall, &Workload::mark},
        {engine::kAlignmentSyscall, &Workload::alignment},
        {SYS_mmap, &Workload::memory_call},
        {SYS_munmap, &Workload::memory_call},
        {SYS_mprotect, &Workload::memory_call},
        {SYS_mremap, &Workload::memory_call},
        {SYS_madvise, &Workload::memory_call},
        {SYS_brk, &Workload::memory_call},
        {SYS_read, &Workload::transfer_call},
        {SYS_write, &Workload::transfer_call},
        {SYS_pread64, &Workload::transfer_call},
        {SYS_pwrite64, &Workload::transfer_call},
        {SYS_readv, &Workload::transfer_call},
        {SYS_writev, &Workload::transfer_call},
        {SYS_open, &Workload::resizing_call},
        {SYS_openat, &Workload::resizing_call},
        {SYS_creat, &Workload::resizing_call},
        {SYS_truncate, &Workload::resizing_call},
        {SYS_ftruncate, &Workload::resizing_call},
        {SYS_fallocate, &Workload::resizing_call},
        {SYS_clone, &Workload::clone_call},
        {SYS_fork, &Workload::clone_call},
        {SYS_vfork, &Workload::clone_call},
        {SYS_clone3, &Workload::unsupported},
        {SYS_execve, &Workload::unsupported},
        {SYS_execveat, &Workload::unsupported},
        {SYS_sched_yield, &Workload::yield},
        {SYS_set_tid_address, &Workload::set_tid_address},
        {SYS_wait4, &Workload::wait_call},
        {SYS_kill, &Workload::kill_call},
        {SYS_tkill, &Workload::kill_call},
        {SYS_tgkill, &Workload::kill_call},
        {SYS_nanosleep, &Workload::sleep_call},
        {SYS_clock_nanosleep, &Workload::sleep_call},
        {SYS_exit, &Workload::exit_call},
        {SYS_exit_group, &Workload::exit_call},
    };
    return all;
}

Workload::Result Workload::answer(const Call& call) {
    if (takes_descriptor(call.number) &&
        call.args[0] >= static_cast<std::uint64_t>(call.task.process()->fds->getSize())) {
        return -EBADF;  // gem5 asserts that it is none beyond
    }
    const auto handler = handlers().find(call.number);
    if (handler == handlers().end()) return emulated(call);
    return (this->*handler->second)(call);
}

Workload::Result Workload::emulated(const Call& call) {
    emulate(call.tc);
    return std::nullopt;
}

Workload::Result Workload::mark(const Call& call) {
    kernel_.mark(call.task, call.args[0]);
    return 0;
}

Workload::Result Workload::alignment(const Call&) {
    return engine::answer_alignment(kernel_.core());
}

Workload::Result Workload::memory_call(const Call& call) {
    ptshare::Kernel& core = kernel_.core();
    const Arguments args = call.args;
    ptshare::Mm& mm = *call.task.mm;
    const VirtAddr first = call.address(0);
    const auto answer = [&]() -> std::int64_t {
        switch (call.number) {
            case SYS_mmap:
                return mmap(call.task, args);
            case SYS_munmap:
                return return_value(core.munmap(mm, first, args[1]));
            case SYS_mprotect:
                return return_value(core.mprotect(mm, first, args[1], args[2]));
            case SYS_mremap:
                return return_value(
                    core.mremap(mm, first, args[1], args[2], args[3], call.address(4)));
            case SYS_madvise:
                return return_value(core.madvise(mm, first, args[1], static_cast<int>(args[2])));
            case SYS_brk:
                return static_cast<std::int64_t>(core.brk(mm, first).value);
        }
        panic("ptshare: system call %d is none about memory", call.number);
    };
    const std::int64_t result = answer();
    kernel_.owe(call.task, &Counters::cycles_syscall, kernel_.costs().memory_call(call.number));
    return result;
}

Workload::Result Workload::transfer_call(const Call& call) {
    const bool vector = call.number == SYS_readv || call.number == SYS_writev;
    const Result moved = vector ? transfer_vector(call.task, call.number, call.args)
                                : transfer(call.task, call.number, call.args);
    if (!moved) return emulated(call);
    kernel_.owe(call.task, &Counters::cycles_syscall, 0);
    return moved;
}

Workload::Result Workload::resizing_call(const Call& call) {
    emulate(call.tc);
    kernel_.take_host_sizes();
    kernel_.owe(call.task, &Counters::cycles_syscall, 0);
    return std::nullopt;
}

Workload::Result Workload::clone_call(const Call& call) {
    CloneRequest request;  // fork's
    if (call.number == SYS_vfork) {
        request.flags = engine::kCloneVfork | engine::kCloneVm;
    } else if (call.number == SYS_clone) {
        request = {call.args[0], call.args[1], call.address(2), call.address(3), call.args[4]};
    }
    return clone(call.task, request);
}

Workload::Result Workload::unsupported(const Call& call) {
    warn_once("ptshare: clone3 and exec are not supported under gem5: ENOSYS");
    ++call.task.counters.syscalls_unknown;
    return -ENOSYS;
}

Workload::Result Workload::yield(const Call& call) {
    kernel_.scheduler().yield(call.task);
    return 0;
}

Workload::Result Workload::set_tid_address(const Call& call) {
    call.task.clear_child_tid = call.address(0);
    return static_cast<std::int64_t>(call.task.process()->pid());
}

Workload::Result Workload::wait_call(const Call& call) {
    return wait(call.task, static_cast<std::int32_t>(call.args[0]), call.address(1), call.args[2]);
}

Workload::Result Workload::kill_call(const Call& call) {
    // tgkill names the thread's group first.
    const unsigned whom = call.number == SYS_tgkill ? 1 : 0;
    return kill(call.task, call.args[whom], call.args[whom + 1]);
}

Workload::Result Workload::sleep_call(const Call& call) {
    if (call.number == SYS_nanosleep) return sleep(call.task, call.address(0), false);
    constexpr std::uint64_t kAbsolute = 1;  // TIMER_ABSTIME
    return sleep(call.task, call.address(2), (call.args[1] & kAbsolute) != 0);
}

Workload::Result Workload::exit_call(const Call& call) {
    const int code = static_cast<int>(call.args[0] & 0xff);
    if (call.number == SYS_exit) {
        end_thread(call.task, code);
    } else {
        end_process(call.task.process()->tgid(), code, 0, &call.task);
    }
    return std::nullopt;
}

}  // namespace ptshare::g5
