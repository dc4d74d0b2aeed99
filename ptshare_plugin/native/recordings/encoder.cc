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
    pending_.append(bytes, count);
    // Its memory is aligned for words, as that of any allocation.
    const auto* words = reinterpret_cast<const Word*>(pending_.data());
    const std::size_t taken = take_items(words, pending_.size() / sizeof(Word));
    words_ += taken;
    pending_.erase(0, taken * sizeof(Word));
}

std::size_t Encoder::take_items(const Word* words, std::size_t count) {
    std::size_t at = 0;
    while (at < count) {
        const Word head = words[at];
        if ((head & PTSHARE_ITEM) == 0) throw std::runtime_error("damaged: an item has no head");
        if (kind_of(head) == PTSHARE_BLOCK) {
            const Definition& definition = definitions_.at(static_cast<std::uint32_t>(head));
            if (at + 1 + definition.addresses > count) break;
            block(words + at, definition);
            at += 1 + std::size_t{definition.addresses};
        } else {
            if (at + 1 + count_of(head) > count) break;
            event(words + at);
            at += 1 + count_of(head);
        }
    }
    return at;
}

void Encoder::block(const Word* words, const Definition& definition) {
    const auto number = static_cast<std::uint32_t>(words[0]);
    const auto left = static_cast<std::uint16_t>(words[0] >> PTSHARE_LEFT_SHIFT);
    const Word* addresses = words + 1;
    Word head = 0;
    const std::uint32_t expected = predictor_.next();
    if (number != expected) {
        head |= kOtherNext;
        put_number(turns_, 1 + zigzag(Word{number} - Word{expected}));
    }
    predictor_.enter(number, definition);
    if (left != predictor_.left()) {
        head |= kOtherLeft;
        put_number(turns_, left);
    }
    Left rare;
    const Left* done = &rare;
    if (left < definition.exits.size()) {
        done = &definition.exit(left);
    } else {
        rare = definition.left(left);
    }
    for (std::size_t i = 0; i < done->addresses; ++i) {
        const Word address = addresses[i];
        const bool marked = i < kMarked;
        if (!marked || address != predictor_.address(definition, i)) {
            if (marked) head |= Word{1} << (kAddressShift + i);
            put_number(addresses_, zigzag(address - predictor_.origin(definition, i)));
        }
        predictor_.learn(i, address);
    }
    put_number(heads_, head);
    predictor_.leave(definition, left, *done, addresses);
    totals_.add_block(definition, *done, addresses);
}

void Encoder::event(const Word* words) {
    const unsigned kind = kind_of(words[0]);
    const std::size_t count = count_of(words[0]);
    const EventForm form = form_of(kind);
    put_number(heads_, kOtherNext);
    put_number(turns_, 0);
    put_number(events_, kind);
    put_number(events_, count);
    put_number(events_, words[0] & kSmallMask);
    const Word* word = words + 1;
    for (std::size_t i = 0; i < count; ++i) {
        if (i >= form.text) {
            events_.append(reinterpret_cast<const char*>(word + i), (count - i) * sizeof(Word));
            break;
        }
        if (i == form.stamp) {
            put_number(events_, zigzag(word[i] - past_.stamp()));
            past_.stamp() = word[i];
        } else if (i < form.near) {
            Word& last = past_.near(kind, i);
            put_number(events_, zigzag(word[i] - last));
            last = word[i];
        } else {
            put_number(events_, word[i]);
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
    Piece piece;
    put_number(piece.blocks, heads_.size());
    put_number(piece.blocks, turns_.size());
    piece.blocks += heads_;
    piece.blocks += turns_;
    piece.blocks += addresses_;
    piece.events = std::move(events_);
    for (std::string* text : {&heads_, &turns_, &addresses_, &events_}) text->clear();
    predictor_.forget();
    past_ = {};
    words_ = 0;
    return piece;
}

}  // namespace ptshare::recordings
