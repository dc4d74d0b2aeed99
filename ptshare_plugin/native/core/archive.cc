#include "archive.h"

#include <algorithm>
#include <istream>
#include <stdexcept>

namespace ptshare::snapshot {

void fail(const std::string& what) {
    throw std::runtime_error("snapshot: " + what);
}

// FNV-1a. Its steps are bijections: no change of a single byte goes unnoticed.
std::uint64_t checksum(const std::string& bytes) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
}

std::string take(std::istream& from, std::uint64_t bytes) {
    std::string taken;
    std::array<char, 1 << 16> block;  // a damaged length must not be allocated at once
    while (taken.size() < bytes) {
        const std::uint64_t ask = std::min<std::uint64_t>(block.size(), bytes - taken.size());
        from.read(block.data(), static_cast<std::streamsize>(ask));
        if (from.gcount() == 0) fail("truncated");
        taken.append(block.data(), static_cast<std::size_t>(from.gcount()));
    }
    return taken;
}

}  // namespace ptshare::snapshot
