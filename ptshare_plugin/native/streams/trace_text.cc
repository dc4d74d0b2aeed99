// Lackey's text: `valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM`.
#include "streams/trace_text.h"

#include <cstring>
#include <stdexcept>

#include "core/range.h"
#include "streams/trace_place.h"

namespace ptshare::engine {

namespace {

constexpr std::size_t kShown = 40;  // characters of a wrong line in its message

int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool begins(const char* line, std::size_t length, const char* with) {
    const std::size_t n = std::strlen(with);
    return length >= n && std::memcmp(line, with, n) == 0;
}

// Valgrind's own lines: ==pid== what a tool says, --pid-- and **pid** what valgrind says.
bool is_comment(const char* line, std::size_t length) {
    return begins(line, length, "==") || begins(line, length, "--") || begins(line, length, "**");
}

}  // namespace

std::string TextTrace::where() const {
    return file_->name() + ":" + std::to_string(line_);
}

std::size_t TextTrace::read(TraceRecord* records, std::size_t room) {
    std::size_t count = 0;
    const char* line = nullptr;
    std::size_t length = 0;
    while (count < room && next_line(line, length)) {
        if (is_comment(line, length)) continue;
        parse(line, length, records[count++]);
    }
    return count;
}

bool TextTrace::next_line(const char*& line, std::size_t& length) {
    for (;;) {
        const char* start = buffer_.data() + at_;
        const void* found = std::memchr(start, '\n', end_ - at_);
        if (found) {
            ++line_;
            line = start;
            length = static_cast<std::size_t>(static_cast<const char*>(found) - start);
            at_ += length + 1;
            // The rest of a comment that did not fit into the buffer.
            if (std::exchange(in_comment_, false)) continue;
            return true;
        }
        if (at_ == 0 && end_ == buffer_.size()) {
            // Valgrind's line with the command can be long.
            if (!in_comment_ && !is_comment(start, end_)) {
                ++line_;
                refuse(start, end_, "no line of lackey's");
            }
            in_comment_ = true;
            at_ = end_;
        }
        std::memmove(buffer_.data(), buffer_.data() + at_, end_ - at_);
        end_ -= at_;
        at_ = 0;
        const std::size_t got = file_->read(buffer_.data() + end_, buffer_.size() - end_, offset_);
        offset_ += got;
        end_ += got;
        if (got != 0) continue;
        if (end_ == 0) return false;
        ++line_;
        if (!in_comment_ && !is_comment(buffer_.data(), end_)) {
            refuse(buffer_.data(), end_, "the trace ends inside a line");
        }
        end_ = 0;
        return false;
    }
}

void TextTrace::parse(const char* line, std::size_t length, TraceRecord& record) const {
    // "I  04010173,3" and " L 1ffeffe7e0,8".
    if (begins(line, length, "I  ")) {
        record.kind = TraceKind::Fetch;
    } else if (begins(line, length, " L ")) {
        record.kind = TraceKind::Load;
    } else if (begins(line, length, " S ")) {
        record.kind = TraceKind::Store;
    } else if (begins(line, length, " M ")) {
        record.kind = TraceKind::Modify;
    } else {
        refuse(line, length, "no line of lackey's");
    }
    std::uint64_t address = 0;
    std::size_t i = 3;
    const std::size_t first = i;
    for (; i < length && digit(line[i]) >= 0; ++i) {
        address = (address << 4) | static_cast<std::uint64_t>(digit(line[i]));
    }
    const bool has_address = i > first && i - first <= 16;
    std::uint64_t size = 0;
    bool has_size = false;
    if (has_address && i < length && line[i] == ',') {
        for (++i; i < length && line[i] >= '0' && line[i] <= '9' && size < 100'000; ++i) {
            size = size * 10 + static_cast<std::uint64_t>(line[i] - '0');
            has_size = true;
        }
    }
    if (!has_size || i != length) refuse(line, length, "no line of lackey's");
    check_place(address, size, [this] { return where(); });
    record.address = VirtAddr(address);
    record.size = static_cast<std::uint32_t>(size);
}

void TextTrace::refuse(const char* line, std::size_t length, const char* what) const {
    std::string shown;
    for (std::size_t i = 0; i < length && i < kShown; ++i) {
        shown += line[i] >= ' ' && line[i] <= '~' ? line[i] : '?';
    }
    if (length > kShown) shown += "...";
    throw std::runtime_error(where() + ": " + what + ": '" + shown +
                             "'; there are 'I  addr,size', ' L addr,size', ' S addr,size', ' M "
                             "addr,size' and ==pid== lines (valgrind --tool=lackey "
                             "--trace-mem=yes --log-file=FILE)");
}

}  // namespace ptshare::engine
