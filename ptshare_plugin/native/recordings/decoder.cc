#include "recordings/decoder.h"

#include <cstring>
#include <stdexcept>

namespace ptshare::recordings {

void EventReader::next(Item& item) {
    const std::uint64_t kind = numbers_.take();
    if (kind == PTSHARE_BLOCK || kind >= PTSHARE_KINDS) {
        throw std::runtime_error("damaged: an event of no known kind");
    }
    const std::uint64_t count = numbers_.take();
    if (count > 0xffff) throw std::runtime_error("damaged: an event of too many words");
    item.kind = static_cast<unsigned>(kind);
    item.small = numbers_.take();
    const EventForm form = form_of(item.kind);
    if (count < form.least) throw std::runtime_error("damaged: an event of too few words");
    words_.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        if (i >= form.text) {
            const std::size_t bytes = (count - i) * sizeof(Word);
            std::memcpy(words_.data() + i, numbers_.take_bytes(bytes), bytes);
            break;
        }
        if (i == form.stamp) {
            words_[i] = past_.stamp() += unzigzag(numbers_.take());
        } else if (i < form.near) {
            words_[i] = past_.near(item.kind, i) += unzigzag(numbers_.take());
        } else {
            words_[i] = numbers_.take();
        }
    }
    item.definition = nullptr;
    item.words = words_.data();
    item.count = count;
}

void Decoder::load(const char* events, std::size_t events_bytes, const char* blocks,
                   std::size_t blocks_bytes) {
    events_ = EventReader(events, events + events_bytes);
    Numbers all(blocks, blocks + blocks_bytes);
    const std::uint64_t heads = all.take(), turns = all.take();
    const char* at = all.take_bytes(heads);
    heads_ = Numbers(at, at + heads);
    at = all.take_bytes(turns);
    turns_ = Numbers(at, at + turns);
    numbers_ = Numbers(at + turns, blocks + blocks_bytes);
    predictor_.forget();
}

bool Decoder::next(Item& item) {
    if (!heads_.more()) {
        if (events_.more() || turns_.more() || numbers_.more()) {
            throw std::runtime_error("damaged: a piece has more than its items");
        }
        return false;
    }
    const std::uint64_t head = heads_.take();
    std::uint32_t number = predictor_.next();
    if ((head & kOtherNext) != 0) {
        const std::uint64_t turn = turns_.take();
        if (turn == 0) {
            event(item);
            return true;
        }
        number = static_cast<std::uint32_t>(number + unzigzag(turn - 1));
    }
    item.kind = PTSHARE_BLOCK;
    item.block = number;
    block(item, head);
    return true;
}

void Decoder::block(Item& item, std::uint64_t head) {
    Predictor::State& state = predictor_.state(item.block, *definitions_);
    item.exit = state.left;
    if ((head & kOtherLeft) != 0) item.exit = static_cast<std::uint16_t>(turns_.take());
    predictor_.enter(item.block, state, item.exit);
    if (addresses_.size() < state.addresses) addresses_.resize(state.addresses);
    Word* addresses = addresses_.data();
    std::uint64_t marks = head >> kAddressShift;
    const std::size_t count = state.done.addresses;
    for (std::size_t i = 0; i < count; ++i, marks >>= 1) {
        if (i < kMarked && (marks & 1) == 0) {
            addresses[i] = predictor_.address(state, i);
            predictor_.hit(state, i, addresses[i]);
        } else {
            addresses[i] = predictor_.origin(state, i) + unzigzag(numbers_.take());
            predictor_.miss(state, i, addresses[i]);
        }
    }
    predictor_.leave(state, addresses);
    item.definition = state.definition;
    item.guarded = state.guarded;
    item.done = &state.done;
    item.words = addresses;
    item.count = count;
}

void Decoder::event(Item& item) {
    events_.next(item);
    if (item.kind != PTSHARE_DEFINE) return;
    if (known_ == definitions_->size()) definitions_->add(item.words, item.count);
    predictor_.expect(static_cast<std::uint32_t>(known_++));
}

}  // namespace ptshare::recordings
