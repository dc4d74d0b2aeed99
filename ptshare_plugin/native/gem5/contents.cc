#include "gem5/contents.hh"

#include <sys/stat.h>
#include <unistd.h>

#include "base/logging.hh"

namespace ptshare::g5 {

Contents::~Contents() {
    for (const auto& [id, fd] : host_) ::close(fd);
}

void Contents::back(const File& file, int fd) {
    const int copy = ::dup(fd);
    fatal_if(copy < 0, "ptshare: no file descriptors left on the host");
    host_[file.id()] = copy;
}

std::uint64_t Contents::host_size(const File& file) const {
    struct stat status {};
    fatal_if(::fstat(host_.at(file.id()), &status) != 0, "ptshare: %s is gone", file.name());
    return static_cast<std::uint64_t>(status.st_size);
}

void Contents::zero(Pfn pfn) {
    memory_.memsetBlob(address_of(pfn).value, 0, kPageSize);
}

void Contents::copy(Pfn to, Pfn from) {
    std::uint8_t page[kPageSize];
    memory_.readBlob(address_of(from).value, page, sizeof(page));
    memory_.writeBlob(address_of(to).value, page, sizeof(page));
}

void Contents::read_file(const File& file, std::uint64_t index, Pfn pfn) {
    std::uint8_t page[kPageSize] = {};
    // Shared anonymous memory is a file without one on the host: zeros.
    if (const auto host = host_.find(file.id()); host != host_.end()) {
        const ssize_t got =
            ::pread(host->second, page, sizeof(page), static_cast<off_t>(index << kPageShift));
        fatal_if(got < 0, "ptshare: %s cannot be read", file.name());
    }
    memory_.writeBlob(address_of(pfn).value, page, sizeof(page));
}

void Contents::cut_file(const File&, std::uint64_t bytes, Pfn last) {
    const std::uint64_t offset = bytes & (kPageSize - 1);
    if (last == Pfn(0) || offset == 0) return;
    memory_.memsetBlob(address_of(last).value + offset, 0, kPageSize - offset);
}

void Contents::zero_table(Pfn pfn) {
    zero(pfn);
    TableStores::zero_table(pfn);
}

void Contents::write_entry(PhysAddr at, std::uint64_t bits) {
    walker_wrote(at, bits);
    TableStores::write_entry(at, bits);
}

void Contents::walker_wrote(PhysAddr at, std::uint64_t bits) {
    memory_.writeBlob(at.value, &bits, sizeof(bits));
}

}  // namespace ptshare::g5
