// Lackey's text: `valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM`.
#include "streams/trace_text.h"

#include <cstring>
#include <optional>
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

constexpr std::size_t kMarkLength = 2;  // of "==", "--" and "**"
// Of "I  04010173,3" and " L 1ffeffe7e0,8" the first characters.
constexpr std::size_t kKindLength = 3;

std::optional<TraceKind> kind_of(const char* line, std::size_t length) {
    if (begins(line, length, "I  ")) return TraceKind::Fetch;
    if (begins(line, length, " L ")) return TraceKind::Load;
    if (begins(line, length, " S ")) return TraceKind::Store;
    if (begins(line, length, " M ")) return TraceKind::Modify;
    return std::nullopt;
}

// The rest: address in hexadecimal, size in decimal. False when it is none of these.
bool read_place(const char* text, std::size_t length, std::uint64_t& address, std::uint64_t& size) {
    constexpr std::size_t kMostDigits = 16;
    constexpr std::uint64_t kFarTooMuch = 100'000;
    std::size_t i = 0;
    for (address = 0; i < length && digit(text[i]) >= 0; ++i) {
        address = (address << 4) | static_cast<std::uint64_t>(digit(text[i]));
    }
    if (i == 0 || i > kMostDigits || i == length || text[i] != ',') return false;
    const std::size_t first = ++i;
    for (size = 0; i < length && text[i] >= '0' && text[i] <= '9' && size < kFarTooMuch; ++i) {
        size = size * 10 + static_cast<std::uint64_t>(text[i] - '0');
    }
    return i > first && i == length;
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
        last_is_comment_ = is_comment(line, length);
        if (last_is_comment_) {
            check_process(line, length);
            continue;
        }
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

void TextTrace::check_process(const char* line, std::size_t length) {
    std::size_t end = kMarkLength;
    while (end < length && line[end] >= '0' && line[end] <= '9') ++end;
    // Not all comments name one.
    if (end == kMarkLength || end == length || line[end] != line[0]) return;
    const std::string process(line + kMarkLength, end - kMarkLength);
    if (process_.empty()) process_ = process;
    if (process_ == process) return;
    throw std::runtime_error(where() + ": a second process, " + process + ", after " + process_ +
                             ": a trace is one process's; trace each by itself (without "
                             "--trace-children=yes, or with --log-file=FILE.%p)");
}

void TextTrace::parse(const char* line, std::size_t length, TraceRecord& record) const {
    const auto kind = kind_of(line, length);
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    if (!kind || !read_place(line + kKindLength, length - kKindLength, address, size)) {
        refuse(line, length, "no line of lackey's");
    }
    check_place(address, size, [this] { return where(); });
    record = {VirtAddr(address), static_cast<std::uint32_t>(size), *kind};
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
