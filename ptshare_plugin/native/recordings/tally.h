// Reads a stream whole and says how much there is in it, as its writer did: a check.
#pragma once

#include "recordings/decoder.h"
#include "recordings/totals.h"

namespace ptshare::recordings {

class Tally {
  public:
    Tally() = default;
    Tally(const Tally& parent, std::size_t count) : decoder_(parent.decoder_, count) {}

    // One piece more. Throws std::runtime_error.
    void count(const char* events, std::size_t events_bytes, const char* blocks,
               std::size_t blocks_bytes) {
        decoder_.load(events, events_bytes, blocks, blocks_bytes);
        Item item;
        while (decoder_.next(item)) {
            if (item.definition != nullptr) {
                totals_.add_block(*item.done);
                if (item.guarded) {
                    totals_.take_absent(*item.definition, *item.done, item.words);
                }
            } else {
                totals_.add_event(item.kind, item.words, item.count);
            }
        }
    }

    Decoder& decoder() { return decoder_; }
    const Totals& totals() const { return totals_; }

  private:
    Decoder decoder_;
    Totals totals_;
};

}  // namespace ptshare::recordings
