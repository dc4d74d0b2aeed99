// TLB entries that processes share (mmu.shared_tags), as BabelFish proposes (Skarlatos et al.,
// ISCA 2020): a translation that came from a host's table is tagged by the range instead of the
// process, so that what one guest filled serves the others that map the range at the same address.
// Paging-structure caches stay each process's own: the tables above a link are.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "engine/asids.h"
#include "engine/params.h"
#include "engine/translation_caches.h"

namespace ptshare::engine {

class SharedTags {
  public:
    explicit SharedTags(const Params& params) : on_(params.flag("mmu.shared_tags")) {}

    bool on() const { return on_; }
    // What lies at `address`, for an access of `mm` on a CPU. Flushes what the CPU holds of the
    // range when the host has changed since. Throws std::runtime_error when more ranges were shared
    // than there are tags.
    SharedRange use(Asids& asids, TranslationCaches& caches, const Mm& mm, VirtAddr address);
    // The tag of a host whose address 0 guests see at `shift`; 0: nobody has used it.
    Pcid find(MmId host, std::uint64_t shift) const;

  private:
    static constexpr Pcid kFirst = 1 << 12;  // PCIDs have 12 bits
    static constexpr Pcid kLast = 0xffff;

    bool on_;
    std::map<std::pair<MmId, std::uint64_t>, Pcid> tags_;  // by host and shift; never reused
};

}  // namespace ptshare::engine
