// Mapped files: what mappings and read or write see is one page cache.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <memory>

#include "cpu/thread_context.hh"
#include "gem5/kernel.hh"
#include "gem5/workload.hh"
#include "sim/fd_array.hh"
#include "sim/fd_entry.hh"
#include "sim/process.hh"

namespace ptshare::g5 {

namespace {

constexpr std::uint64_t kMostBytes = 0x7ffff000;  // of one call: Linux's MAX_RW_COUNT

// The host's descriptor behind one of the process, and the flags it was opened with; -1: none.
struct Descriptor {
    int host = -1;
    int flags = 0;
};

Descriptor descriptor(const Task& task, std::uint64_t fd) {
    gem5::FDArray& table = *task.process()->fds;
    if (fd > std::numeric_limits<int>::max() || static_cast<int>(fd) >= table.getSize()) return {};
    const auto entry = std::dynamic_pointer_cast<gem5::HBFDEntry>(table[static_cast<int>(fd)]);
    if (!entry) return {};
    return {entry->getSimFD(), entry->getFlags()};
}

}  // namespace

std::int64_t Workload::mmap(Task& task, Arguments args) {
    MapRequest request;
    request.address = VirtAddr(args[0]);
    request.length = args[1];
    request.prot = args[2];
    request.flags = args[3];
    if (!(request.flags & kMapAnonymous)) {
        const Descriptor fd = descriptor(task, args[4] & 0xffffffffULL);
        if (fd.host < 0) return -EBADF;
        request.file = kernel_.file(fd.host, true);
        if (!request.file) return -ENODEV;
        kernel_.take_host_sizes();  // somebody else may have changed them
        request.offset = args[5];
        const int mode = fd.flags & O_ACCMODE;
        request.file_readable = mode != O_WRONLY;
        request.file_writable = mode != O_RDONLY;
    }
    return return_value(kernel_.core().mmap(*task.mm, request));
}

Workload::Result Workload::transfer(Task& task, std::uint64_t number, Arguments args) {
    const Descriptor fd = descriptor(task, args[0]);
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
        copy(task, *file, fd.host, write, VirtAddr(args[1]), static_cast<std::uint64_t>(offset),
             std::min(args[2], kMostBytes));
    if (moved > 0 && !positioned) ::lseek(fd.host, offset + moved, SEEK_SET);
    return moved;
}

Workload::Result Workload::transfer_vector(Task& task, std::uint64_t number, Arguments args) {
    constexpr std::uint64_t kMostParts = 1024;  // Linux's UIO_MAXIOV
    const Descriptor fd = descriptor(task, args[0]);
    if (fd.host < 0 || !kernel_.file(fd.host, false)) return std::nullopt;
    if (args[2] > kMostParts) return -EINVAL;
    std::int64_t total = 0;
    for (std::uint64_t i = 0; i < args[2]; ++i) {
        std::uint64_t part[2];  // struct iovec: base, length
        if (!kernel_.copy_in(task, VirtAddr(args[1] + i * sizeof(part)), part, sizeof(part))) {
            return total != 0 ? total : -EFAULT;
        }
        const std::uint64_t single[6] = {args[0], part[0], part[1], 0, 0, 0};
        const Result moved = transfer(task, number == SYS_readv ? SYS_read : SYS_write, single);
        if (*moved < 0) return total != 0 ? total : *moved;
        total += *moved;
        if (static_cast<std::uint64_t>(*moved) < part[1]) break;
    }
    return total;
}

std::int64_t Workload::copy(Task& task, const File& file, int host_fd, bool write, VirtAddr user,
                            std::uint64_t offset, std::uint64_t n) {
    if (write && file.huge()) return -EINVAL;  // as hugetlbfs
    if (!write) n = offset >= file.size() ? 0 : std::min(n, file.size() - offset);
    std::uint64_t done = 0;
    while (done < n) {
        const std::uint64_t at = offset + done;
        const std::uint64_t bytes = std::min(n - done, kPageSize - (at & (kPageSize - 1)));
        const Part moved = write ? write_part(task, file, host_fd, user + done, at, bytes)
                                 : read_part(task, file, host_fd, user + done, at, bytes);
        if (moved == Part::BadAddress) break;
        if (moved == Part::HostError) {
            return write && done != 0 ? static_cast<std::int64_t>(done) : -errno;
        }
        done += bytes;
    }
    if (done == 0 && n != 0) return -EFAULT;
    return static_cast<std::int64_t>(done);
}

// The page cache is what mappings see; the host's file has what was never mapped, and gets what is
// written.
Workload::Part Workload::write_part(Task& task, const File& file, int host_fd, VirtAddr user,
                                    std::uint64_t offset, std::uint64_t bytes) {
    std::array<std::uint8_t, kPageSize> page;
    if (!kernel_.copy_in(task, user, page.data(), bytes)) return Part::BadAddress;
    if (::pwrite(host_fd, page.data(), bytes, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(bytes)) {
        return Part::HostError;
    }
    const auto known = kernel_.file(host_fd, false);
    if (offset + bytes > known->size()) known->resize(offset + bytes);
    // Asked only now: the source may have been a mapping of this page.
    if (const Pfn cached = file.cached(offset >> kPageShift); cached != Pfn(0)) {
        const std::uint64_t within = offset & (kPageSize - 1);
        kernel_.memory().writeBlob(address_of(cached).value + within, page.data(), bytes);
    }
    return Part::Moved;
}

Workload::Part Workload::read_part(Task& task, const File& file, int host_fd, VirtAddr user,
                                   std::uint64_t offset, std::uint64_t bytes) {
    std::array<std::uint8_t, kPageSize> page;
    if (const Pfn cached = file.cached(offset >> kPageShift); cached != Pfn(0)) {
        const std::uint64_t within = offset & (kPageSize - 1);
        kernel_.memory().readBlob(address_of(cached).value + within, page.data(), bytes);
    } else {
        page.fill(0);
        if (::pread(host_fd, page.data(), bytes, static_cast<off_t>(offset)) < 0) {
            return Part::HostError;
        }
    }
    return kernel_.copy_out(task, user, page.data(), bytes) ? Part::Moved : Part::BadAddress;
}

}  // namespace ptshare::g5
