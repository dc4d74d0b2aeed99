#include "translation/shared_tags.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace ptshare::engine {

const SharedTags::Tag* SharedTags::find(MmId host, std::uint64_t shift) const {
    const auto found = tags_.find({host, shift});
    return found == tags_.end() ? nullptr : &found->second;
}

void SharedTags::collect() {
    for (auto it = tags_.begin(); it != tags_.end();) {
        if (it->second.host.expired()) {
            free_.push_back(it->second.index);
            it = tags_.erase(it);
        } else {
            ++it;
        }
    }
    collect_at_ = std::max<std::size_t>(2 * tags_.size(), 64);
}

SharedRange SharedTags::use(Asids& asids, TranslationCaches& caches, const Mm& mm,
                            VirtAddr address) {
    const auto after = mm.vmas.upper_bound(address);
    if (after == mm.vmas.begin()) return {};
    const Vma& vma = std::prev(after)->second;
    if (!vma.host || address >= vma.end) return {};
    const HostMm& host = *vma.host;
    const std::pair<MmId, std::uint64_t> key{host.mm.id, vma.start - host.start};
    auto found = tags_.find(key);
    if (found == tags_.end()) {
        if (tags_.size() >= collect_at_ || (free_.empty() && given_ == kTags)) collect();
        if (free_.empty() && given_ < kTags) free_.push_back(given_++);
        if (free_.empty()) {
            throw std::runtime_error("mmu.shared_tags: more than " + std::to_string(kTags) +
                                     " ranges are shared");
        }
        found = tags_.emplace(key, Tag{free_.back(), ++serials_, vma.host}).first;
        free_.pop_back();
    }
    const Tag& tag = found->second;
    if (tag.index >= asids.shared().size()) asids.shared().resize(tag.index + 1);
    Asids::SharedSlot& slot = asids.shared()[tag.index];
    if (slot.serial != tag.serial || slot.generation != host.mm.tlb_generation) {
        caches.flush_pcid(tag.pcid());
        slot = {tag.serial, host.mm.tlb_generation, false};
    }
    return {tag.pcid(), &host.mm.table, key.second};
}

}  // namespace ptshare::engine
