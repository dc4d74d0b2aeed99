// A process of somebody else's trace, on its way into a recording: instructions and accesses one by
// one, made into blocks; first only looked at, for what must be mapped.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "imports/touched.h"
#include "recordings/encoder.h"

namespace ptshare::imports {

using recordings::AccessKind;

enum class Flow : std::uint8_t { On, Call, Return };

// Beyond are the kernel's and addresses that no program has.
constexpr Word kProgramEnd = Word{1} << 47;

class Process {
  public:
    explicit Process(std::uint32_t number) : number_(number) {}

    std::uint32_t number() const { return number_; }
    const Touched& touched() const { return touched_; }

    // From now on it is written. `shared`: ranges that every process maps, of one memory object
    // each. `name`: of the stream that begins.
    void write(const std::string& name, Word born, const std::vector<Area>& shared);

    void instruction(Word address, unsigned bytes, Flow flow);
    // Of the last instruction; throws std::runtime_error if there is none.
    void access(AccessKind kind, Word address, unsigned bytes);
    // What comes is not of the block before.
    void end_block();
    void thread(Word id);
    void stamp(Word now);
    void call(unsigned number, const std::array<Word, 6>& arguments, Word result, Word called,
              Word returned);
    void signal(unsigned number, Word now);
    void finish(Word now);

    // What the streams' files are to have.
    recordings::Encoder& encoder() { return encoder_; }
    // All that came so far is in the encoder.
    void hand_over();

    std::uint64_t beyond = 0;  // accesses and instructions left out: at or beyond kProgramEnd

  private:
    struct Used {
        std::uint16_t instruction;
        std::uint16_t bytes;
        AccessKind kind;
        Word address;
    };

    Word later(Word stamp) { return last_stamp_ = std::max(last_stamp_, stamp); }
    void item(unsigned kind, Word small, const std::vector<Word>& words);
    void define();
    void map_areas(const std::vector<Area>& shared);

    std::uint32_t number_;
    Touched touched_;
    bool writes_ = false;

    // The block that goes on: its instructions, what they access, what makes it the same as
    // another.
    std::vector<recordings::Instruction> instructions_;
    std::vector<Used> used_;
    Flow flow_ = Flow::On;
    bool left_out_ = false;  // the last instruction, and so its accesses
    std::string key_;
    std::unordered_map<std::string, std::uint32_t> known_;  // number of each block's definition

    std::map<Word, unsigned> threads_;  // by the trace's id: number, from 1
    unsigned thread_ = 1;
    Word last_stamp_ = 0;
    std::vector<Word> words_;  // for the encoder
    recordings::Encoder encoder_;
};

}  // namespace ptshare::imports
