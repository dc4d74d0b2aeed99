// Words of the recorder's tool, made small.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "recordings/definition.h"
#include "recordings/piece.h"
#include "recordings/predictor.h"
#include "recordings/totals.h"
#include "recordings/varint.h"

namespace ptshare::recordings {

class Encoder {
  public:
    Encoder() = default;
    // Of a forked child: the first `count` definitions are the parent's.
    Encoder(const Encoder& parent, std::size_t count) : definitions_(parent.definitions_, count) {}

    // Take bytes of the stream, cut anywhere. Throws std::runtime_error.
    void feed(const char* bytes, std::size_t count);
    // Words taken since the last piece.
    std::size_t words() const { return words_; }
    // End a piece.
    Piece take();

    const Totals& totals() const { return totals_; }
    const Definitions& definitions() const { return definitions_; }
    // What the process is called, at its beginning and at its end.
    const std::string& name() const { return name_; }
    const std::string& title() const { return title_; }
    // Its end has been told: it called exit, with a status, or a signal ended it.
    bool ended() const { return ended_; }
    bool exited() const { return exited_; }
    Word status() const { return status_; }
    // The last that was told is an exec, which has not failed so far.
    bool in_exec() const { return in_exec_; }
    // Bytes are left that are no whole item.
    bool inside_item() const { return !pending_.empty(); }

  private:
    std::size_t take_items(const char* bytes, std::size_t count);
    void block(const Word* words, Predictor::State& state);
    void event(const Word* words);
    void learn_from(const Word* words, unsigned kind);

    Definitions definitions_;
    Predictor predictor_;
    EventPast past_;
    std::string pending_;
    Text heads_, turns_, addresses_, events_;
    std::size_t words_ = 0;
    Totals totals_;
    std::string name_, title_;
    bool ended_ = false, exited_ = false, in_exec_ = false;
    Word status_ = 0;
};

}  // namespace ptshare::recordings
