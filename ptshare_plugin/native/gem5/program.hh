// A program's file on the host, and the segments that its ELF headers name.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/exec.h"

namespace ptshare::g5 {

// An open host file; ends the simulation with a message when it cannot be opened.
class HostFile {
  public:
    explicit HostFile(const std::string& path);
    ~HostFile();
    HostFile(const HostFile&) = delete;
    HostFile& operator=(const HostFile&) = delete;

    int fd() const { return fd_; }
    // Its device and inode.
    std::pair<std::uint64_t, std::uint64_t> identity() const;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
    int fd_;  // owned
};

// Where the file behind a host descriptor was opened.
std::string host_path(int fd);

// The PT_LOAD segments of a static x86-64 program; ends the simulation when it is none.
std::vector<Segment> read_segments(const HostFile& file);

}  // namespace ptshare::g5
