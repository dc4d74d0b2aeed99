// File system calls, on files in simulated memory.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "programs/syscalls.h"

namespace ptshare::engine {

namespace {

constexpr std::uint64_t kMaxTransfer = 1ULL << 30;
constexpr std::uint64_t kMaxFileBytes = 1ULL << 42;
constexpr std::size_t kMaxDescriptors = 1024;  // RLIMIT_NOFILE's usual soft limit

}  // namespace

void Syscalls::add_file_calls() {
    handlers_[SYS_read] = &Syscalls::read;
    handlers_[SYS_write] = &Syscalls::write;
    handlers_[SYS_open] = &Syscalls::open;
    handlers_[SYS_close] = &Syscalls::close;
    handlers_[SYS_stat] = handlers_[SYS_lstat] = &Syscalls::stat;
    handlers_[SYS_fstat] = &Syscalls::fstat;
    handlers_[SYS_lseek] = &Syscalls::lseek;
    handlers_[SYS_ioctl] = &Syscalls::ioctl;
    handlers_[SYS_pread64] = &Syscalls::pread;
    handlers_[SYS_pwrite64] = &Syscalls::pwrite;
    handlers_[SYS_readv] = &Syscalls::readv;
    handlers_[SYS_writev] = &Syscalls::writev;
    handlers_[SYS_access] = &Syscalls::access;
    handlers_[SYS_dup] = &Syscalls::dup;
    handlers_[SYS_dup2] = handlers_[SYS_dup3] = &Syscalls::dup2;
    handlers_[SYS_fcntl] = &Syscalls::fcntl;
    handlers_[SYS_ftruncate] = &Syscalls::ftruncate;
    handlers_[SYS_getcwd] = &Syscalls::getcwd;
    handlers_[SYS_unlink] = &Syscalls::unlink;
    handlers_[SYS_readlink] = &Syscalls::readlink;
    handlers_[SYS_openat] = &Syscalls::openat;
    handlers_[SYS_newfstatat] = &Syscalls::newfstatat;
}

std::shared_ptr<OpenFile> Syscalls::descriptor(const Task& task, std::uint64_t fd) const {
    return fd < task.descriptors->size() ? (*task.descriptors)[fd] : nullptr;
}

std::int64_t Syscalls::install(Task& task, std::shared_ptr<OpenFile> file, std::uint64_t least) {
    Descriptors& table = *task.descriptors;
    if (least >= kMaxDescriptors) return -EINVAL;
    if (least > table.size()) table.resize(least);
    const auto slot =
        std::find(table.begin() + static_cast<std::ptrdiff_t>(least), table.end(), nullptr);
    const auto fd = slot - table.begin();
    if (slot != table.end()) {
        *slot = std::move(file);
    } else if (table.size() < kMaxDescriptors) {
        table.push_back(std::move(file));
    } else {
        return -EMFILE;
    }
    return fd;
}

// ---- read and write

std::int64_t Syscalls::transfer_in(const Call& call, OpenFile& file, VirtAddr to, std::uint64_t n,
                                   std::uint64_t& offset) {
    if (!file.readable) return -EBADF;
    if (file.kind == OpenFile::Kind::Userfault) return -EAGAIN;  // no message ever comes
    if (file.kind != OpenFile::Kind::File) return 0;             // standard input is empty
    if (offset >= file.file->size()) return 0;
    n = std::min({n, kMaxTransfer, file.file->size() - offset});
    std::vector<std::uint8_t> buffer(n);
    vfs_.read(*file.file, offset, buffer.data(), n);
    if (!memory_.write(call.core, to, buffer.data(), n)) return -EFAULT;
    offset += n;
    return static_cast<std::int64_t>(n);
}

std::int64_t Syscalls::transfer_out(const Call& call, OpenFile& file, VirtAddr from,
                                    std::uint64_t n, std::uint64_t& offset) {
    if (!file.writable) return -EBADF;
    if (n == 0) return 0;
    n = std::min(n, kMaxTransfer);
    if (file.kind == OpenFile::Kind::File) {
        if (file.file->huge()) return -EINVAL;  // hugetlbfs has no write
        if (file.append) offset = file.file->size();
        if (static_cast<std::int64_t>(offset) < 0) return -EINVAL;
        if (offset >= kMaxFileBytes) return -EFBIG;
        n = std::min(n, kMaxFileBytes - offset);
    }
    std::vector<std::uint8_t> buffer(n);
    if (!memory_.read(call.core, from, buffer.data(), n)) return -EFAULT;
    if (file.kind == OpenFile::Kind::File) {
        if (file.append) offset = file.file->size();
        vfs_.write(*file.file, offset, buffer.data(), n);
        offset += n;
    } else {
        Rank& rank = ranks_[call.task.rank];
        std::string& text = file.kind == OpenFile::Kind::Error ? rank.errors : rank.output;
        text.append(buffer.begin(), buffer.end());
    }
    return static_cast<std::int64_t>(n);
}

SyscallResult Syscalls::read(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    return transfer_in(call, *file, call.address(1), call.args[2], file->offset);
}

SyscallResult Syscalls::write(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    return transfer_out(call, *file, call.address(1), call.args[2], file->offset);
}

SyscallResult Syscalls::pread(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    if (!file->file) return -ESPIPE;
    std::uint64_t offset = call.args[3];
    return transfer_in(call, *file, call.address(1), call.args[2], offset);
}

SyscallResult Syscalls::pwrite(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    if (!file->file) return -ESPIPE;
    std::uint64_t offset = call.args[3];
    return transfer_out(call, *file, call.address(1), call.args[2], offset);
}

std::int64_t Syscalls::vectored(const Call& call, bool out) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    if (call.args[2] > UIO_MAXIOV) return -EINVAL;
    std::int64_t total = 0;
    for (std::uint64_t i = 0; i < call.args[2]; ++i) {
        std::uint64_t vector[2];  // struct iovec: base, length
        if (!memory_.get(call.core, call.address(1) + i * sizeof(vector), vector)) return -EFAULT;
        if (vector[1] == 0) continue;
        const std::int64_t done =
            out ? transfer_out(call, *file, VirtAddr(vector[0]), vector[1], file->offset)
                : transfer_in(call, *file, VirtAddr(vector[0]), vector[1], file->offset);
        if (done < 0) return total > 0 ? total : done;
        total += done;
        if (static_cast<std::uint64_t>(done) < vector[1]) break;
    }
    return total;
}

