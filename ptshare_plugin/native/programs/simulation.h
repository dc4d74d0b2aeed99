// Runs programs on the machine: tasks, what they wait for, and what becomes of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "accounting/params.h"
#include "machine/run.h"
#include "programs/executor.h"
#include "programs/loader.h"
#include "programs/syscalls.h"
#include "programs/task.h"
#include "programs/user_memory.h"
#include "programs/vfs.h"

namespace ptshare::engine {

// Run is the first base: the bindings take a pointer to the one for a pointer to the other.
class Simulation final : public Run, private Observer, private Loading, private TaskControl {
  public:
    // Throws std::invalid_argument (parameters, policy) or std::runtime_error (Unicorn, memory).
    Simulation(const Params& params, const std::string& policy, unsigned cores, std::uint64_t seed,
               const std::string& unicorn_library);
    ~Simulation() override;

    std::size_t add_program(const std::string& name, std::vector<std::uint8_t> image,
                            const std::vector<Segment>& segments, VirtAddr entry, VirtAddr headers,
                            std::uint64_t header_bytes, std::uint64_t header_count);
    // A process that starts when the simulation does. Returns its index (rank).
    std::size_t add_process(std::size_t program, std::vector<std::string> argv,
                            std::vector<std::string> env);

  private:
    Simulation(const Params& params, const std::string& policy, unsigned cores, std::uint64_t seed,
               const std::string& unicorn_library, const std::shared_ptr<HostMemory>& memory);

    // Observer
    bool map(VirtAddr page, Access access, Mapping& mapping) override;
    void approach(PhysAddr physical) override;
    bool data(VirtAddr address, PhysAddr physical, unsigned size, Access access) override;
    bool block(VirtAddr address, unsigned bytes, unsigned instructions) override;
    std::uint64_t timestamp() override;
    std::uint64_t core_id() override { return running_core_->id; }

    // Loading
    bool writes_back() override;

    // TaskControl
    SyscallResult clone(Task& task, const CloneRequest& request) override;
    SyscallResult exec(Task& task, const std::string& path, std::vector<std::string> argv,
                       std::vector<std::string> env) override;
    void exit(Task& task, int code) override;
    void exit_group(Task& task, int code) override;
    SyscallResult wait(Task& task, std::int32_t pid, VirtAddr status,
                       std::uint64_t options) override;
    SyscallResult kill(Task& task, std::int32_t pid, int signal) override;
    void yield(Task& task) override;
    void sleep(Task& task, std::uint64_t cycles) override;
    void futex_wait(Task& task, VirtAddr address) override;
    std::int64_t futex_wake(Task& task, VirtAddr address, std::uint64_t count) override;
    void mark(Task& task, std::uint64_t kind) override;
    std::uint64_t nanoseconds(const Task& task) const override;

    // Scheduling
    bool over() const override { return tasks_.empty(); }
    Core& next_core() override;
    void run_slice(Core& core, Thread& thread) override;
    void activate(Task& task);
    void serve_syscall(Core& core, Task& task);
    void make_runnable(Task& task, std::uint64_t clock);
    void leave_queue(Task& task, Task::State state);
    void wake_sleepers(Core& core);
    unsigned least_loaded_core() const;

    // Life and death of tasks
    Task& new_task(unsigned rank, unsigned core);
    void start_program(Core& core, Task& task);
    void leave_mm(Task& task);
    void end_process(Task& task, int code, int signal, const std::string& note);
    void end_task(Task& task, int status);
    Task* leader_of(std::uint32_t tgid);  // null when it has been waited for
    void erase_unwanted(std::uint32_t tgid, const Task* waited_for);
    void wake_waiting(std::uint32_t parent, std::uint32_t child, std::uint64_t now);
    void erase(Task& task);
    Task* find_task(std::int32_t pid);
    void fatal_fault(Task& task);
    void crash(Task& task, int signal, const std::string& note);
    void cpu_exception(Task& task);

    Core& core_of(const Task& task) { return machine_.core(task.core); }

    std::uint64_t frequency_mhz_;
    HostMemory& memory_;  // held by Run
    Executor executor_;
    UserMemory user_memory_;
    Vfs vfs_;
    Loader loader_;
    Syscalls syscalls_;
    std::vector<Program> programs_;
    std::vector<std::unique_ptr<Task>> tasks_;  // all that are not reaped, by age
    Task* active_ = nullptr;                    // whose registers Unicorn holds
    Core* running_core_ = nullptr;              // during a slice
    std::uint32_t next_pid_ = 1000;
};

}  // namespace ptshare::engine
