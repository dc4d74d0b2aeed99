// System calls of a simulated process: those about memory and about processes go to core, all
// others to gem5.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "arch/x86/linux/se_workload.hh"
#include "core/kernel.h"
#include "gem5/task.hh"
#include "params/PtshareWorkload.hh"

namespace ptshare::g5 {

using gem5::PtshareWorkloadParams;

class Kernel;

class Workload : public gem5::X86ISA::EmuLinux {
  public:
    PARAMS(PtshareWorkload);
    explicit Workload(const Params& p);

    void setSystem(gem5::System* sys) override;
    void init() override;
    void startup() override;
    void syscall(gem5::ThreadContext* tc) override;

  private:
    using Arguments = const std::uint64_t (&)[6];
    // For RAX; none: nothing is to be written there.
    using Result = std::optional<std::int64_t>;

    struct Process {
        std::uint64_t parent = 0;  // its pid; 0: started from outside, or orphaned
        bool ending = false;       // all its threads: exit_group, a signal, or the last one's exit
        bool ended = false;        // and its parent has not waited for it
        int code = 0;              // with ending; or the signal:
        int signal = 0;
    };

    // One system call; all of it outlives the answer.
    struct Call {
        gem5::ThreadContext* tc;
        Task& task;
        std::uint64_t number;
        Arguments args;

        VirtAddr address(unsigned i) const { return VirtAddr(args[i]); }
    };
    using Handler = Result (Workload::*)(const Call&);
    using Handlers = std::unordered_map<std::uint64_t, Handler>;

    // Of the calls that gem5 alone does not answer as they must be, by number.
    static const Handlers& handlers();
    Result answer(const Call& call);
    void emulate(gem5::ThreadContext* tc);
    Result emulated(const Call& call);

    Result mark(const Call& call);
    Result alignment(const Call& call);
    Result memory_call(const Call& call);
    // Reads and writes.
    Result transfer_call(const Call& call);
    // What may change the size of a file that is mapped: gem5's work, then core hears of it.
    Result resizing_call(const Call& call);
    Result clone_call(const Call& call);
    Result unsupported(const Call& call);
    Result yield(const Call& call);
    Result set_tid_address(const Call& call);
    Result wait_call(const Call& call);
    Result kill_call(const Call& call);
    Result sleep_call(const Call& call);
    Result exit_call(const Call& call);

    // Memory and files.
    std::int64_t mmap(Task& task, Arguments args);
    // readv and writev, likewise.
    Result transfer_vector(Task& task, std::uint64_t number, Arguments args);
    // read, write, pread64, pwrite64 of a file that is in the page cache; none: of another.
    Result transfer(Task& task, std::uint64_t number, Arguments args);
    std::int64_t copy(Task& task, const File& file, int host_fd, bool write, VirtAddr user,
                      std::uint64_t offset, std::uint64_t n);
    // `bytes` bytes from `offset` on, which lie in one page of the file.
    enum class Part { Moved, BadAddress, HostError };
    Part write_part(Task& task, const File& file, int host_fd, VirtAddr user, std::uint64_t offset,
                    std::uint64_t bytes);
    Part read_part(Task& task, const File& file, int host_fd, VirtAddr user, std::uint64_t offset,
                   std::uint64_t bytes);

    // Processes.
    struct CloneRequest {
        std::uint64_t flags = 0;
        std::uint64_t stack = 0;
        VirtAddr parent_tid;
        VirtAddr child_tid;
        std::uint64_t tls = 0;
    };
    std::int64_t clone(Task& parent, const CloneRequest& request);
    // The whole process ends, by an exit code or a signal: threads that run on other CPUs at their
    // next instruction. `calling`: the one of its threads whose system call this is, if one's is.
    void end_process(std::uint64_t pid, int code, int signal, Task* calling);
    void end_elsewhere(Task& task, int code);
    // One thread ends, and the process with its last one.
    void end_thread(Task& task, int code);
    void process_ended(std::uint64_t pid);
    Result wait(Task& task, std::int64_t pid, VirtAddr status, std::uint64_t options);
    // The CPU stands still for the time at `span`, or up to it.
    std::int64_t sleep(Task& task, VirtAddr span, bool absolute);
    Result kill(Task& task, std::uint64_t pid, std::uint64_t signal);

    Kernel& kernel_;  // a SimObject of the same configuration; gem5 owns it
    std::map<std::uint64_t, Process> processes_;  // by pid: alive, or not waited for yet
};

}  // namespace ptshare::g5