SyscallResult Syscalls::readv(const Call& call) {
    return vectored(call, false);
}

SyscallResult Syscalls::writev(const Call& call) {
    return vectored(call, true);
}

// ---- Names and descriptors

std::int64_t Syscalls::open_path(const Call& call, VirtAddr path, std::uint64_t flags) {
    const auto name = memory_.read_string(call.core, path);
    if (!name) return -EFAULT;
    int error = 0;
    auto file = vfs_.open(*name, flags, error);
    machine_.charge_syscall(call.core, 0);  // O_TRUNC may have unmapped pages
    if (!file) return error;
    return install(call.task, std::move(file));
}

SyscallResult Syscalls::open(const Call& call) {
    return open_path(call, call.address(0), call.args[1]);
}

SyscallResult Syscalls::openat(const Call& call) {
    return open_path(call, call.address(1), call.args[2]);
}

SyscallResult Syscalls::close(const Call& call) {
    if (!descriptor(call.task, call.args[0])) return -EBADF;
    (*call.task.descriptors)[call.args[0]] = nullptr;
    return 0;
}

SyscallResult Syscalls::dup(const Call& call) {
    auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    return install(call.task, std::move(file));
}

SyscallResult Syscalls::dup2(const Call& call) {
    auto file = descriptor(call.task, call.args[0]);
    if (!file || call.args[1] >= kMaxDescriptors) return -EBADF;
    if (call.number == SYS_dup3 && call.args[0] == call.args[1]) return -EINVAL;
    Descriptors& table = *call.task.descriptors;
    if (call.args[1] >= table.size()) table.resize(call.args[1] + 1);
    table[call.args[1]] = std::move(file);
    return static_cast<std::int64_t>(call.args[1]);
}

