#include "engine/shared_tags.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare::engine {

Pcid SharedTags::find(MmId host, std::uint64_t shift) const {
    const auto found = tags_.find({host, shift});
    return found == tags_.end() ? Pcid{0} : found->second;
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
        if (tags_.size() > std::size_t{kLast - kFirst}) {
            throw std::runtime_error("mmu.shared_tags: more than " +
                                     std::to_string(kLast - kFirst + 1) + " ranges were shared");
        }
        found = tags_.emplace(key, static_cast<Pcid>(kFirst + tags_.size())).first;
    }
    const Pcid tag = found->second;
    const auto slot =
        std::find_if(asids.shared().begin(), asids.shared().end(),
                     [tag](const Asids::SharedSlot& each) { return each.tag == tag; });
    if (slot == asids.shared().end()) {
        asids.shared().push_back({tag, host.mm.tlb_generation, false});
    } else if (slot->generation != host.mm.tlb_generation) {
        caches.flush_pcid(tag);
        *slot = {tag, host.mm.tlb_generation, false};
    }
    return {tag, &host.mm.table, key.second};
}

}  // namespace ptshare::engine
