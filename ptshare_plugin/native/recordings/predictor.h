// What is expected next in a stream of blocks, learnt alike by who writes and who reads it: only
// what differs is written. A piece of a stream begins with nothing learnt.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "recordings/definition.h"

namespace ptshare::recordings {

class Predictor {
  public:
    void forget();

    // The block that runs next. One that has just been defined is about to run.
    std::uint32_t next() const { return next_; }
    void expect(std::uint32_t next) { next_ = next; }

    // Block `block` runs: said once, before what is asked and learnt about it.
    void enter(std::uint32_t block, const Definition& definition) {
        followers_[follows_] = block;
        if (block >= states_.size() || !states_[block].known) make(block, definition);
        state_ = &states_[block];
        places_at_ = places_.data() + state_->places;
    }
    // How it is left.
    std::uint16_t left() const { return state_->left; }
    // What its address `i` is expected to be, and what a difference is counted from.
    Word address(const Definition& definition, std::size_t i) const {
        if (i == definition.stack_address) return stack_ + definition.stack_distance;
        return places_at_[i].last + places_at_[i].stride;
    }
    Word origin(const Definition& definition, std::size_t i) const {
        if (i == definition.stack_address) return stack_ + definition.stack_distance;
        return places_at_[i].last;
    }
    void learn(std::size_t i, Word address) {
        Place& place = places_at_[i];
        const Word step = address - place.last;
        if (step == place.step) place.stride = step;  // two steps alike make a stride
        place.step = step;
        place.last = address;
    }
    // It was left so, with these addresses.
    void leave(const Definition& definition, std::uint16_t left, const Left& done,
               const Word* addresses);

  private:
    struct Place {
        Word last = 0, stride = 0, step = 0;
    };
    // `places`, `followers`: its first ones. Followers are the blocks that came after its end,
    // after each side exit, and after the return from a call at its end.
    struct State {
        std::uint32_t places = 0, followers = 0;
        std::uint16_t left = 0;
        bool known = false;
    };
    static constexpr std::size_t kCalls = 64;

    void make(std::uint32_t block, const Definition& definition);

    std::vector<State> states_;
    std::vector<Place> places_;
    std::vector<std::uint32_t> followers_{0};
    std::array<std::uint32_t, kCalls> returns_{};  // followers of the calls that are under way
    std::size_t depth_ = 0;
    Word stack_ = 0;
    std::uint32_t next_ = 0;
    std::uint32_t follows_ = 0;  // the follower that the next block is
    State* state_ = nullptr;
    Place* places_at_ = nullptr;
};

}  // namespace ptshare::recordings
