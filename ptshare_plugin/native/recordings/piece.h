// A piece of a stream as it is kept: two texts of bytes, which are compressed apart, so that who
// wants the events alone need not read the blocks. Each piece stands for itself, but for the
// definitions of blocks, which are events of it or of pieces before it.
//
// events, for each one: kind, count, small, then its words. A stamp is the distance from the stamp
// before it; words from where a text begins are 8 bytes as they are; of the first kNear of other
// kinds than DEFINE, and DEFINE's first, the distance from the same word of the last such event.
// All but bytes are numbers (varint.h), distances folded.
//
// blocks: the bytes of `heads` and of `turns` as numbers, then heads, turns, addresses. An item is
// a number in heads:
//
//     bit 0    what comes is not what was expected: a number of turns says what it is, 0 for an
//              event, else 1 + the distance of the block's number from the expected one, folded
//     bit 1    it is left otherwise than expected: a number of turns says how
//     bit 2+i  its address i is not as expected: its distance is a number of addresses
//
// From address kMarked on all are written. What is expected: predictor.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "recordings/definition.h"

namespace ptshare::recordings {

constexpr std::size_t kMarked = 40;
constexpr std::size_t kNear = 8;
constexpr std::size_t kNone = ~std::size_t{0};
constexpr std::uint64_t kOtherNext = 1, kOtherLeft = 2;
constexpr unsigned kAddressShift = 2;

struct Piece {
    std::string events;
    std::string blocks;
};

// How words of events are written.
struct EventForm {
    std::size_t least;          // words that it has at least
    std::size_t stamp = kNone;  // which word is a stamp
    std::size_t text = kNone;   // where a text begins
    std::size_t near = kNear;   // how many are distances from the last one's
};

inline EventForm form_of(unsigned kind) {
    switch (kind) {
        case PTSHARE_DEFINE:
            return {3, kNone, kNone, 1};
        case PTSHARE_BORN:
            return {5, 2};
        case PTSHARE_NAME:
        case PTSHARE_TITLE:
            return {0, kNone, 0, 0};
        case PTSHARE_MAP:
            return {5, kNone, 5};
        case PTSHARE_FILE:
            return {3, kNone, 3};
        case PTSHARE_CALL:
            return {7, 6};
        case PTSHARE_RETURN:
        case PTSHARE_END:
            return {2, 1};
        case PTSHARE_SIGNAL:
        case PTSHARE_MARK:
        case PTSHARE_STAMP:
            return {1, 0};
        case PTSHARE_READS:
        case PTSHARE_WRITES:
        case PTSHARE_PRESENT:
            return {2};
        case PTSHARE_FAULTS:
            return {3};
        default:
            return {0};
    }
}

// The words that distances are counted from.
class EventPast {
  public:
    Word& near(unsigned kind, std::size_t i) { return near_[kind % PTSHARE_KINDS][i]; }
    Word& stamp() { return stamp_; }

  private:
    std::array<std::array<Word, kNear>, PTSHARE_KINDS> near_{};
    Word stamp_ = 0;
};

}  // namespace ptshare::recordings
