// Files of traces, and what is read of them before they are replayed.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "core/range.h"
#include "streams/trace.h"

namespace ptshare::engine {

namespace {

constexpr std::uint64_t kHolePages = 512;  // what one PTE table maps

[[noreturn]] void fail(const std::string& name, const std::string& what) {
    throw std::runtime_error(name + ": " + what);
}

}  // namespace

TraceFile::TraceFile(const std::string& path) : name_(path), is_input_(path == "-") {
    if (is_input_) {
        name_ = "standard input";
        fd_ = STDIN_FILENO;
        return;
    }
    struct stat status {};
    // Before it is opened: opening a FIFO waits for its writer.
    if (::stat(path.c_str(), &status) != 0) fail(name_, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail(name_, "not a regular file");
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) fail(name_, std::strerror(errno));
}

TraceFile::~TraceFile() {
    if (!is_input_) ::close(fd_);
}

std::size_t TraceFile::read(char* buffer, std::size_t room, std::uint64_t offset) const {
    for (;;) {
        const ssize_t got = is_input_ ? ::read(fd_, buffer, room)
                                      : ::pread(fd_, buffer, room, static_cast<off_t>(offset));
        if (got >= 0) return static_cast<std::size_t>(got);
        if (errno != EINTR) fail(name_, std::strerror(errno));
    }
}

// ---- Conversion

TraceConversion::TraceConversion(const std::string& from, const std::string& to)
    : reader_(read_trace(std::make_shared<const TraceFile>(from))), writer_(to) {
    if (reader_->binary()) fail(from, "is in the binary form already");
}

bool TraceConversion::step(std::uint64_t records) {
    const std::uint64_t target = writer_.records() + records;
    TraceRecord batch[256];
    while (writer_.records() < target) {
        const std::size_t count = reader_->read(batch, std::size(batch));
        if (count == 0) {
            writer_.finish();
            return true;
        }
        for (std::size_t i = 0; i < count; ++i) writer_.write(batch[i]);
    }
    return false;
}

// ---- Survey

TraceSurvey::TraceSurvey(const std::string& path, AddressRange share)
    : reader_(read_trace(std::make_shared<const TraceFile>(path))), share_(share) {
}

bool TraceSurvey::step(std::uint64_t records) {
    const std::uint64_t target = records_ + records;
    for (; records_ < target; ++records_) {
        TraceRecord record;
        if (reader_->read(&record, 1) == 0) return true;
        const VirtAddr last = record.address + (record.size - 1);
        const bool shares = last >= share_.first && record.address < share_.second;
        if (shares) {
            ++shared_;
            if (record.kind == TraceKind::Fetch) {
                fail(reader_->where(),
                     "an instruction in the range to share, which is mapped for reading and "
                     "writing alone");
            }
        }
        std::uint64_t& seen = last_page_[record.kind == TraceKind::Fetch ? 0 : 1];
        const std::uint64_t end = vpn_of(last).value;
        for (std::uint64_t page = vpn_of(record.address).value; page <= end; ++page) {
            if (page == seen) continue;
            seen = page;
            const VirtAddr at(page << kPageShift);
            if (at < share_.first || at >= share_.second) touch(page);
        }
    }
    return false;
}

void TraceSurvey::touch(std::uint64_t page) {
    auto next = runs_.upper_bound(page);
    std::uint64_t end = page + 1;
    auto before = next == runs_.begin() ? runs_.end() : std::prev(next);
    if (before != runs_.end() && page < before->second) return;
    if (next != runs_.end() && next->first == end) {
        end = next->second;
        runs_.erase(next);
    }
    if (before != runs_.end() && before->second == page) {
        before->second = end;
    } else {
        runs_.emplace(page, end);
    }
}

std::vector<AddressRange> TraceSurvey::ranges() const {
    std::vector<AddressRange> found;
    for (const auto& [first, end] : runs_) {
        const VirtAddr from(first << kPageShift);
        const VirtAddr to(end << kPageShift);
        // Not across the shared range: what is mapped later would be in its place.
        const bool across =
            !found.empty() && share_.first >= found.back().second && share_.first < from;
        if (!found.empty() && !across && from - found.back().second < kHolePages * kPageSize) {
            found.back().second = to;
        } else {
            found.emplace_back(from, to);
        }
    }
    return found;
}

}  // namespace ptshare::engine
