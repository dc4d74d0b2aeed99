#include "streams/refusal.h"

#include <array>
#include <cstdio>
#include <stdexcept>

namespace ptshare::engine {

namespace {

std::string hexadecimal(std::uint64_t number) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
    return text;
}

// Of what one entry translates: 2 MiB, 1 GiB, 512 GiB, 256 TiB.
std::string size_text(std::uint64_t bytes) {
    if (bytes >> 40) return std::to_string(bytes >> 40) + " TiB";
    if (bytes >> 30) return std::to_string(bytes >> 30) + " GiB";
    return std::to_string(bytes >> 20) + " MiB";
}

std::string reason_of(const Kernel& kernel, Refusal refusal) {
    const std::string unit = size_text(kernel.policy().alignment(kernel));
    const std::string instead = "--set share.level=pte or another address";
    switch (refusal) {
        case Refusal::Misaligned:
            return "misaligned to " + unit + "; " + instead;
        case Refusal::Room:
            return "other memory lies in the " + unit + " around it, which one link translates; " +
                   instead;
        case Refusal::Anonymous:
            return "anonymous memory is not shared";
        case Refusal::Private:
            return "private memory is not shared";
        case Refusal::Address:
            return "others map it at another address";
        case Refusal::Size:
            return "others map another size of it";
        case Refusal::Protection:
            return "others map it with another protection";
    }
    return "";
}

}  // namespace

VirtAddr map_or_say(Kernel& kernel, Mm& mm, const MapRequest& request, const std::string& what) {
    const std::array<std::uint64_t, kRefusals> before = kernel.stats().refusals;
    const MapResult result = kernel.mmap(mm, request);
    if (result.ok()) return result.address;
    std::string why = "mmap answers error " + std::to_string(static_cast<int>(result.error));
    for (unsigned i = 0; i < kRefusals; ++i) {
        if (kernel.stats().refusals[i] == before[i]) continue;
        why = reason_of(kernel, static_cast<Refusal>(i));
    }
    throw std::runtime_error("policy " + kernel.policy().name() + " does not map " + what + " at " +
                             hexadecimal(request.address.value) + ": " + why);
}

}  // namespace ptshare::engine
