#include "gem5/workload.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <limits>
#include <memory>
#include <vector>

#include "arch/x86/regs/int.hh"
#include "arch/x86/regs/misc.hh"
#include "base/logging.hh"
#include "cpu/thread_context.hh"
#include "engine/marks.h"
#include "gem5/kernel.hh"
#include "sim/fd_array.hh"
#include "sim/fd_entry.hh"
#include "sim/process.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

namespace x86 = gem5::X86ISA;
using engine::Counters;

namespace {

std::int64_t negative(Errno error) {
    return -static_cast<std::int64_t>(error);
}

std::int64_t value_of(const MapResult& result) {
    return result.ok() ? static_cast<std::int64_t>(result.address.value) : negative(result.error);
}

// The host's descriptor behind one of the process, and the flags it was opened with; -1: none.
struct Descriptor {
    int host = -1;
    int flags = 0;
};

Descriptor descriptor(const ProcessRecord& record, std::uint64_t fd) {
    gem5::FDArray& table = *record.process->fds;
    if (fd > std::numeric_limits<int>::max() || static_cast<int>(fd) >= table.getSize()) return {};
    const auto entry = std::dynamic_pointer_cast<gem5::HBFDEntry>(table[static_cast<int>(fd)]);
    if (!entry) return {};
    return {entry->getSimFD(), entry->getFlags()};
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
        if (tc->getProcessPtr()) kernel_.adopt(tc);
    }
}

void Workload::startup() {
    EmuLinux::startup();
    for (gem5::ThreadContext* tc : system->threads) {
        ProcessRecord* record = kernel_.record(tc);
        if (!record) continue;
        // Writing its stack loaded it. What that cost is before the start.
        panic_if(!record->loaded, "%s was not loaded", record->process->name());
        record->pending = 0;
        // Where the tables are, for whoever looks at the register; the walker asks the record.
        tc->setMiscRegNoEffect(x86::misc_reg::Cr3,
                               address_of(record->mmu.root).value | record->mmu.pcid);
    }
}

void Workload::emulate(gem5::ThreadContext* tc) {
    EmuLinux::syscall(tc);
}

void Workload::syscall(gem5::ThreadContext* tc) {
    ProcessRecord* record = kernel_.record(tc);
    if (!record || !record->mm) {
        emulate(tc);
        return;
    }
    ++record->counters.syscalls;
    kernel_.owe(*record, &Counters::cycles_syscall, kernel_.costs().syscall);
    const std::uint64_t number = tc->getReg(x86::int_reg::Rax);
    const std::uint64_t args[6] = {tc->getReg(x86::int_reg::Rdi), tc->getReg(x86::int_reg::Rsi),
                                   tc->getReg(x86::int_reg::Rdx), tc->getReg(x86::int_reg::R10),
                                   tc->getReg(x86::int_reg::R8),  tc->getReg(x86::int_reg::R9)};
    if (const auto result = answer(tc, *record, number, args)) {
        tc->setReg(x86::int_reg::Rax, static_cast<gem5::RegVal>(*result));
    } else {
        emulate(tc);
    }
    if (record->mm) kernel_.spend(*record);
}

std::optional<std::int64_t> Workload::answer(gem5::ThreadContext* tc, ProcessRecord& record,
                                             std::uint64_t number, Arguments args) {
    ptshare::Kernel& core = kernel_.core();
    const engine::Costs& costs = kernel_.costs();
    const auto charged = [&](std::int64_t result, std::uint64_t cycles) {
        kernel_.owe(record, &Counters::cycles_syscall, cycles);
        return result;
    };
    const VirtAddr first(args[0]);
    switch (number) {
        case engine::kMarkSyscall:
            kernel_.mark(record, args[0]);
            return 0;
        case SYS_mmap:
            return charged(mmap(record, args), costs.mmap);
        case SYS_munmap:
            return charged(negative(core.munmap(*record.mm, first, args[1])), costs.munmap);
        case SYS_mprotect:
            return charged(negative(core.mprotect(*record.mm, first, args[1], args[2])),
                           costs.mprotect);
        case SYS_mremap:
            return charged(value_of(core.mremap(*record.mm, first, args[1], args[2], args[3],
                                                VirtAddr(args[4]))),
                           costs.mmap);
        case SYS_madvise:
            return charged(
                negative(core.madvise(*record.mm, first, args[1], static_cast<int>(args[2]))), 0);
        case SYS_brk:
            return charged(static_cast<std::int64_t>(core.brk(*record.mm, first).value),
                           costs.mmap);
        case SYS_read:
        case SYS_write:
        case SYS_pread64:
        case SYS_pwrite64:
            return transfer(record, number, args);
        case SYS_ftruncate: {
            emulate(tc);
            const auto file = kernel_.file(descriptor(record, args[0]).host, false);
            const auto result = static_cast<std::int64_t>(tc->getReg(x86::int_reg::Rax));
            if (file && result == 0) core.truncate(*file, args[1]);
            return charged(result, 0);
        }
        case SYS_kill:
            // The rest of what signals do is gem5's.
            if (args[0] != record.process->pid() || args[1] == 0) return std::nullopt;
            kill(tc, record, static_cast<int>(args[1]));
            return static_cast<std::int64_t>(tc->getReg(x86::int_reg::Rax));
        case SYS_exit:
        case SYS_exit_group:
            record.exit_code = static_cast<int>(args[0] & 0xff);
            kernel_.leave(record);
            return std::nullopt;
        case SYS_clone:
        case SYS_clone3:
        case SYS_fork:
        case SYS_vfork:
        case SYS_execve:
            // gem5 copies pages that it knows; those of core's address spaces it does not.
            warn_once("ptshare: fork, clone and execve are not supported under gem5: ENOSYS");
            ++record.counters.syscalls_unknown;
            return -ENOSYS;
        default:
            return std::nullopt;
    }
}

