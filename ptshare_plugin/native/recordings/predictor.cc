#include "recordings/predictor.h"

namespace ptshare::recordings {

void Predictor::forget() {
    states_.clear();
    places_.clear();
    followers_.assign(1, 0);
    depth_ = 0;
    stack_ = 0;
    next_ = follows_ = 0;
}

void Predictor::make(std::uint32_t block, const Definition& definition) {
    if (block >= states_.size()) states_.resize(block + std::size_t{1});
    State& made = states_[block];
    made.known = true;
    made.places = static_cast<std::uint32_t>(places_.size());
    made.followers = static_cast<std::uint32_t>(followers_.size());
    places_.resize(places_.size() + definition.addresses);
    followers_.resize(followers_.size() + definition.exits.size() + 1);
}

void Predictor::leave(const Definition& definition, std::uint16_t left, const Left& done,
                      const Word* addresses) {
    state_->left = left;
    Word entry = stack_;
    if (definition.stack_address < done.addresses) {
        entry = addresses[definition.stack_address] - definition.stack_distance;
    }
    if (done.stack_base < PTSHARE_BASE_UNKNOWN) {
        stack_ = addresses[done.stack_base] + done.stack_offset;
    } else {
        stack_ = entry + (done.stack_base == PTSHARE_BASE_ENTRY ? done.stack_offset : 0);
    }
    const auto exits = static_cast<std::uint32_t>(definition.exits.size());
    follows_ = state_->followers + (left < exits ? left : 0);
    next_ = followers_[follows_];
    if (left != 0) return;
    if (definition.calls) {
        returns_[depth_++ % kCalls] = state_->followers + exits;
    } else if (definition.returns && depth_ > 0) {
        follows_ = returns_[--depth_ % kCalls];
        next_ = followers_[follows_];
    }
}

}  // namespace ptshare::recordings
