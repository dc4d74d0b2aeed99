#include "programs/vfs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

namespace ptshare::engine {

std::shared_ptr<File> Vfs::add(const std::string& path, std::vector<std::uint8_t> bytes) {
    auto file = kernel_.create_file(path);
    file->resize(bytes.size());
    if (!bytes.empty()) memory_.set_initial(*file, std::move(bytes));
    files_[path] = file;
    return file;
}

std::shared_ptr<File> Vfs::find(const std::string& path, int& error) {
    if (const auto it = files_.find(path); it != files_.end()) {
        if (!it->second) error = -ENOENT;
        return it->second;
    }
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        error = -errno;
        return nullptr;
    }
    if (!S_ISREG(status.st_mode)) {
        error = S_ISDIR(status.st_mode) ? -EISDIR : -EACCES;
        return nullptr;
    }
    std::ifstream stream(path, std::ios::binary);
    if (!stream) {
        error = -EACCES;
        return nullptr;
    }
    return add(path, {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()});
}

std::shared_ptr<OpenFile> Vfs::open(const std::string& path, std::uint64_t flags, int& error) {
    error = 0;
    std::shared_ptr<File> file = find(path, error);
    if (!file) {
        if (error != -ENOENT || !(flags & O_CREAT)) return nullptr;
        file = add(path, {});
    } else if ((flags & O_CREAT) && (flags & O_EXCL)) {
        error = -EEXIST;
        return nullptr;
    }
    auto description = std::make_shared<OpenFile>();
    const std::uint64_t mode = flags & O_ACCMODE;
    description->readable = mode != O_WRONLY;
    description->writable = mode != O_RDONLY;
    description->append = (flags & O_APPEND) != 0;
    if ((flags & O_TRUNC) && description->writable) kernel_.truncate(*file, 0);
    description->file = std::move(file);
    return description;
}

int Vfs::unlink(const std::string& path) {
    int error = 0;
    if (!find(path, error)) return error;
    files_[path] = nullptr;  // stays gone, whatever the host has there
    return 0;
}

std::uint64_t Vfs::read(File& file, std::uint64_t offset, std::uint8_t* buffer, std::uint64_t n) {
    if (offset >= file.size()) return 0;
    n = std::min(n, file.size() - offset);
    for (std::uint64_t done = 0; done < n;) {
        const std::uint64_t at = offset + done;
        const std::uint64_t in_page = at & (kPageSize - 1);
        const std::uint64_t part = std::min(n - done, kPageSize - in_page);
        std::memcpy(buffer + done, memory_.frame(file.page(at >> kPageShift)) + in_page, part);
        done += part;
    }
    return n;
}

void Vfs::write(File& file, std::uint64_t offset, const std::uint8_t* buffer, std::uint64_t n) {
    if (offset + n > file.size()) kernel_.truncate(file, offset + n);
    for (std::uint64_t done = 0; done < n;) {
        const std::uint64_t at = offset + done;
        const std::uint64_t in_page = at & (kPageSize - 1);
        const std::uint64_t part = std::min(n - done, kPageSize - in_page);
        const Pfn pfn = file.page(at >> kPageShift);
        memory_.written(pfn);
        std::memcpy(memory_.frame(pfn) + in_page, buffer + done, part);
        done += part;
    }
}

}  // namespace ptshare::engine
