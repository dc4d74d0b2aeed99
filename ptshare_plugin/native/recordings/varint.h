// Numbers of a recording's files: seven bits a byte, least significant first; signed ones folded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ptshare::recordings {

inline std::uint64_t zigzag(std::uint64_t distance) {
    return (distance << 1) ^ (0 - (distance >> 63));
}

inline std::uint64_t unzigzag(std::uint64_t value) {
    return (value >> 1) ^ (0 - (value & 1));
}

// Numbers and bytes one after the other, being written.
class Text {
  public:
    void put(std::uint64_t value) {
        if (value >= 0x80 || used_ == text_.size()) {
            put_long(value);
        } else {
            text_[used_++] = static_cast<char>(value);
        }
    }
    void put_bytes(const void* bytes, std::size_t count) {
        make_room(count);
        std::memcpy(text_.data() + used_, bytes, count);
        used_ += count;
    }

    const char* data() const { return text_.data(); }
    std::size_t size() const { return used_; }
    void clear() { used_ = 0; }
    std::string copy() const { return text_.substr(0, used_); }

  private:
    static constexpr std::size_t kMost = 10;  // bytes of a number

    void put_long(std::uint64_t value) {
        make_room(kMost);
        while (value >= 0x80) {
            text_[used_++] = static_cast<char>(value | 0x80);
            value >>= 7;
        }
        text_[used_++] = static_cast<char>(value);
    }
    void make_room(std::size_t count) {
        if (text_.size() - used_ < count) text_.resize(2 * text_.size() + count);
    }

    std::string text_;
    std::size_t used_ = 0;
};

// Numbers one after the other; throws std::runtime_error at the end of what there is.
class Numbers {
  public:
    Numbers() = default;
    Numbers(const char* begin, const char* end) : at_(begin), end_(end) {}

    bool more() const { return at_ != end_; }

    std::uint64_t take() {
        if (at_ == end_) short_of();
        const auto first = static_cast<unsigned char>(*at_++);
        return first < 0x80 ? first : take_long(first);
    }

    const char* take_bytes(std::size_t count) {
        if (static_cast<std::size_t>(end_ - at_) < count) short_of();
        const char* taken = at_;
        at_ += count;
        return taken;
    }

  private:
    std::uint64_t take_long(std::uint64_t value) {
        value &= 0x7f;
        for (unsigned shift = 7; shift < 64; shift += 7) {
            if (at_ == end_) short_of();
            const auto byte = static_cast<unsigned char>(*at_++);
            value |= (byte & std::uint64_t{0x7f}) << shift;
            if (byte < 0x80) return value;
        }
        throw std::runtime_error("damaged: a number of more than 64 bits");
    }
    [[noreturn]] static void short_of() {
        throw std::runtime_error("damaged: a piece ends inside a number");
    }

    const char* at_ = nullptr;
    const char* end_ = nullptr;
};

}  // namespace ptshare::recordings