void Workload::kill(gem5::ThreadContext* tc, ProcessRecord& record, int signal) {
    record.signal = signal;
    kernel_.leave(record);
    // gem5 has no signals that end a process: it exits, as a shell reports the signal.
    tc->setReg(x86::int_reg::Rax, static_cast<gem5::RegVal>(SYS_exit_group));
    tc->setReg(x86::int_reg::Rdi, static_cast<gem5::RegVal>(128 + signal));
    emulate(tc);
}

std::int64_t Workload::mmap(ProcessRecord& record, Arguments args) {
    MapRequest request;
    request.address = VirtAddr(args[0]);
    request.length = args[1];
    request.prot = args[2];
    request.flags = args[3];
    if (!(request.flags & kMapAnonymous)) {
        const Descriptor fd = descriptor(record, args[4] & 0xffffffffULL);
        if (fd.host < 0) return -EBADF;
        request.file = kernel_.file(fd.host, true);
        if (!request.file) return -ENODEV;
        // Someone else may have changed its size on the host.
        struct stat status;
        if (::fstat(fd.host, &status) == 0 &&
            static_cast<std::uint64_t>(status.st_size) != request.file->size()) {
            kernel_.core().truncate(*request.file, static_cast<std::uint64_t>(status.st_size));
        }
        request.offset = args[5];
        const int mode = fd.flags & O_ACCMODE;
        request.file_readable = mode != O_WRONLY;
        request.file_writable = mode != O_RDONLY;
    }
    return value_of(kernel_.core().mmap(*record.mm, request));
}

std::optional<std::int64_t> Workload::transfer(ProcessRecord& record, std::uint64_t number,
                                               Arguments args) {
    const Descriptor fd = descriptor(record, args[0]);
    const auto file = fd.host < 0 ? nullptr : kernel_.file(fd.host, false);
    if (!file) return std::nullopt;
    const bool write = number == SYS_write || number == SYS_pwrite64;
    const int mode = fd.flags & O_ACCMODE;
    if (write ? mode == O_RDONLY : mode == O_WRONLY) return -EBADF;
    const bool positioned = number == SYS_pread64 || number == SYS_pwrite64;
    off_t offset = 0;
    if (positioned) {
        offset = static_cast<off_t>(args[3]);
        if (offset < 0) return -EINVAL;
    } else {
        const bool append = write && (fd.flags & O_APPEND) != 0;
        offset = ::lseek(fd.host, 0, append ? SEEK_END : SEEK_CUR);
        if (offset < 0) return -errno;
    }
    const std::int64_t moved =
        copy(record, *file, fd.host, write, VirtAddr(args[1]), static_cast<std::uint64_t>(offset),
             std::min<std::uint64_t>(args[2], 0x7ffff000));  // MAX_RW_COUNT
    if (moved > 0 && !positioned) ::lseek(fd.host, offset + moved, SEEK_SET);
    kernel_.owe(record, &Counters::cycles_syscall, 0);
    return moved;
}

// The page cache is what mappings see; the host's file has what was never mapped, and gets what is
// written.
std::int64_t Workload::copy(ProcessRecord& record, const File& file, int host_fd, bool write,
                            VirtAddr user, std::uint64_t offset, std::uint64_t n) {
    if (!write) n = offset >= file.size() ? 0 : std::min(n, file.size() - offset);
    std::array<std::uint8_t, kPageSize> page;
    std::uint64_t done = 0;
    while (done < n) {
        const std::uint64_t at = offset + done;
        const std::uint64_t within = at & (kPageSize - 1);
        const std::uint64_t part = std::min(n - done, kPageSize - within);
        const Pfn cached = file.cached(at >> kPageShift);
        const gem5::Addr place = address_of(cached).value + within;
        if (write) {
            if (!kernel_.copy_in(record, user + done, page.data(), part)) break;
            if (::pwrite(host_fd, page.data(), part, static_cast<off_t>(at)) !=
                static_cast<ssize_t>(part)) {
                return done ? static_cast<std::int64_t>(done) : -errno;
            }
            const auto known = kernel_.file(host_fd, false);
            if (at + part > known->size()) known->resize(at + part);
            if (cached != Pfn(0)) kernel_.memory().writeBlob(place, page.data(), part);
        } else {
            if (cached != Pfn(0)) {
                kernel_.memory().readBlob(place, page.data(), part);
            } else {
                page.fill(0);
                if (::pread(host_fd, page.data(), part, static_cast<off_t>(at)) < 0) return -errno;
            }
            if (!kernel_.copy_out(record, user + done, page.data(), part)) break;
        }
        done += part;
    }
    if (done == 0 && n != 0) return -EFAULT;
    return static_cast<std::int64_t>(done);
}

}  // namespace ptshare::g5
