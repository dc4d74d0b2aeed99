// Memory system calls: core answers, the engine charges.
#include <cerrno>

#include "engine/syscalls.h"

namespace ptshare::engine {

void Syscalls::add_memory_calls() {
    handlers_[9] = &Syscalls::mmap;
    handlers_[10] = &Syscalls::mprotect;
    handlers_[11] = &Syscalls::munmap;
    handlers_[12] = &Syscalls::brk;
    handlers_[25] = &Syscalls::mremap;
    handlers_[28] = &Syscalls::madvise;
}

SyscallResult Syscalls::mmap(const Call& call) {
    MapRequest request;
    request.address = call.address(0);
    request.length = call.args[1];
    request.prot = call.args[2];
    request.flags = call.args[3];
    request.offset = call.args[5];
    if (!(request.flags & kMapAnonymous)) {
        const auto open = descriptor(call.task, call.args[4] & 0xffffffffULL);
        if (!open) return -EBADF;
        if (!open->file) return -ENODEV;
        request.file = open->file;
        request.file_readable = open->readable;
        request.file_writable = open->writable;
    } else {
        request.offset = 0;
    }
    const MapResult result = machine_.kernel().mmap(*call.task.mm, request);
    machine_.charge_syscall(call.core, machine_.costs().mmap);
    return return_value(result);
}

SyscallResult Syscalls::munmap(const Call& call) {
    const Errno error = machine_.kernel().munmap(*call.task.mm, call.address(0), call.args[1]);
    machine_.charge_syscall(call.core, machine_.costs().munmap);
    return return_value(error);
}

SyscallResult Syscalls::mprotect(const Call& call) {
    const Errno error =
        machine_.kernel().mprotect(*call.task.mm, call.address(0), call.args[1], call.args[2]);
    machine_.charge_syscall(call.core, machine_.costs().mprotect);
    return return_value(error);
}

SyscallResult Syscalls::mremap(const Call& call) {
    const MapResult result = machine_.kernel().mremap(*call.task.mm, call.address(0), call.args[1],
                                                      call.args[2], call.args[3], call.address(4));
    machine_.charge_syscall(call.core, machine_.costs().mmap);
    return return_value(result);
}

SyscallResult Syscalls::madvise(const Call& call) {
    const Errno error = machine_.kernel().madvise(*call.task.mm, call.address(0), call.args[1],
                                                  static_cast<int>(call.args[2]));
    machine_.charge_syscall(call.core, 0);
    return return_value(error);
}

SyscallResult Syscalls::brk(const Call& call) {
    const VirtAddr end = machine_.kernel().brk(*call.task.mm, call.address(0));
    machine_.charge_syscall(call.core, machine_.costs().mmap);
    return static_cast<std::int64_t>(end.value);
}

}  // namespace ptshare::engine
