// Reader of lackey's text.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "streams/trace.h"

namespace ptshare::engine {

class TextTrace final : public TraceReader {
  public:
    explicit TextTrace(std::shared_ptr<const TraceFile> file) : file_(std::move(file)) {}

    std::size_t read(TraceRecord* records, std::size_t room) override;
    bool binary() const override { return false; }
    std::string where() const override;
    bool cut_off() const override { return !process_.empty() && !last_is_comment_; }

    // Bytes that were read already; no more than fit.
    void begin_with(const char* bytes, std::size_t count) {
        std::copy(bytes, bytes + count, buffer_.begin());
        end_ = count;
        offset_ = count;
    }

  private:
    // The next line, without its end; valid until the next call. False at the end of the file.
    bool next_line(const char*& line, std::size_t& length);
    // Of a comment: valgrind names the process in it, and there must be one alone.
    void check_process(const char* line, std::size_t length);
    void parse(const char* line, std::size_t length, TraceRecord& record) const;
    [[noreturn]] void refuse(const char* line, std::size_t length, const char* what) const;

    std::shared_ptr<const TraceFile> file_;
    std::array<char, 16384> buffer_{};
    std::size_t at_ = 0;        // in the buffer: first byte not yet taken
    std::size_t end_ = 0;       // in the buffer: behind the last byte read
    std::uint64_t offset_ = 0;  // in the file: of the next byte to be read
    std::uint64_t line_ = 0;    // number of the last line, from 1
    std::string process_;       // number of the one that comments name; empty: none yet
    bool last_is_comment_ = false;
    bool in_comment_ = false;  // the buffer begins inside a line to be skipped
};

}  // namespace ptshare::engine
