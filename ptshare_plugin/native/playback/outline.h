// What a stream's events say before it is replayed: which process it is, when it waits for others,
// which processes it forks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "recordings/definition.h"

namespace ptshare::engine {

using recordings::Word;

class Outline {
  public:
    // The events of the next piece. Throws std::runtime_error.
    void add(const std::string& events);

    struct Fork {
        std::uint32_t child = 0;  // its number
        Word called = 0;          // stamp
        Word returned = 0;
    };

    std::uint32_t process = 0;
    Word born = 0;                // the stamp that names the stream
    Word parent_born = 0;         // its parent's; 0: it was started by exec, or by the recorder
    std::size_t definitions = 0;  // that are the parent's
    std::vector<Word> stamps;     // of all events that have one, in order
    std::vector<Fork> forks;      // in order of their calls
    bool ended = false;           // its end was told
    bool executes = false;        // the last thing that it does is an exec

  private:
    void called(unsigned number, unsigned thread, Word stamp);
    void returned(unsigned number, unsigned thread, Word result, Word stamp);

    std::map<unsigned, std::size_t> forking_;  // by thread: index of forks
};

// Whether the system call may create a process.
bool is_fork(unsigned number);

// Of PTSHARE_CALL and PTSHARE_RETURN.
constexpr unsigned call_number(Word small) {
    return static_cast<unsigned>(small & 0xffff);
}
constexpr unsigned call_thread(Word small) {
    return static_cast<unsigned>(small >> 16);
}

}  // namespace ptshare::engine