std::int64_t Syscalls::put_stat(const Call& call, const OpenFile& file, VirtAddr result) {
    struct stat status {};
    if (file.file) {
        status.st_ino = file.file->id();
        status.st_mode = S_IFREG | 0600;
        status.st_size = static_cast<off_t>(file.file->size());
        status.st_blocks = status.st_size / 512;
    } else {
        status.st_mode = S_IFCHR | 0600;
    }
    status.st_nlink = 1;
    status.st_blksize = static_cast<blksize_t>(kPageSize);
    return memory_.put(call.core, result, status) ? 0 : -EFAULT;
}

std::int64_t Syscalls::stat_path(const Call& call, VirtAddr path, VirtAddr result) {
    const auto name = memory_.read_string(call.core, path);
    if (!name) return -EFAULT;
    int error = 0;
    OpenFile file;
    file.file = vfs_.find(*name, error);
    return file.file ? put_stat(call, file, result) : error;
}

SyscallResult Syscalls::stat(const Call& call) {
    return stat_path(call, call.address(0), call.address(1));
}

SyscallResult Syscalls::fstat(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    return file ? put_stat(call, *file, call.address(1)) : -EBADF;
}

SyscallResult Syscalls::newfstatat(const Call& call) {
    if (call.args[3] & AT_EMPTY_PATH) {
        const auto file = descriptor(call.task, call.args[0]);
        return file ? put_stat(call, *file, call.address(2)) : -EBADF;
    }
    return stat_path(call, call.address(1), call.address(2));
}

SyscallResult Syscalls::lseek(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    if (!file->file) return -ESPIPE;
    std::uint64_t base = 0;
    switch (call.args[2]) {
        case SEEK_SET:
            break;
        case SEEK_CUR:
            base = file->offset;
            break;
        case SEEK_END:
            base = file->file->size();
            break;
        default:
            return -EINVAL;
    }
    const auto target = static_cast<std::int64_t>(base + call.args[1]);
    if (target < 0) return -EINVAL;
    file->offset = static_cast<std::uint64_t>(target);
    return target;
}

SyscallResult Syscalls::ftruncate(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    if (!file->file || !file->writable || static_cast<std::int64_t>(call.args[1]) < 0) {
        return -EINVAL;
    }
    if (call.args[1] > kMaxFileBytes) return -EFBIG;
    const Errno error = machine_.kernel().truncate(*file->file, call.args[1]);
    machine_.charge_syscall(call.core, 0);
    return return_value(error);
}

SyscallResult Syscalls::unlink(const Call& call) {
    const auto name = memory_.read_string(call.core, call.address(0));
    return name ? vfs_.unlink(*name) : -EFAULT;
}

SyscallResult Syscalls::access(const Call& call) {
    const auto name = memory_.read_string(call.core, call.address(0));
    if (!name) return -EFAULT;
    int error = 0;
    return vfs_.find(*name, error) ? 0 : error;
}

SyscallResult Syscalls::ioctl(const Call& call) {
    const auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    return file->kind == OpenFile::Kind::Userfault ? userfault_ioctl(call, *file) : -ENOTTY;
}

SyscallResult Syscalls::fcntl(const Call& call) {
    auto file = descriptor(call.task, call.args[0]);
    if (!file) return -EBADF;
    switch (call.args[1]) {
        case F_DUPFD:
        case F_DUPFD_CLOEXEC:
            return install(call.task, std::move(file), call.args[2]);
        case F_GETFD:
        case F_SETFD:
            return 0;
        case F_GETFL:
            return file->readable ? (file->writable ? O_RDWR : O_RDONLY) : O_WRONLY;
        default:
            return -EINVAL;
    }
}

SyscallResult Syscalls::getcwd(const Call& call) {
    constexpr char kRoot[] = "/";
    if (call.args[1] < sizeof(kRoot)) return -ERANGE;
    if (!memory_.write(call.core, call.address(0), kRoot, sizeof(kRoot))) return -EFAULT;
    return sizeof(kRoot);
}

SyscallResult Syscalls::readlink(const Call&) {
    return -EINVAL;  // nothing here is a symbolic link
}

}  // namespace ptshare::engine
