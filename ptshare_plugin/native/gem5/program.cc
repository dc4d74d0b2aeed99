#include "gem5/program.hh"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "base/logging.hh"

namespace ptshare::g5 {

HostFile::HostFile(const std::string& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY)) {
    fatal_if(fd_ < 0, "ptshare: %s cannot be opened", path);
}

HostFile::~HostFile() {
    ::close(fd_);
}

std::pair<std::uint64_t, std::uint64_t> HostFile::identity() const {
    struct stat status {};
    fatal_if(::fstat(fd_, &status) != 0, "ptshare: %s cannot be read", path_);
    return {status.st_dev, status.st_ino};
}

std::string host_path(int fd) {
    char path[PATH_MAX];
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t length = ::readlink(link.c_str(), path, sizeof(path));
    fatal_if(length < 0, "ptshare: %s cannot be read", link);
    return {path, static_cast<std::size_t>(length)};
}

std::vector<Segment> read_segments(const HostFile& file) {
    const auto read = [&](void* to, std::size_t n, std::uint64_t at) {
        fatal_if(::pread(file.fd(), to, n, static_cast<off_t>(at)) != static_cast<ssize_t>(n),
                 "ptshare: %s: truncated", file.path());
    };
    Elf64_Ehdr header;
    read(&header, sizeof(header), 0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
        header.e_type != ET_EXEC) {
        fatal("ptshare: %s is no static x86-64 program: link it with gcc -static -no-pie",
              file.path());
    }
    std::vector<Segment> segments;
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr entry;
        read(&entry, sizeof(entry), header.e_phoff + i * sizeof(entry));
        if (entry.p_type == PT_INTERP) {
            fatal("ptshare: %s is linked dynamically: link it with gcc -static", file.path());
        }
        if (entry.p_type != PT_LOAD || entry.p_memsz == 0) continue;
        Segment segment;
        segment.address = VirtAddr(entry.p_vaddr);
        segment.offset = entry.p_offset;
        segment.file_bytes = entry.p_filesz;
        segment.memory_bytes = entry.p_memsz;
        segment.prot = ((entry.p_flags & PF_R) ? kProtRead : 0) |
                       ((entry.p_flags & PF_W) ? kProtWrite : 0) |
                       ((entry.p_flags & PF_X) ? kProtExec : 0);
        segments.push_back(segment);
    }
    return segments;
}

}  // namespace ptshare::g5
