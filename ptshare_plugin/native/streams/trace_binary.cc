#include "streams/trace_binary.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "streams/trace_place.h"
#include "streams/trace_text.h"

namespace ptshare::engine {

using namespace trace_format;

namespace {

constexpr std::size_t kWriteBytes = 1 << 16;
constexpr unsigned kMostShift = 63;

std::uint64_t zigzag(std::uint64_t distance) {
    return (distance << 1) ^ (0 - (distance >> 63));
}

std::uint64_t unzigzag(std::uint64_t value) {
    return (value >> 1) ^ (0 - (value & 1));
}

}  // namespace

std::unique_ptr<TraceReader> read_trace(const std::shared_ptr<const TraceFile>& file) {
    char head[kHeaderBytes];
    std::size_t count = 0;
    while (count < sizeof head) {
        const std::size_t got = file->read(head + count, sizeof head - count, count);
        if (got == 0) break;
        count += got;
    }
    if (count >= sizeof kMagic && std::memcmp(head, kMagic, sizeof kMagic) == 0) {
        return std::make_unique<BinaryTrace>(file, head, count);
    }
    auto text = std::make_unique<TextTrace>(file);
    text->begin_with(head, count);
    return text;
}

// ---- Reader

BinaryTrace::BinaryTrace(std::shared_ptr<const TraceFile> file, const char* head, std::size_t count)
    : file_(std::move(file)), offset_(count) {
    if (count < kHeaderBytes) refuse("the trace ends inside its header");
    const unsigned version = static_cast<unsigned char>(head[sizeof kMagic]);
    if (version != kVersion) {
        refuse("binary trace of version " + std::to_string(version) + "; this reads version " +
               std::to_string(kVersion));
    }
}

std::string BinaryTrace::where() const {
    return file_->name() + ": byte " + std::to_string(offset_ - (end_ - at_));
}

void BinaryTrace::refuse(const std::string& what) const {
    throw std::runtime_error(where() + ": " + what);
}

unsigned char BinaryTrace::more() {
    end_ = file_->read(buffer_.data(), buffer_.size(), offset_);
    at_ = 0;
    offset_ += end_;
    if (end_ == 0) refuse("the trace ends without its end record: it was cut off");
    return static_cast<unsigned char>(buffer_[at_++]);
}

std::uint64_t BinaryTrace::take_number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        const unsigned char byte = take();
        const std::uint64_t bits = byte & 0x7f;
        if (shift > kMostShift || (shift == kMostShift && bits > 1)) {
            refuse("a number of more than 64 bits");
        }
        value |= bits << shift;
        if ((byte & 0x80) == 0) return value;
    }
}

std::size_t BinaryTrace::read(TraceRecord* records, std::size_t room) {
    std::size_t count = 0;
    while (count < room && !ended_) {
        const unsigned char tag = take();
        if (tag == kEnd) {
            end_of_trace(records_ + count);
            break;
        }
        TraceRecord& record = records[count];
        record.kind = static_cast<TraceKind>(tag & kKindMask);
        std::uint64_t size = (tag & static_cast<unsigned char>(~kNext)) >> kSizeShift;
        if (size == 0) size = take_number();
        std::uint64_t& next = record.kind == TraceKind::Fetch ? next_code_ : next_data_;
        const std::uint64_t address = next + ((tag & kNext) != 0 ? 0 : unzigzag(take_number()));
        check_place(address, size, [this] { return where(); });
        record.address = VirtAddr(address);
        record.size = static_cast<std::uint32_t>(size);
        next = address + size;
        ++count;
    }
    records_ += count;
    return count;
}

void BinaryTrace::end_of_trace(std::uint64_t records) {
    ended_ = true;
    const std::uint64_t counted = take_number();
    if (counted != records) {
        refuse("the end record counts " + std::to_string(counted) + " records, but there are " +
               std::to_string(records));
    }
    char behind;
    if (at_ != end_ || file_->read(&behind, 1, offset_) != 0) refuse("more follows the end record");
}

// ---- Writer

TraceWriter::TraceWriter(const std::string& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) throw std::runtime_error(path_ + ": " + std::strerror(errno));
    buffer_.assign(kMagic, sizeof kMagic);
    put(kVersion);
}

TraceWriter::~TraceWriter() {
    if (fd_ >= 0) ::close(fd_);
}

void TraceWriter::put_number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) put(static_cast<unsigned char>(0x80 | (value & 0x7f)));
    put(static_cast<unsigned char>(value));
}

void TraceWriter::write(const TraceRecord& record) {
    std::uint64_t& next = record.kind == TraceKind::Fetch ? next_code_ : next_data_;
    const std::uint64_t distance = record.address.value - next;
    const bool is_short = record.size <= kMostShortSize;
    unsigned tag = static_cast<unsigned>(record.kind);
    if (is_short) tag |= record.size << kSizeShift;
    // Of a long fetch in sequence the tag alone would be the end.
    const bool follows = distance == 0 && !(tag == 0);
    put(static_cast<unsigned char>(follows ? tag | kNext : tag));
    if (!is_short) put_number(record.size);
    if (!follows) put_number(zigzag(distance));
    next = record.address.value + record.size;
    ++records_;
    if (buffer_.size() >= kWriteBytes) flush();
}

void TraceWriter::finish() {
    put(kEnd);
    put_number(records_);
    flush();
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) throw std::runtime_error(path_ + ": " + std::strerror(errno));
}

void TraceWriter::flush() {
    for (std::size_t done = 0; done < buffer_.size();) {
        const ssize_t wrote = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
        if (wrote >= 0) {
            done += static_cast<std::size_t>(wrote);
        } else if (errno != EINTR) {
            throw std::runtime_error(path_ + ": " + std::strerror(errno));
        }
    }
    buffer_.clear();
}

}  // namespace ptshare::engine
