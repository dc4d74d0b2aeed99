// Reader of the binary form (docs/trace.md).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "streams/trace.h"

namespace ptshare::engine {

// The layout, shared with the writer. A record is a tag, then the size if the tag has none, then
// the distance from where the last record of the same sort (code, data) ended, unless it is 0:
//
//     7      6..2                1..0
//     next   size 1..31, or 0    TraceKind
//
// Numbers are LEB128; distances are signed, with the sign in bit 0 (zigzag).
namespace trace_format {
constexpr char kMagic[8] = {'p', 't', 's', 't', 'r', 'a', 'c', 'e'};
constexpr unsigned char kVersion = 1;
constexpr std::size_t kHeaderBytes = sizeof kMagic + 1;
constexpr unsigned char kNext = 0x80;  // it begins where the last one ended
constexpr unsigned kSizeShift = 2;
constexpr std::uint32_t kMostShortSize = 31;
constexpr unsigned char kKindMask = 3;
// The end, which no record can be (a fetch of size 0 given behind); the number of records follows.
constexpr unsigned char kEnd = kNext;
}  // namespace trace_format

class BinaryTrace final : public TraceReader {
  public:
    // `head`: the bytes read so far, which begin with the magic. Throws std::runtime_error.
    BinaryTrace(std::shared_ptr<const TraceFile> file, const char* head, std::size_t count);

    std::size_t read(TraceRecord* records, std::size_t room) override;
    bool binary() const override { return true; }
    std::string where() const override;

  private:
    unsigned char take() {
        return at_ != end_ ? static_cast<unsigned char>(buffer_[at_++]) : more();
    }
    unsigned char more();  // fills the buffer; throws at the end of the file
    std::uint64_t take_number();
    void end_of_trace(std::uint64_t records);
    [[noreturn]] void refuse(const std::string& what) const;

    std::shared_ptr<const TraceFile> file_;
    std::array<char, 16384> buffer_{};
    std::size_t at_ = 0;
    std::size_t end_ = 0;
    std::uint64_t offset_ = 0;     // in the file: of the next byte to be read
    std::uint64_t next_code_ = 0;  // as TraceWriter's
    std::uint64_t next_data_ = 0;
    std::uint64_t records_ = 0;
    bool ended_ = false;
};

}  // namespace ptshare::engine
