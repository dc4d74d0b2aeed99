// Traces of real programs: valgrind lackey's text, and a compact binary form (docs/trace.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/types.h"

namespace ptshare::engine {

// As lackey has them. Modify: a load and a store of one instruction, at one place.
enum class TraceKind : std::uint8_t { Fetch = 0, Load = 1, Store = 2, Modify = 3 };

struct TraceRecord {
    VirtAddr address;
    std::uint32_t size = 0;  // bytes, 1 to kMostBytes
    TraceKind kind = TraceKind::Fetch;

    static constexpr std::uint32_t kMostBytes = 4096;
};

// A file opened for reading, or standard input. Several readers may share one: each keeps its own
// place.
class TraceFile {
  public:
    // "-": standard input, which has one reader. Throws std::runtime_error: the file cannot be
    // opened, or is no regular file.
    explicit TraceFile(const std::string& path);
    ~TraceFile();
    TraceFile(const TraceFile&) = delete;
    TraceFile& operator=(const TraceFile&) = delete;

    const std::string& name() const { return name_; }
    // Bytes read at `offset`, 0 at the end. Throws std::runtime_error.
    std::size_t read(char* buffer, std::size_t room, std::uint64_t offset) const;

  private:
    std::string name_;
    int fd_ = -1;  // owned, but for standard input
    bool is_input_ = false;
};

// Records of a trace in order. All that it keeps of the file is one buffer.
class TraceReader {
  public:
    virtual ~TraceReader() = default;
    // The next records, at most `room`; 0 at the end. Throws std::runtime_error that names the file
    // and the line (text) or byte (binary) of what is no record.
    virtual std::size_t read(TraceRecord* records, std::size_t room) = 0;
    virtual bool binary() const = 0;
    // Place of the last record, for messages.
    virtual std::string where() const = 0;
    // At the end: whether what valgrind says there is missing, though it said something before.
    virtual bool cut_off() const { return false; }
};

// A reader at the start of the trace: of the binary form when the file begins with its magic.
// Throws as TraceReader::read.
std::unique_ptr<TraceReader> read_trace(const std::shared_ptr<const TraceFile>& file);

// Writes the binary form to a new file.
class TraceWriter {
  public:
    explicit TraceWriter(const std::string& path);
    // What is not finished is left for the caller to remove.
    ~TraceWriter();
    TraceWriter(const TraceWriter&) = delete;
    TraceWriter& operator=(const TraceWriter&) = delete;

    void write(const TraceRecord& record);
    // Writes the end. Nothing follows.
    void finish();
    std::uint64_t records() const { return records_; }

  private:
    void put(unsigned char byte) { buffer_.push_back(static_cast<char>(byte)); }
    void put_number(std::uint64_t value);
    void flush();

    std::string path_;
    int fd_ = -1;  // owned
    std::string buffer_;
    std::uint64_t next_code_ = 0;  // where the last fetch ended, and the last access to data
    std::uint64_t next_data_ = 0;
    std::uint64_t records_ = 0;
};

// Writes a text trace in the binary form.
class TraceConversion {
  public:
    // Throws std::runtime_error, also when the input is binary already.
    TraceConversion(const std::string& from, const std::string& to);
    // Converts at most `records` more; true when all is written.
    bool step(std::uint64_t records);
    std::uint64_t records() const { return writer_.records(); }
    bool cut_off() const { return reader_->cut_off(); }

  private:
    std::unique_ptr<TraceReader> reader_;
    TraceWriter writer_;
};

// [first, second)
using AddressRange = std::pair<VirtAddr, VirtAddr>;

// What a trace touches, found by reading it once.
class TraceSurvey {
  public:
    // `share`: the range that processes are to share; empty: none. Throws std::runtime_error, also
    // from step(): an instruction is fetched in `share`.
    TraceSurvey(const std::string& path, AddressRange share);
    // Reads at most `records` more; true at the end.
    bool step(std::uint64_t records);

    std::uint64_t records() const { return records_; }
    std::uint64_t shared() const { return shared_; }  // accesses to the shared range
    bool cut_off() const { return reader_->cut_off(); }
    // What is to be mapped beside the shared range: whole pages, in order. Holes of less than 2 MiB
    // are mapped too (nothing touches them), so that there are few areas.
    std::vector<AddressRange> ranges() const;

  private:
    void touch(std::uint64_t page);

    std::unique_ptr<TraceReader> reader_;
    AddressRange share_;
    std::uint64_t records_ = 0;
    std::uint64_t shared_ = 0;
    std::uint64_t last_page_[2] = {~0ULL, ~0ULL};  // of code and of data
    // Virtual pages touched outside the shared range as disjoint runs that are not adjacent, in
    // order: first page -> the one behind the last.
    std::map<std::uint64_t, std::uint64_t> runs_;
};

}  // namespace ptshare::engine
