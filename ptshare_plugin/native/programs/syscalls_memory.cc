// Memory system calls: core answers, the engine charges.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cerrno>

#include "programs/syscalls.h"

namespace ptshare::engine {

void Syscalls::add_memory_calls() {
    handlers_[SYS_mmap] = &Syscalls::mmap;
    handlers_[SYS_mprotect] = &Syscalls::mprotect;
    handlers_[SYS_munmap] = &Syscalls::munmap;
    handlers_[SYS_brk] = &Syscalls::brk;
    handlers_[SYS_mremap] = &Syscalls::mremap;
    handlers_[SYS_madvise] = &Syscalls::madvise;
    handlers_[SYS_userfaultfd] = &Syscalls::userfaultfd;
}

// What core has answered, at its price.
std::int64_t Syscalls::charged(const Call& call, std::int64_t answer) {
    machine_.charge_syscall(call.core, machine_.costs().memory_call(call.number));
    return answer;
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
    return charged(call, return_value(result));
}

SyscallResult Syscalls::munmap(const Call& call) {
    const Errno error = machine_.kernel().munmap(*call.task.mm, call.address(0), call.args[1]);
    return charged(call, return_value(error));
}

SyscallResult Syscalls::mprotect(const Call& call) {
    const Errno error =
        machine_.kernel().mprotect(*call.task.mm, call.address(0), call.args[1], call.args[2]);
    return charged(call, return_value(error));
}

SyscallResult Syscalls::mremap(const Call& call) {
    const MapResult result = machine_.kernel().mremap(*call.task.mm, call.address(0), call.args[1],
                                                      call.args[2], call.args[3], call.address(4));
    return charged(call, return_value(result));
}

SyscallResult Syscalls::madvise(const Call& call) {
    const Errno error = machine_.kernel().madvise(*call.task.mm, call.address(0), call.args[1],
                                                  static_cast<int>(call.args[2]));
    return charged(call, return_value(error));
}

SyscallResult Syscalls::brk(const Call& call) {
    const VirtAddr end = machine_.kernel().brk(*call.task.mm, call.address(0));
    return charged(call, static_cast<std::int64_t>(end.value));
}

// ---- userfaultfd: as much as a program needs to be without fault-around. No message is ever sent.

SyscallResult Syscalls::userfaultfd(const Call& call) {
    constexpr std::uint64_t kFlags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
    if (call.args[0] & ~kFlags) return -EINVAL;
    auto file = std::make_shared<OpenFile>();
    file->kind = OpenFile::Kind::Userfault;
    file->writable = false;
    file->mm = call.task.mm->id;
    return install(call.task, std::move(file));
}

SyscallResult Syscalls::userfault_ioctl(const Call& call, OpenFile& file) {
    const VirtAddr at = call.address(2);
    if (call.args[1] == UFFDIO_API) {
        uffdio_api api{};
        if (!memory_.get(call.core, at, api)) return -EFAULT;
        const bool known = api.api == UFFD_API && api.features == 0 && !file.ready;
        api = {known ? UFFD_API : 0, 0, known ? 1ULL << _UFFDIO_REGISTER : 0};
        if (!memory_.put(call.core, at, api)) return -EFAULT;
        file.ready |= known;
        return known ? 0 : -EINVAL;
    }
    if (call.args[1] != UFFDIO_REGISTER || !file.ready) return -EINVAL;
    return userfault_register(call, file.mm);
}

std::int64_t Syscalls::userfault_register(const Call& call, MmId id) {
    const VirtAddr at = call.address(2);
    uffdio_register range{};
    if (!memory_.get(call.core, at, range)) return -EFAULT;
    if (range.mode != UFFDIO_REGISTER_MODE_WP) return -EINVAL;
    Mm* const mm = machine_.kernel().find_mm(id);
    if (!mm) return -ESRCH;
    const Errno error =
        machine_.kernel().userfault_register(*mm, VirtAddr(range.range.start), range.range.len);
    machine_.charge_syscall(call.core, 0);
    if (error == Errno::Ok) {
        range.ioctls = 0;
        if (!memory_.put(call.core, at, range)) return -EFAULT;
    }
    return return_value(error);
}

}  // namespace ptshare::engine
