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
    made.definition = &definition;
    made.done = definition.exit(0);
    made.stack_distance = definition.stack_distance;
    made.addresses = definition.addresses;
    made.stack_address = definition.stack_address;
    made.calls = definition.calls;
    made.returns = definition.returns;
    made.guarded = definition.guarded;
    made.places = static_cast<std::uint32_t>(places_.size());
    made.followers = static_cast<std::uint32_t>(followers_.size());
    places_.resize(places_.size() + definition.addresses);
    followers_.resize(followers_.size() + 1 + definition.exits.size());
}

void Predictor::leave_otherwise(State& state, std::uint16_t left) {
    state.done = state.definition->left(left);
    state.left = left;
}

}  // namespace ptshare::recordings
