// Process, time and identity system calls.
#include <asm/prctl.h>
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "core/linux_tasks.h"
#include "programs/syscalls.h"

namespace ptshare::engine {

namespace {

constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::size_t kMaxArguments = 4096;

}  // namespace

void Syscalls::add_process_calls() {
    handlers_[SYS_rt_sigaction] = &Syscalls::rt_sigaction;
    handlers_[SYS_sched_yield] = &Syscalls::sched_yield;
    handlers_[SYS_nanosleep] = &Syscalls::nanosleep;
    handlers_[SYS_getpid] = &Syscalls::getpid;
    handlers_[SYS_clone] = &Syscalls::clone;
    handlers_[SYS_fork] = &Syscalls::fork;
    handlers_[SYS_vfork] = &Syscalls::vfork;
    handlers_[SYS_execve] = &Syscalls::execve;
    handlers_[SYS_exit] = &Syscalls::exit;
    handlers_[SYS_wait4] = &Syscalls::wait4;
    handlers_[SYS_kill] = handlers_[SYS_tkill] = &Syscalls::kill;
    handlers_[SYS_uname] = &Syscalls::uname;
    handlers_[SYS_gettimeofday] = &Syscalls::gettimeofday;
    handlers_[SYS_getrlimit] = &Syscalls::getrlimit;
    handlers_[SYS_getppid] = &Syscalls::getppid;
    handlers_[SYS_arch_prctl] = &Syscalls::arch_prctl;
    handlers_[SYS_gettid] = &Syscalls::gettid;
    handlers_[SYS_time] = &Syscalls::time;
    handlers_[SYS_futex] = &Syscalls::futex;
    handlers_[SYS_sched_getaffinity] = &Syscalls::sched_getaffinity;
    handlers_[SYS_set_tid_address] = &Syscalls::set_tid_address;
    handlers_[SYS_clock_gettime] = &Syscalls::clock_gettime;
    handlers_[SYS_clock_getres] = &Syscalls::clock_getres;
    handlers_[SYS_clock_nanosleep] = &Syscalls::clock_nanosleep;
    handlers_[SYS_exit_group] = &Syscalls::exit_group;
    handlers_[SYS_tgkill] = &Syscalls::tgkill;
    handlers_[SYS_prlimit64] = &Syscalls::prlimit;
    handlers_[SYS_getcpu] = &Syscalls::getcpu;
    handlers_[SYS_getrandom] = &Syscalls::getrandom;
    // Root.
    for (const std::uint64_t number : {SYS_getuid, SYS_getgid, SYS_geteuid, SYS_getegid}) {
        handlers_[number] = &Syscalls::zero;
    }
    // Without signal handlers and migration there is nothing to keep.
    for (const std::uint64_t number :
         {SYS_rt_sigprocmask, SYS_sigaltstack, SYS_sched_setaffinity, SYS_set_robust_list}) {
        handlers_[number] = &Syscalls::zero;
    }
}

SyscallResult Syscalls::zero(const Call&) {
    return 0;
}

// ---- Tasks

SyscallResult Syscalls::clone(const Call& call) {
    TaskControl::CloneRequest request;
    request.flags = call.args[0];
    request.stack = call.address(1);
    request.parent_tid = call.address(2);
    request.child_tid = call.address(3);
    request.tls = call.args[4];
    return control_.clone(call.task, request);
}

SyscallResult Syscalls::fork(const Call& call) {
    return control_.clone(call.task, {});
}

SyscallResult Syscalls::vfork(const Call& call) {
    TaskControl::CloneRequest request;
    request.flags = kCloneVfork | kCloneVm;
    return control_.clone(call.task, request);
}

std::optional<std::vector<std::string>> Syscalls::string_array(const Call& call, VirtAddr at) {
    std::vector<std::string> list;
    if (at == VirtAddr(0)) return list;
    while (list.size() < kMaxArguments) {
        VirtAddr text;
        if (!memory_.get(call.core, at + list.size() * sizeof(text.value), text.value)) break;
        if (text == VirtAddr(0)) return list;
        auto string = memory_.read_string(call.core, text);
        if (!string) break;
        list.push_back(std::move(*string));
    }
    return std::nullopt;
}

SyscallResult Syscalls::execve(const Call& call) {
    const auto path = memory_.read_string(call.core, call.address(0));
    auto argv = string_array(call, call.address(1));
    auto env = string_array(call, call.address(2));
    if (!path || !argv || !env) return -EFAULT;
    // Linux: a quarter of the stack's limit (8 MiB), pointers counted.
    constexpr std::uint64_t kMostBytes = 2 << 20;
    std::uint64_t bytes = 0;
    for (const auto* list : {&*argv, &*env}) {
        for (const std::string& text : *list) bytes += text.size() + 1 + sizeof(VirtAddr);
    }
    if (bytes > kMostBytes) return -E2BIG;
    return control_.exec(call.task, *path, std::move(*argv), std::move(*env));
}

SyscallResult Syscalls::exit(const Call& call) {
    control_.exit(call.task, static_cast<int>(call.args[0] & 0xff));
    return std::nullopt;
}

SyscallResult Syscalls::exit_group(const Call& call) {
    control_.exit_group(call.task, static_cast<int>(call.args[0] & 0xff));
    return std::nullopt;
}

SyscallResult Syscalls::wait4(const Call& call) {
    return control_.wait(call.task, static_cast<std::int32_t>(call.args[0]), call.address(1),
                         call.args[2]);
}

SyscallResult Syscalls::kill(const Call& call) {
    return control_.kill(call.task, static_cast<std::int32_t>(call.args[0]),
                         static_cast<int>(call.args[1]));
}

SyscallResult Syscalls::tgkill(const Call& call) {
    return control_.kill(call.task, static_cast<std::int32_t>(call.args[1]),
                         static_cast<int>(call.args[2]));
}

SyscallResult Syscalls::sched_yield(const Call& call) {
    control_.yield(call.task);
    return 0;
}

SyscallResult Syscalls::futex(const Call& call) {
    if (!is_aligned(call.args[0], sizeof(std::uint32_t))) return -EINVAL;
    switch (static_cast<int>(call.args[1]) & FUTEX_CMD_MASK) {
        case FUTEX_WAIT:
        case FUTEX_WAIT_BITSET: {
            std::uint32_t value = 0;
            if (!memory_.get(call.core, call.address(0), value)) return -EFAULT;
            if (value != static_cast<std::uint32_t>(call.args[2])) return -EAGAIN;
            if (call.args[3] != 0) return -ENOSYS;  // with a timeout: not modelled
            control_.futex_wait(call.task, call.address(0));
            return 0;
        }
        case FUTEX_WAKE:
        case FUTEX_WAKE_BITSET: {
            // Linux takes the count as an int, and compares only after it has woken one.
            const auto count = static_cast<std::int32_t>(call.args[2]);
            return control_.futex_wake(call.task, call.address(0),
                                       static_cast<std::uint64_t>(std::max(count, 1)));
        }
        default:
            return -ENOSYS;
    }
}

SyscallResult Syscalls::set_tid_address(const Call& call) {
    call.task.clear_child_tid = call.address(0);
    return call.task.pid;
}

SyscallResult Syscalls::rt_sigaction(const Call& call) {
    // Handlers are not run; only "ignore" is kept. See the README's limits.
    const int signal = static_cast<int>(call.args[0]);
    if (signal < 1 || signal > kMostSignals) return -EINVAL;
    if (call.args[2] != 0) {
        std::uint64_t old[4] = {call.task.ignored.count(signal) ? 1ULL : 0ULL, 0, 0, 0};
        if (!memory_.put(call.core, call.address(2), old)) return -EFAULT;
    }
    if (call.args[1] != 0) {
        std::uint64_t handler = 0;
        if (!memory_.get(call.core, call.address(1), handler)) return -EFAULT;
        if (handler == reinterpret_cast<std::uint64_t>(SIG_IGN)) {
            call.task.ignored.insert(signal);
        } else {
            call.task.ignored.erase(signal);
        }
    }
    return 0;
}

SyscallResult Syscalls::arch_prctl(const Call& call) {
    switch (call.args[0]) {
        case ARCH_SET_FS:
            executor_.write(unicorn::kFsBase, call.args[1]);
            return 0;
        case ARCH_SET_GS:
            executor_.write(unicorn::kGsBase, call.args[1]);
            return 0;
        default:
            return -EINVAL;
    }
}

// ---- Time: that of the simulated clock

SyscallResult Syscalls::sleep(const Call& call, VirtAddr at, std::uint64_t from) {
    // Longer sleeps than eleven days would overflow the clock; nobody waits for their end.
    constexpr std::uint64_t kMostSeconds = 1000000;
    std::uint64_t span[2];  // struct timespec
    if (!memory_.get(call.core, at, span)) return -EFAULT;
    if (static_cast<std::int64_t>(span[0]) < 0 || span[1] >= kNanosecondsPerSecond) return -EINVAL;
    std::uint64_t nanoseconds = std::min(span[0], kMostSeconds) * kNanosecondsPerSecond + span[1];
    nanoseconds -= std::min(nanoseconds, from);
    // Rounded up: a sleep never ends early.
    control_.sleep(call.task, nanoseconds / 1000 * frequency_mhz_ +
                                  (nanoseconds % 1000 * frequency_mhz_ + 999) / 1000);
    return 0;
}

SyscallResult Syscalls::nanosleep(const Call& call) {
    return sleep(call, call.address(0), 0);
}

SyscallResult Syscalls::clock_nanosleep(const Call& call) {
    const bool absolute = (call.args[1] & TIMER_ABSTIME) != 0;
    return sleep(call, call.address(2), absolute ? control_.nanoseconds(call.task) : 0);
}

SyscallResult Syscalls::clock_gettime(const Call& call) {
    const std::uint64_t now = control_.nanoseconds(call.task);
    const std::uint64_t spec[2] = {now / kNanosecondsPerSecond, now % kNanosecondsPerSecond};
    return memory_.put(call.core, call.address(1), spec) ? 0 : -EFAULT;
}

SyscallResult Syscalls::clock_getres(const Call& call) {
    const std::uint64_t spec[2] = {0, 1};
    if (call.args[1] == 0) return 0;
    return memory_.put(call.core, call.address(1), spec) ? 0 : -EFAULT;
}

SyscallResult Syscalls::gettimeofday(const Call& call) {
    const std::uint64_t now = control_.nanoseconds(call.task);
    const std::uint64_t value[2] = {now / kNanosecondsPerSecond,
                                    now % kNanosecondsPerSecond / 1000};
    return memory_.put(call.core, call.address(0), value) ? 0 : -EFAULT;
}

SyscallResult Syscalls::time(const Call& call) {
    const auto seconds =
        static_cast<std::int64_t>(control_.nanoseconds(call.task) / kNanosecondsPerSecond);
    if (call.args[0] != 0 && !memory_.put(call.core, call.address(0), seconds)) return -EFAULT;
    return seconds;
}

// ---- Identity

SyscallResult Syscalls::getpid(const Call& call) {
    return call.task.tgid;
}

SyscallResult Syscalls::gettid(const Call& call) {
    return call.task.pid;
}

SyscallResult Syscalls::getppid(const Call& call) {
    return call.task.parent ? call.task.parent->tgid : 1;
}

SyscallResult Syscalls::uname(const Call& call) {
    struct utsname name {};
    std::strcpy(name.sysname, "Linux");
    std::strcpy(name.nodename, "ptshare");
    std::strcpy(name.release, "6.1.0");  // what static C libraries check: not older than theirs
    std::strcpy(name.version, "simulated");
    std::strcpy(name.machine, "x86_64");
    return memory_.put(call.core, call.address(0), name) ? 0 : -EFAULT;
}

SyscallResult Syscalls::getcpu(const Call& call) {
    const std::uint32_t numbers[2] = {call.core.id, 0};
    for (unsigned i = 0; i < 2; ++i) {
        if (call.args[i] != 0 && !memory_.put(call.core, call.address(i), numbers[i])) {
            return -EFAULT;
        }
    }
    return 0;
}

SyscallResult Syscalls::sched_getaffinity(const Call& call) {
    const std::uint64_t mask = 1ULL << call.core.id;  // tasks do not migrate
    if (call.args[1] < sizeof(mask)) return -EINVAL;
    return memory_.put(call.core, call.address(2), mask) ? static_cast<std::int64_t>(sizeof(mask))
                                                         : -EFAULT;
}

SyscallResult Syscalls::getrandom(const Call& call) {
    std::vector<std::uint8_t> bytes(std::min<std::uint64_t>(call.args[1], 1 << 20));
    for (std::uint8_t& byte : bytes) {
        // xorshift64* (Vigna 2016): depends on the seed alone.
        random_ = random_ == 0 ? 0x9e3779b97f4a7c15ULL : random_;
        random_ ^= random_ >> 12;
        random_ ^= random_ << 25;
        random_ ^= random_ >> 27;
        byte = static_cast<std::uint8_t>((random_ * 0x2545f4914f6cdd1dULL) >> 56);
    }
    if (!memory_.write(call.core, call.address(0), bytes.data(), bytes.size())) return -EFAULT;
    return static_cast<std::int64_t>(bytes.size());
}

SyscallResult Syscalls::prlimit(const Call& call) {
    if (call.args[3] == 0) return 0;
    const std::uint64_t limit[2] = {call.args[1] == RLIMIT_STACK ? 8ULL << 20 : RLIM_INFINITY,
                                    RLIM_INFINITY};
    return memory_.put(call.core, call.address(3), limit) ? 0 : -EFAULT;
}

SyscallResult Syscalls::getrlimit(const Call& call) {
    const std::uint64_t args[6] = {0, call.args[0], 0, call.args[1], 0, 0};
    return prlimit(Call{call.core, call.task, args, call.number});
}

}  // namespace ptshare::engine
