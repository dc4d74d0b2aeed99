// Bytes of a snapshot, written or read. Integers are little-endian and as wide as their types,
// lists start with their length.
#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <type_traits>

#include "chunked.h"
#include "types.h"

namespace ptshare::snapshot {

static_assert(sizeof(unsigned) == 4, "fields of this type are written with four bytes");

// Throws std::runtime_error with one line.
[[noreturn]] void fail(const std::string& what);
inline void expect(bool holds, const char* what) {
    if (!holds) fail(std::string("damaged: ") + what);
}

std::uint64_t checksum(const std::string& bytes);
// The next `bytes` of a stream; fails when there are fewer.
std::string take(std::istream& from, std::uint64_t bytes);

// Fields to or from bytes: what describes a structure once serves both directions.
template <bool kReads>
class Archive {
  public:
    using Bytes = std::conditional_t<kReads, const std::string, std::string>;
    explicit Archive(Bytes& bytes) : bytes_(bytes) {}

    template <class... Fields>
    void operator()(Fields&... fields) {
        (field(fields), ...);
    }
    // The length of a list whose elements take at least a byte each.
    std::uint64_t length(std::uint64_t have = 0) {
        field(have);
        expect(!kReads || have <= left(), "a list is longer than the data");
        return have;
    }
    template <class List, class Each>
    void list(List& items, const Each& each) {
        const std::uint64_t n = length(items.size());
        if constexpr (kReads) items.resize(n);
        for (auto& item : items) each(item);
    }
    template <class T, class Each>
    void chunked(std::conditional_t<kReads, Chunked<T>, const Chunked<T>>& items,
                 const Each& each) {
        const std::uint64_t n = length(items.size());
        if constexpr (kReads) items.clear();
        for (std::uint64_t i = 0; i < n; ++i) {
            T item = T();
            if constexpr (!kReads) item = items[i];
            each(item);
            if constexpr (kReads) items.append(item);
        }
    }
    std::uint64_t left() const { return bytes_.size() - at_; }

  private:
    template <class T>
    void field(T& value) {
        if constexpr (std::is_enum_v<T>) {
            auto number = static_cast<std::underlying_type_t<T>>(value);
            field(number);
            if constexpr (kReads) value = static_cast<T>(number);
        } else if constexpr (kReads) {
            expect(left() >= sizeof(T), "it ends too early");
            std::uint64_t number = 0;
            for (unsigned i = 0; i < sizeof(T); ++i) {
                number |= std::uint64_t{static_cast<unsigned char>(bytes_[at_++])} << (8 * i);
            }
            value = static_cast<T>(number);
        } else {
            for (unsigned i = 0; i < sizeof(T); ++i) {
                bytes_.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i)));
            }
        }
    }
    template <class Tag>
    void field(Number<Tag>& number) {
        field(number.value);
    }
    template <class Tag>
    void field(const Number<Tag>& number) {
        field(number.value);
    }
    template <class T, std::size_t n>
    void field(std::array<T, n>& items) {
        for (T& item : items) field(item);
    }
    template <class T, std::size_t n>
    void field(const std::array<T, n>& items) {
        for (const T& item : items) field(item);
    }
    void field(std::string& text) {
        list(text, [&](char& c) { field(c); });
    }
    void field(const std::string& text) {
        list(text, [&](const char& c) { field(c); });
    }

    Bytes& bytes_;          // the caller's
    std::uint64_t at_ = 0;  // of the next byte to read
};

}  // namespace ptshare::snapshot
