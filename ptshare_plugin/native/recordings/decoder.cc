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
    const Definition& definition = definitions_.at(item.block);
    predictor_.enter(item.block, definition);
    item.exit = predictor_.left();
    if ((head & kOtherLeft) != 0) item.exit = static_cast<std::uint16_t>(turns_.take());
    item.done = item.exit < definition.exits.size() ? definition.exit(item.exit)
                                                    : definition.left(item.exit);
    if (addresses_.size() < definition.addresses) addresses_.resize(definition.addresses);
    std::uint64_t marks = head >> kAddressShift;
    for (std::size_t i = 0; i < item.done.addresses; ++i, marks >>= 1) {
        const bool differs = i >= kMarked || (marks & 1) != 0;
        addresses_[i] = differs ? predictor_.origin(definition, i) + unzigzag(numbers_.take())
                                : predictor_.address(definition, i);
        predictor_.learn(i, addresses_[i]);
    }
    predictor_.leave(definition, item.exit, item.done, addresses_.data());
    item.definition = &definition;
    item.words = addresses_.data();
    item.count = item.done.addresses;
}

void Decoder::event(Item& item) {
    events_.next(item);
    if (item.kind != PTSHARE_DEFINE) return;
    definitions_.add(item.words, item.count);
    predictor_.expect(static_cast<std::uint32_t>(definitions_.size() - 1));
}

}  // namespace ptshare::recordings
