// What reads somebody else's traces: lanes, one for each file, in the order of their time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "imports/process.h"

namespace ptshare::imports {

constexpr Word kEver = ~Word{0};

class Importer {
  public:
    virtual ~Importer() = default;

    // Bytes of one record, of which a file has a whole number.
    virtual std::size_t record_bytes() const = 0;
    // Takes records of a lane until one says that it is later than `until`, which is left; returns
    // how many bytes were taken. None to take: the lane has ended. Throws std::runtime_error.
    virtual std::size_t feed(std::size_t lane, const char* bytes, std::size_t count,
                             Word until) = 0;
    // That time, after a feed which did not take all.
    Word stopped_at() const { return stopped_at_; }

    // All has been looked at: once more from the beginning, and it is written. `names`: of the
    // processes. Throws std::invalid_argument if nothing touches a range of `shared`.
    void write(const std::vector<std::string>& names, const std::vector<Area>& shared);
    void finish();

    std::deque<Process>& processes() { return processes_; }
    // What is left out, in words, and how often.
    std::map<std::string, std::uint64_t> left_out() const;

  protected:
    // The process of that number, made when it is first asked for.
    Process& process(std::uint32_t number);
    virtual void begin_again() = 0;
    // In ns from the earliest; the stamps that name streams come before.
    virtual Word last_stamp() const = 0;

    Word stopped_at_ = 0;
    std::map<std::string, std::uint64_t> left_out_;

  private:
    std::deque<Process> processes_;
    std::map<std::uint32_t, Process*> by_number_;
};

}  // namespace ptshare::imports
