// Address kinds as distinct types, so that a frame number is never taken for an address.
#pragma once

#include <cstdint>
#include <functional>

namespace ptshare {

// One integer with a name. Arithmetic is spelled out where it has a meaning.
template <class Tag>
struct Number {
    std::uint64_t value = 0;

    constexpr Number() = default;
    explicit constexpr Number(std::uint64_t v) : value(v) {}

    friend constexpr bool operator==(Number a, Number b) { return a.value == b.value; }
    friend constexpr bool operator!=(Number a, Number b) { return a.value != b.value; }
    friend constexpr bool operator<(Number a, Number b) { return a.value < b.value; }
    friend constexpr bool operator<=(Number a, Number b) { return a.value <= b.value; }
    friend constexpr bool operator>(Number a, Number b) { return a.value > b.value; }
    friend constexpr bool operator>=(Number a, Number b) { return a.value >= b.value; }
    friend constexpr Number operator+(Number a, std::uint64_t n) { return Number(a.value + n); }
    friend constexpr Number operator-(Number a, std::uint64_t n) { return Number(a.value - n); }
    friend constexpr std::uint64_t operator-(Number a, Number b) { return a.value - b.value; }
};

using VirtAddr = Number<struct VirtAddrTag>;  // bytes, in one address space
using PhysAddr = Number<struct PhysAddrTag>;  // bytes, in simulated physical memory
using Vpn = Number<struct VpnTag>;            // virtual address / 4 KiB
using Pfn = Number<struct PfnTag>;            // physical address / 4 KiB

constexpr unsigned kPageShift = 12;
constexpr std::uint64_t kPageSize = 1ULL << kPageShift;
constexpr unsigned kIndexBits = 9;
constexpr std::uint64_t kEntries = 1ULL << kIndexBits;  // entries of a table page
constexpr std::uint64_t kPmdSize = 1ULL << (kPageShift + kIndexBits);
constexpr std::uint64_t kPudSize = kPmdSize << kIndexBits;

// Levels of a page table by position, counted from the leaf, with the kernel's names. With four
// levels the root stands at P4d's position (it is indexed by bits 47..39) and is called PGD: see
// kernel_name.
enum class Level : unsigned { Pte = 0, Pmd = 1, Pud = 2, P4d = 3, Pgd = 4 };
constexpr unsigned kLevels = 5;

constexpr Level top_level(unsigned levels) {
    return levels == 5 ? Level::Pgd : Level::P4d;
}
constexpr Level kernel_name(Level position, unsigned levels) {
    return position == top_level(levels) ? Level::Pgd : position;
}

// As metrics name them; index: Level.
constexpr const char* kLevelNames[kLevels] = {"pte", "pmd", "pud", "p4d", "pgd"};

constexpr unsigned index_of(Level level) {
    return static_cast<unsigned>(level);
}

// What an access wants; also the kind of a fault.
enum class Access : unsigned { Read = 0, Write = 1, Fetch = 2 };

constexpr Vpn vpn_of(VirtAddr a) {
    return Vpn(a.value >> kPageShift);
}
constexpr Pfn pfn_of(PhysAddr a) {
    return Pfn(a.value >> kPageShift);
}
constexpr VirtAddr address_of(Vpn v) {
    return VirtAddr(v.value << kPageShift);
}
constexpr PhysAddr address_of(Pfn p) {
    return PhysAddr(p.value << kPageShift);
}
constexpr std::uint64_t page_offset(VirtAddr a) {
    return a.value & (kPageSize - 1);
}
constexpr VirtAddr align_down(VirtAddr a, std::uint64_t size) {
    return VirtAddr(a.value & ~(size - 1));
}
constexpr VirtAddr align_up(VirtAddr a, std::uint64_t size) {
    return VirtAddr((a.value + size - 1) & ~(size - 1));
}
constexpr bool is_aligned(std::uint64_t v, std::uint64_t size) {
    return (v & (size - 1)) == 0;
}

}  // namespace ptshare

template <class Tag>
struct std::hash<ptshare::Number<Tag>> {
    std::size_t operator()(ptshare::Number<Tag> n) const noexcept {
        return std::hash<std::uint64_t>()(n.value);
    }
};
