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
    // A block that has run, all that one more run needs side by side. `places`, `followers`: its
    // first ones. Followers are the blocks that came after the return from a call at its end, after
    // its end, and after each side exit.
    struct alignas(64) State {
        const Definition* definition = nullptr;
        Left done;  // for `left`
        Word stack_distance = 0;
        std::uint32_t places = 0, followers = 0;
        std::uint16_t left = 0;  // how it was left the last time
        std::uint16_t stack_address = PTSHARE_BASE_NONE;
        std::uint16_t addresses = 0;
        bool calls = false, returns = false, guarded = false;
    };

    void forget();

    // The block that runs next. One that has just been defined is about to run.
    std::uint32_t next() const { return next_; }
    void expect(std::uint32_t next) { next_ = next; }

    // What is known of a block; throws std::runtime_error if it is not defined.
    State& state(std::uint32_t block, const Definitions& definitions) {
        if (block >= states_.size() || states_[block].definition == nullptr) {
            make(block, definitions.at(block));
        }
        return states_[block];
    }
    // It runs now, and is left so.
    void enter(std::uint32_t block, State& state, std::uint16_t left) {
        followers_[follows_] = block;
        places_at_ = places_.data() + state.places;
        if (left != state.left) leave_otherwise(state, left);
    }
    // What its address `i` is expected to be, and what a difference is counted from.
    Word address(const State& state, std::size_t i) const {
        if (i == state.stack_address) return stack_ + state.stack_distance;
        return places_at_[i].last + places_at_[i].stride;
    }
    Word origin(const State& state, std::size_t i) const {
        if (i == state.stack_address) return stack_ + state.stack_distance;
        return places_at_[i].last;
    }
    // It is `address`: as expected; or not.
    void hit(const State& state, std::size_t i, Word address) {
        if (i != state.stack_address) places_at_[i].last = address;
    }
    void miss(const State& state, std::size_t i, Word address) {
        if (i == state.stack_address) return;
        Place& place = places_at_[i];
        const Word step = address - place.last;
        if (step == place.step) place.stride = step;  // two steps alike make a stride
        place.step = step;
        place.last = address;
    }
    // It has run, with these addresses.
    void leave(const State& state, const Word* addresses) {
        Word entry = stack_;
        if (state.stack_address < state.done.addresses) {
            entry = addresses[state.stack_address] - state.stack_distance;
        }
        if (state.done.stack_base < PTSHARE_BASE_UNKNOWN) {
            stack_ = addresses[state.done.stack_base] + state.done.stack_offset;
        } else {
            stack_ = entry;
            if (state.done.stack_base == PTSHARE_BASE_ENTRY) stack_ += state.done.stack_offset;
        }
        follow(state);
        next_ = followers_[follows_];
    }

  private:
    struct Place {
        Word last = 0, stride = 0, step = 0;
    };
    static constexpr std::size_t kCalls = 64;

    void make(std::uint32_t block, const Definition& definition);
    void leave_otherwise(State& state, std::uint16_t left);

    void follow(const State& state) {
        const auto stopped = (state.left & PTSHARE_STOPPED) != 0;
        follows_ = state.followers + 1 + (stopped ? 0 : state.left);
        if (state.left != 0) return;
        if (state.calls) {
            returns_[depth_++ % kCalls] = state.followers;
        } else if (state.returns && depth_ > 0) {
            follows_ = returns_[--depth_ % kCalls];
        }
    }

    std::vector<State> states_;
    std::vector<Place> places_;
    std::vector<std::uint32_t> followers_{0};
    std::array<std::uint32_t, kCalls> returns_{};  // followers of the calls that are under way
    std::size_t depth_ = 0;
    Word stack_ = 0;
    std::uint32_t next_ = 0;
    std::uint32_t follows_ = 0;  // the follower that the next block is
    Place* places_at_ = nullptr;
};

}  // namespace ptshare::recordings
