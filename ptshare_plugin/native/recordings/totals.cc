#include "recordings/totals.h"

#include <algorithm>

#include "recordings/piece.h"

namespace ptshare::recordings {

void Totals::take_absent(const Definition& definition, const Left& done, const Word* addresses) {
    for (std::size_t i = 0; i < done.accesses; ++i) {
        const Access& access = definition.accesses[i];
        if (access.happens(addresses)) continue;
        std::uint64_t& kind = access.kind == AccessKind::Load    ? loads
                              : access.kind == AccessKind::Store ? stores
                                                                 : modifies;
        --kind;
    }
}

void Totals::add_event(unsigned kind, const Word* words, std::size_t count) {
    ++events;
    const std::size_t stamp = form_of(kind).stamp;
    if (stamp >= count) return;
    if (first_stamp == 0) first_stamp = words[stamp];
    last_stamp = std::max<std::uint64_t>(last_stamp, words[stamp]);
}

}  // namespace ptshare::recordings
