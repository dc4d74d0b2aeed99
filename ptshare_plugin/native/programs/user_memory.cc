#include "programs/user_memory.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace ptshare::engine {

namespace {

constexpr std::uint64_t kLongestString = 128 * 1024;  // MAX_ARG_STRLEN

}  // namespace

template <class Copy>
bool UserMemory::each_page(Core& core, VirtAddr address, std::uint64_t n, Access access,
                           Copy&& copy) {
    for (std::uint64_t done = 0; done < n;) {
        const VirtAddr at = address + done;
        const std::uint64_t part = std::min(n - done, kPageSize - page_offset(at));
        if (at >= machine_.kernel().task_size()) return false;
        PhysAddr physical;
        if (!machine_.make_accessible(core, at, access, &physical)) return false;
        if (access == Access::Write) memory_.written(pfn_of(physical));
        std::uint8_t* bytes = memory_.data() + physical.value;
        if (!copy(bytes, done, part)) return true;
        done += part;
    }
    return true;
}

bool UserMemory::read(Core& core, VirtAddr from, void* to, std::uint64_t n) {
    return each_page(core, from, n, Access::Read, [&](auto* bytes, auto done, auto part) {
        std::memcpy(static_cast<std::uint8_t*>(to) + done, bytes, part);
        return true;
    });
}

bool UserMemory::write(Core& core, VirtAddr to, const void* from, std::uint64_t n) {
    return each_page(core, to, n, Access::Write, [&](auto* bytes, auto done, auto part) {
        std::memcpy(bytes, static_cast<const std::uint8_t*>(from) + done, part);
        return true;
    });
}

bool UserMemory::fill_zero(Core& core, VirtAddr to, std::uint64_t n) {
    return each_page(core, to, n, Access::Write, [&](auto* bytes, auto, auto part) {
        std::memset(bytes, 0, part);
        return true;
    });
}

std::optional<std::string> UserMemory::read_string(Core& core, VirtAddr from) {
    std::string text;
    bool ended = false;
    const bool readable =
        each_page(core, from, kLongestString, Access::Read, [&](auto* bytes, auto, auto part) {
            const std::string_view piece(reinterpret_cast<const char*>(bytes), part);
            const std::size_t end = piece.find('\0');
            ended = end != std::string_view::npos;
            text.append(piece.substr(0, end));
            return !ended;
        });
    if (!readable || !ended) return std::nullopt;
    return text;
}

}  // namespace ptshare::engine
