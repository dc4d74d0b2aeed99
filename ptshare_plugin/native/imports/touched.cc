#include "imports/touched.h"

namespace ptshare::imports {

void Touched::mark(Word page, std::uint8_t how) {
    std::uint8_t& known = chunks_[page / kPages][page % kPages];
    known |= how;
    last_page_ = page;
    last_how_ = known;
}

bool Touched::any(Word start, Word end) const {
    for (Word page = start / kPage; page < end / kPage; ++page) {
        const auto found = chunks_.find(page / kPages);
        if (found == chunks_.end()) {
            page = (page / kPages + 1) * kPages - 1;
        } else if (found->second[page % kPages] != 0) {
            return true;
        }
    }
    return false;
}

std::vector<Area> Touched::areas(const std::vector<Area>& apart) const {
    std::vector<Area> found;
    auto next = apart.begin();
    for (const auto& [number, pages] : chunks_) {
        for (std::size_t i = 0; i < kPages; ++i) {
            if (pages[i] == 0) continue;
            const Word at = number * kChunk + i * kPage;
            while (next != apart.end() && next->end <= at) ++next;
            if (next != apart.end() && next->start <= at) continue;
            const bool parted =
                !found.empty() && next != apart.begin() && (next - 1)->start >= found.back().end;
            if (found.empty() || parted || at - found.back().end >= kChunk) {
                found.push_back({at, at, 0});
            }
            found.back().end = at + kPage;
            found.back().rights |= pages[i];
        }
    }
    return found;
}

}  // namespace ptshare::imports
