// Files as simulated processes see them: all in simulated memory, nothing on the host is written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "programs/memory.h"

namespace ptshare::engine {

// An open file description; descriptors share it after dup and fork.
struct OpenFile {
    enum class Kind { File, Input, Output, Error, Userfault };
    Kind kind = Kind::File;
    std::shared_ptr<File> file;  // null unless Kind::File
    std::uint64_t offset = 0;
    bool readable = true;
    bool writable = true;
    bool append = false;
    bool ready = false;  // Userfault: UFFDIO_API has been called
    MmId mm;             // Userfault: whose memory it registers, its maker's
};

using Descriptors = std::vector<std::shared_ptr<OpenFile>>;  // index: descriptor; null: closed

// A path names a file made here; where there is none, a host file is copied in on first use, so
// that programs can read their inputs while what they write stays in the simulation.
class Vfs {
  public:
    Vfs(Kernel& kernel, HostMemory& memory) : kernel_(kernel), memory_(memory) {}

    // Linux's open(2); returns a description, or null and the negative errno in `error`.
    std::shared_ptr<OpenFile> open(const std::string& path, std::uint64_t flags, int& error);
    // The file at `path`, brought in if need be; null and `error` as above.
    std::shared_ptr<File> find(const std::string& path, int& error);
    int unlink(const std::string& path);
    // Makes a file with given contents, under `path`.
    std::shared_ptr<File> add(const std::string& path, std::vector<std::uint8_t> bytes);

    // Copies between a file and `buffer`, within the file's size; returns bytes copied.
    std::uint64_t read(File& file, std::uint64_t offset, std::uint8_t* buffer, std::uint64_t n);
    // Grows the file if need be.
    void write(File& file, std::uint64_t offset, const std::uint8_t* buffer, std::uint64_t n);

  private:
    Kernel& kernel_;
    HostMemory& memory_;
    std::map<std::string, std::shared_ptr<File>> files_;  // by path; null: unlinked
};

}  // namespace ptshare::engine
