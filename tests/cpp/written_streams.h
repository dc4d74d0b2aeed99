// Streams of a recording, written by hand for tests of the playback.
#pragma once

#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/vma.h"
#include "playback/playback.h"
#include "recordings/encoder.h"

using ptshare::recordings::Word;

// One process's stream. Each process begins with a page of code at kCode; a load, store or modify
// is one block of one instruction there.
class Written {
  public:
    static constexpr Word kCode = 0x400000;

    // Starts with the recorder, or by exec.
    Written(Word process, Word stamp) : Written(process, stamp, 0, nullptr) {
        begin();
        map_code();
        define();
    }
    // Forked by `parent`, which has defined its blocks.
    Written(Word process, Word stamp, const Written& parent)
        : Written(process, stamp, parent.born_, &parent) {
        begin();
    }

    Written& load(Word address) { return access(0, address); }
    Written& store(Word address) { return access(1, address); }
    Written& modify(Word address) { return access(2, address); }

    // A system call, and what it answers.
    Written& call(Word number, std::vector<Word> arguments, Word stamp, Word thread = 1) {
        arguments.resize(6);
        arguments.push_back(stamp);
        return event(PTSHARE_CALL, number | thread << 16, std::move(arguments));
    }
    Written& answer(Word number, Word result, Word stamp, Word thread = 1) {
        return event(PTSHARE_RETURN, number | thread << 16, {result, stamp});
    }
    Written& map(Word at, Word bytes, Word flags, Word stamp) {
        call(SYS_mmap, {0, bytes, 3, flags, ~Word{0}, 0}, stamp);
        return answer(SYS_mmap, at, stamp + 1);
    }
    Written& map_file(Word at, Word bytes, Word flags, Word inode, Word stamp) {
        call(SYS_mmap, {0, bytes, 3, flags, 5, 0}, stamp);
        event(PTSHARE_FILE, 1, {8, inode, bytes, 0});
        return answer(SYS_mmap, at, stamp + 1);
    }
    Written& fork(Word child, Word stamp, Word back) {
        call(SYS_fork, {}, stamp);
        return answer(SYS_fork, child, back);
    }
    Written& mark(Word number, Word stamp) { return event(PTSHARE_MARK, number, {stamp}); }
    Written& end(Word stamp) { return event(PTSHARE_END, 1, {0, stamp}); }
    Written& event(Word kind, Word small, std::vector<Word> words) {
        put(PTSHARE_ITEM | kind << PTSHARE_KIND_SHIFT | Word{words.size()} << PTSHARE_COUNT_SHIFT |
            small);
        for (const Word word : words) put(word);
        return *this;
    }
    // What is written so far is a piece.
    Written& cut() {
        pieces_.push_back(encoder_->take());
        return *this;
    }

    const std::vector<ptshare::recordings::Piece>& pieces() const { return pieces_; }

  private:
    Written(Word process, Word stamp, Word parent_born, const Written* parent)
        : process_(process),
          born_(stamp),
          parent_born_(parent_born),
          inherited_(parent ? 3 : 0),
          encoder_(parent ? std::make_shared<ptshare::recordings::Encoder>(*parent->encoder_, 3)
                          : std::make_shared<ptshare::recordings::Encoder>()) {}

    void begin() {
        event(PTSHARE_BORN, PTSHARE_WORDS_VERSION, {process_, 1, born_, parent_born_, inherited_});
    }
    void map_code() {
        event(PTSHARE_MAP, 5, {kCode, ptshare::kPageSize, 8, 1, 0, 0x6f72702f /* "/pro" */});
    }
    void define() {
        for (Word kind = 0; kind < 3; ++kind) {
            event(PTSHARE_DEFINE, 0,
                  {kCode + 16 * kind, 1 | 1 << 16 | Word{1} << 32, 0, 4, 0 | kind << 16 | 8 << 24,
                   0, 0, 1 | 1 << 16 | Word{PTSHARE_BASE_UNKNOWN} << 32, 0});
        }
    }
    Written& access(Word block, Word address) {
        put(PTSHARE_ITEM | block);
        put(address);
        return *this;
    }
    void put(Word word) { encoder_->feed(reinterpret_cast<const char*>(&word), sizeof word); }

    Word process_, born_, parent_born_, inherited_;
    std::shared_ptr<ptshare::recordings::Encoder> encoder_;
    std::vector<ptshare::recordings::Piece> pieces_;
};

class WrittenStreams final : public ptshare::engine::PieceSource {
  public:
    // The streams are whole.
    explicit WrittenStreams(std::vector<Written*> streams) {
        for (Written* stream : streams) streams_.push_back(stream->cut().pieces());
    }

    std::size_t streams() const override { return streams_.size(); }
    std::size_t pieces(std::size_t stream) const override { return streams_[stream].size(); }
    std::string events(std::size_t stream, std::size_t piece) override {
        return streams_[stream][piece].events;
    }
    std::string blocks(std::size_t stream, std::size_t piece) override {
        return streams_[stream][piece].blocks;
    }

  private:
    std::vector<std::vector<ptshare::recordings::Piece>> streams_;
};
