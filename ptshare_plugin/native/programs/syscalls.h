// System calls of the embedded engine: those that a small static C program needs, with Linux's
// numbers, arguments and answers. Memory calls go to core; anything unknown is ENOSYS and counted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "accounting/marks.h"
#include "accounting/outcome.h"
#include "programs/task.h"
#include "programs/user_memory.h"

namespace ptshare::engine {

// A result for RAX (negative errno on failure), or none: the task is blocked, gone, or starts anew.
using SyscallResult = std::optional<std::int64_t>;

// What system calls ask of the scheduler.
class TaskControl {
  public:
    virtual ~TaskControl() = default;

    struct CloneRequest {
        std::uint64_t flags = 0;
        VirtAddr stack;  // 0: the parent's
        VirtAddr parent_tid;
        VirtAddr child_tid;
        std::uint64_t tls = 0;
    };
    virtual SyscallResult clone(Task& task, const CloneRequest& request) = 0;
    virtual SyscallResult exec(Task& task, const std::string& path, std::vector<std::string> argv,
                               std::vector<std::string> env) = 0;
    virtual void exit(Task& task, int code) = 0;        // this thread
    virtual void exit_group(Task& task, int code) = 0;  // the whole process
    virtual SyscallResult wait(Task& task, std::int32_t pid, VirtAddr status,
                               std::uint64_t options) = 0;
    // `pid`: of a process or of one of its threads; the signal is the process's.
    virtual SyscallResult kill(Task& task, std::int32_t pid, int signal) = 0;
    virtual void yield(Task& task) = 0;
    virtual void sleep(Task& task, std::uint64_t cycles) = 0;
    virtual void futex_wait(Task& task, VirtAddr address) = 0;
    virtual std::int64_t futex_wake(Task& task, VirtAddr address, std::uint64_t count) = 0;
    virtual void mark(Task& task, std::uint64_t kind) = 0;
    // Nanoseconds since the start of the simulation, on the task's core.
    virtual std::uint64_t nanoseconds(const Task& task) const = 0;
};

class Syscalls {
  public:
    // All must outlive the object. `frequency_mhz`: of the cores' clock.
    Syscalls(Machine& machine, UserMemory& memory, Vfs& vfs, Executor& executor,
             TaskControl& control, std::vector<Rank>& ranks, std::uint64_t frequency_mhz,
             std::uint64_t seed);

    // Performs the call that the task (loaded on `core`) makes, and charges it.
    SyscallResult perform(Core& core, Task& task, const SyscallRegisters& registers);

  private:
    struct Call {
        Core& core;
        Task& task;
        const std::uint64_t* args;
        std::uint64_t number;

        VirtAddr address(unsigned i) const { return VirtAddr(args[i]); }
    };
    using Handler = SyscallResult (Syscalls::*)(const Call&);

    void add_file_calls();
    void add_memory_calls();
    void add_process_calls();

    // syscalls_file.cc
    SyscallResult read(const Call&);
    SyscallResult write(const Call&);
    SyscallResult readv(const Call&);
    SyscallResult writev(const Call&);
    SyscallResult pread(const Call&);
    SyscallResult pwrite(const Call&);
    SyscallResult open(const Call&);
    SyscallResult openat(const Call&);
    SyscallResult close(const Call&);
    SyscallResult stat(const Call&);
    SyscallResult fstat(const Call&);
    SyscallResult newfstatat(const Call&);
    SyscallResult lseek(const Call&);
    SyscallResult ftruncate(const Call&);
    SyscallResult unlink(const Call&);
    SyscallResult access(const Call&);
    SyscallResult ioctl(const Call&);
    SyscallResult fcntl(const Call&);
    SyscallResult dup(const Call&);
    SyscallResult dup2(const Call&);
    SyscallResult getcwd(const Call&);
    SyscallResult readlink(const Call&);
    std::shared_ptr<OpenFile> descriptor(const Task& task, std::uint64_t fd) const;
    // The lowest free descriptor from `least` on.
    std::int64_t install(Task& task, std::shared_ptr<OpenFile> file, std::uint64_t least = 0);
    std::int64_t open_path(const Call& call, VirtAddr path, std::uint64_t flags);
    std::int64_t stat_path(const Call& call, VirtAddr path, VirtAddr result);
    std::int64_t put_stat(const Call& call, const OpenFile& file, VirtAddr result);
    std::int64_t transfer_in(const Call& call, OpenFile& file, VirtAddr to, std::uint64_t n,
                             std::uint64_t& offset);
    std::int64_t transfer_out(const Call& call, OpenFile& file, VirtAddr from, std::uint64_t n,
                              std::uint64_t& offset);
    std::int64_t vectored(const Call& call, bool out);

    // syscalls_memory.cc
    std::int64_t charged(const Call& call, std::int64_t answer);
    SyscallResult mmap(const Call&);
    SyscallResult munmap(const Call&);
    SyscallResult mprotect(const Call&);
    SyscallResult mremap(const Call&);
    SyscallResult madvise(const Call&);
    SyscallResult brk(const Call&);
    SyscallResult userfaultfd(const Call&);
    SyscallResult userfault_ioctl(const Call&, OpenFile& file);
    std::int64_t userfault_register(const Call&, MmId mm);

    // syscalls_process.cc
    SyscallResult clone(const Call&);
    SyscallResult fork(const Call&);
    SyscallResult vfork(const Call&);
    SyscallResult execve(const Call&);
    SyscallResult exit(const Call&);
    SyscallResult exit_group(const Call&);
    SyscallResult wait4(const Call&);
    SyscallResult kill(const Call&);
    SyscallResult tgkill(const Call&);
    SyscallResult sched_yield(const Call&);
    SyscallResult sleep(const Call& call, VirtAddr at, std::uint64_t from);
    SyscallResult nanosleep(const Call&);
    SyscallResult clock_nanosleep(const Call&);
    SyscallResult futex(const Call&);
    SyscallResult getpid(const Call&);
    SyscallResult gettid(const Call&);
    SyscallResult getppid(const Call&);
    SyscallResult zero(const Call&);  // identities of root, and calls that may be taken as done
    SyscallResult uname(const Call&);
    SyscallResult gettimeofday(const Call&);
    SyscallResult time(const Call&);
    SyscallResult clock_gettime(const Call&);
    SyscallResult clock_getres(const Call&);
    SyscallResult rt_sigaction(const Call&);
    SyscallResult arch_prctl(const Call&);
    SyscallResult set_tid_address(const Call&);
    SyscallResult getrandom(const Call&);
    SyscallResult prlimit(const Call&);
    SyscallResult getrlimit(const Call&);
    SyscallResult getcpu(const Call&);
    SyscallResult sched_getaffinity(const Call&);
    std::optional<std::vector<std::string>> string_array(const Call& call, VirtAddr at);

    Machine& machine_;
    UserMemory& memory_;
    Vfs& vfs_;
    Executor& executor_;
    TaskControl& control_;
    std::vector<Rank>& ranks_;
    std::uint64_t frequency_mhz_;
    std::uint64_t random_;  // state of getrandom, from the seed
    std::map<std::uint64_t, Handler> handlers_;
};

}  // namespace ptshare::engine
