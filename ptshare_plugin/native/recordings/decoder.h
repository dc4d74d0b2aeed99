// A stream of a recording, item by item: blocks that ran, and events, in the order in which they
// were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "recordings/definition.h"
#include "recordings/piece.h"
#include "recordings/predictor.h"
#include "recordings/varint.h"

namespace ptshare::recordings {

struct Item {
    unsigned kind = 0;  // PtshareKind
    // Of a block: which, how it was left (as in PTSHARE_BLOCK), and what it did until then: of its
    // definition the first done->instructions and done->accesses. `words` are its addresses, for
    // Access::address and, where some are guarded, Access::happens.
    const Definition* definition = nullptr;
    std::uint32_t block = 0;
    std::uint16_t exit = 0;
    bool guarded = false;
    const Left* done = nullptr;
    // Of an event.
    Word small = 0;
    // Until the next item is asked for.
    const Word* words = nullptr;
    std::size_t count = 0;
};

// Events of the first text of a piece.
class EventReader {
  public:
    EventReader() = default;
    EventReader(const char* begin, const char* end) : numbers_(begin, end) {}

    bool more() const { return numbers_.more(); }
    // Throws std::runtime_error.
    void next(Item& item);

  private:
    Numbers numbers_;
    EventPast past_;
    std::vector<Word> words_;
};

class Decoder {
  public:
    Decoder() : Decoder(std::make_shared<Definitions>(), 0) {}
    // Of a forked child; `count` as its PTSHARE_BORN says. The parent's decoder has come to where
    // it forked.
    Decoder(const Decoder& parent, std::size_t count)
        : Decoder(std::make_shared<Definitions>(*parent.definitions_, count), count) {}
    // Of a stream that others read too: whoever comes to a definition first adds it. The first
    // `known` are there before the stream's own.
    Decoder(std::shared_ptr<Definitions> definitions, std::size_t known)
        : definitions_(std::move(definitions)), known_(known) {}

    // Go on with the next piece. Both texts must stay until it has been read.
    void load(const char* events, std::size_t events_bytes, const char* blocks,
              std::size_t blocks_bytes);
    // The next item of it; false at its end. Throws std::runtime_error.
    bool next(Item& item);

    const std::shared_ptr<Definitions>& definitions() const { return definitions_; }

  private:
    void block(Item& item, std::uint64_t head);
    void event(Item& item);

    std::shared_ptr<Definitions> definitions_;
    std::size_t known_;  // of them, that the stream has come to
    Predictor predictor_;
    EventReader events_;
    Numbers heads_, turns_, numbers_;
    std::vector<Word> addresses_;
};

}  // namespace ptshare::recordings
