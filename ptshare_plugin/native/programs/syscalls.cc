#include "programs/syscalls.h"

#include <cerrno>

namespace ptshare::engine {

Syscalls::Syscalls(Machine& machine, UserMemory& memory, Vfs& vfs, Executor& executor,
                   TaskControl& control, std::vector<Rank>& ranks, std::uint64_t frequency_mhz,
                   std::uint64_t seed)
    : machine_(machine),
      memory_(memory),
      vfs_(vfs),
      executor_(executor),
      control_(control),
      ranks_(ranks),
      frequency_mhz_(frequency_mhz),
      random_(seed) {
    add_file_calls();
    add_memory_calls();
    add_process_calls();
}

SyscallResult Syscalls::perform(Core& core, Task& task, const SyscallRegisters& registers) {
    if (registers.number == kMarkSyscall) {
        // Free of charge: on Linux the call would not be there.
        control_.mark(task, registers.args[0]);
        return -ENOSYS;
    }
    ++task.counters.syscalls;
    machine_.charge_syscall(core, machine_.costs().syscall);
    if (registers.number == kAlignmentSyscall) return answer_alignment(machine_.kernel());
    const auto handler = handlers_.find(registers.number);
    if (handler == handlers_.end()) {
        ++task.counters.syscalls_unknown;
        return -ENOSYS;
    }
    return (this->*handler->second)(Call{core, task, registers.args, registers.number});
}

}  // namespace ptshare::engine
