// An array that keeps blocks of 512 regular values as one record each.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "types.h"

namespace ptshare {

// The value `n` places behind another one in a regular block. Of frame numbers, those that follow;
// Pfn(0), "none", is followed by none.
constexpr Pfn advanced(Pfn first, std::uint64_t n) {
    return first == Pfn(0) ? first : first + n;
}

// As a vector of T, for arrays of hundreds of millions of frames of which most are alike. A block
// takes an array of its own once one of its values breaks the rule advanced(first, i).
template <class T>
class Chunked {
  public:
    static constexpr std::uint64_t kBlock = 512;

    std::uint64_t size() const { return size_; }

    T operator[](std::uint64_t i) const {
        const Block& block = blocks_[i / kBlock];
        return block.each ? (*block.each)[i % kBlock] : advanced(block.first, i % kBlock);
    }
    void set(std::uint64_t i, T value) {
        Block& block = blocks_[i / kBlock];
        if (!block.each) {
            if (advanced(block.first, i % kBlock) == value) return;
            spell_out(block);
        }
        (*block.each)[i % kBlock] = value;
    }
    // Adds advanced(first, 0), advanced(first, 1), ... at the end.
    void append(T first, std::uint64_t n = 1) {
        for (std::uint64_t done = 0; done < n;) {
            const T next = advanced(first, done);
            const std::uint64_t at = size_ % kBlock;
            const std::uint64_t piece = n - done < kBlock - at ? n - done : kBlock - at;
            if (at == 0) {
                blocks_.push_back(Block{next, nullptr});
            } else {
                Block& block = blocks_.back();
                if (!block.each && !(advanced(block.first, at) == next)) spell_out(block);
                for (std::uint64_t i = 0; block.each && i < piece; ++i) {
                    (*block.each)[at + i] = advanced(next, i);
                }
            }
            size_ += piece;
            done += piece;
        }
    }
    // The whole block that begins at `from` becomes advanced(first, 0), advanced(first, 1), ...
    void set_block(std::uint64_t from, T first) { blocks_[from / kBlock] = Block{first, nullptr}; }
    // Cuts, or lengthens by T().
    void resize(std::uint64_t n) {
        if (n > size_) append(T(), n - size_);
        size_ = n;
        blocks_.resize((n + kBlock - 1) / kBlock);
    }
    void clear() { resize(0); }
    // Whether values [from, from + n), all of them there, are advanced() of the first of them.
    bool regular(std::uint64_t from, std::uint64_t n) const {
        const T first = (*this)[from];
        for (std::uint64_t done = 0; done < n;) {
            const std::uint64_t i = from + done;
            const Block& block = blocks_[i / kBlock];
            if (!((*this)[i] == advanced(first, done))) return false;
            done += block.each ? 1 : kBlock - i % kBlock;
        }
        return true;
    }

  private:
    struct Block {
        T first;
        // Null: the block is regular. Values beyond size_ mean nothing.
        std::unique_ptr<std::array<T, kBlock>> each;
    };

    static void spell_out(Block& block) {
        block.each = std::make_unique<std::array<T, kBlock>>();
        for (std::uint64_t i = 0; i < kBlock; ++i) (*block.each)[i] = advanced(block.first, i);
    }

    std::vector<Block> blocks_;  // invariant: as many as size_ values need
    std::uint64_t size_ = 0;
};

}  // namespace ptshare
