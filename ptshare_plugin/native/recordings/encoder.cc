#include "recordings/encoder.h"

#include <cstring>
#include <stdexcept>

#include "recordings/varint.h"

namespace ptshare::recordings {

namespace {

constexpr unsigned kKindMask = 0x7f;
constexpr Word kSmallMask = (Word{1} << PTSHARE_COUNT_SHIFT) - 1;

constexpr Word kExecve = 59, kExecveat = 322;

std::string text_of(const Word* words, std::size_t count) {
    const auto* text = reinterpret_cast<const char*>(words);
    return std::string(text, strnlen(text, count * sizeof(Word)));
}

unsigned kind_of(Word head) {
    return static_cast<unsigned>(head >> PTSHARE_KIND_SHIFT) & kKindMask;
}

std::size_t count_of(Word head) {
    return (head >> PTSHARE_COUNT_SHIFT) & 0xffff;
}

}  // namespace

void Encoder::feed(const char* bytes, std::size_t count) {
    // What is left of one call is completed by the next.
    const bool whole = pending_.empty() && reinterpret_cast<std::uintptr_t>(bytes) % 8 == 0;
    if (!whole) {
        pending_.append(bytes, count);
        bytes = pending_.data();
        count = pending_.size();
    }
    const std::size_t taken = take_items(bytes, count / sizeof(Word)) * sizeof(Word);
    words_ += taken / sizeof(Word);
    if (whole) {
        pending_.assign(bytes + taken, count - taken);
    } else {
        pending_.erase(0, taken);
    }
}

std::size_t Encoder::take_items(const char* bytes, std::size_t count) {
    const auto* words = reinterpret_cast<const Word*>(bytes);
    std::size_t at = 0;
    while (at < count) {
        const Word head = words[at];
        if ((head & PTSHARE_ITEM) == 0) throw std::runtime_error("damaged: an item has no head");
        if (kind_of(head) == PTSHARE_BLOCK) {
            Predictor::State& state =
                predictor_.state(static_cast<std::uint32_t>(head), definitions_);
            const std::size_t behind = at + 1 + state.addresses;
            if (behind > count) break;
            block(words + at, state);
            at = behind;
        } else {
            const std::size_t behind = at + 1 + count_of(head);
            if (behind > count) break;
            event(words + at);
            at = behind;
        }
    }
    return at;
}

void Encoder::block(const Word* words, Predictor::State& state) {
    const auto number = static_cast<std::uint32_t>(words[0]);
    const auto left = static_cast<std::uint16_t>(words[0] >> PTSHARE_LEFT_SHIFT);
    const Word* addresses = words + 1;
    Word head = 0;
    const std::uint32_t expected = predictor_.next();
    if (number != expected) {
        head |= kOtherNext;
        turns_.put(1 + zigzag(Word{number} - Word{expected}));
    }
    if (left != state.left) {
        head |= kOtherLeft;
        turns_.put(left);
    }
    predictor_.enter(number, state, left);
    const std::size_t count = state.done.addresses;
    for (std::size_t i = 0; i < count; ++i) {
        const Word address = addresses[i];
        const bool marked = i < kMarked;
        if (marked && address == predictor_.address(state, i)) {
            predictor_.hit(state, i, address);
            continue;
        }
        if (marked) head |= Word{1} << (kAddressShift + i);
        addresses_.put(zigzag(address - predictor_.origin(state, i)));
        predictor_.miss(state, i, address);
    }
    heads_.put(head);
    predictor_.leave(state, addresses);
    totals_.add_block(state.done);
    if (state.guarded) totals_.take_absent(*state.definition, state.done, addresses);
}

void Encoder::event(const Word* words) {
    const unsigned kind = kind_of(words[0]);
    const std::size_t count = count_of(words[0]);
    const EventForm form = form_of(kind);
    heads_.put(kOtherNext);
    turns_.put(0);
    events_.put(kind);
    events_.put(count);
    events_.put(words[0] & kSmallMask);
    const Word* word = words + 1;
    for (std::size_t i = 0; i < count; ++i) {
        if (i >= form.text) {
            events_.put_bytes(word + i, (count - i) * sizeof(Word));
            break;
        }
        if (i == form.stamp) {
            events_.put(zigzag(word[i] - past_.stamp()));
            past_.stamp() = word[i];
        } else if (i < form.near) {
            Word& last = past_.near(kind, i);
            events_.put(zigzag(word[i] - last));
            last = word[i];
        } else {
            events_.put(word[i]);
        }
    }
    learn_from(words, kind);
}

void Encoder::learn_from(const Word* words, unsigned kind) {
    const std::size_t count = count_of(words[0]);
    const Word small = words[0] & kSmallMask;
    totals_.add_event(kind, words + 1, count);
    switch (kind) {
        case PTSHARE_DEFINE:
            definitions_.add(words + 1, count);
            predictor_.expect(static_cast<std::uint32_t>(definitions_.size() - 1));
            break;
        case PTSHARE_NAME:
            name_ = text_of(words + 1, count);
            break;
        case PTSHARE_TITLE:
            title_ = text_of(words + 1, count);
            break;
        case PTSHARE_CALL:
            in_exec_ = (small & 0xffff) == kExecve || (small & 0xffff) == kExecveat;
            break;
        case PTSHARE_RETURN:
            in_exec_ = false;
            break;
        case PTSHARE_END:
            ended_ = true;
            exited_ = small == 1;
            status_ = count > 0 ? words[1] : 0;
            break;
        default:
            break;
    }
}

Piece Encoder::take() {
    Text sizes;
    sizes.put(heads_.size());
    sizes.put(turns_.size());
    Piece piece;
    piece.events = events_.copy();
    for (const Text* text : {&sizes, &heads_, &turns_, &addresses_}) {
        piece.blocks.append(text->data(), text->size());
    }
    for (Text* text : {&heads_, &turns_, &addresses_, &events_}) text->clear();
    predictor_.forget();
    past_ = {};
    words_ = 0;
    return piece;
}

}  // namespace ptshare::recordings
