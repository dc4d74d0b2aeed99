// TLB entries that processes share (mmu.shared_tags), as BabelFish proposes (Skarlatos et al.,
// ISCA 2020): a translation that came from a host's table is tagged by the range instead of the
// process, so that what one guest filled serves the others that map the range at the same address.
// Paging-structure caches stay each process's own: the tables above a link are.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "accounting/params.h"
#include "translation/asids.h"
#include "translation/translation_caches.h"

namespace ptshare::engine {

class SharedTags {
  public:
    explicit SharedTags(const Params& params) : on_(params.flag("mmu.shared_tags")) {}

    bool on() const { return on_; }
    // Of one range at one distance.
    struct Tag {
        std::size_t index = 0;     // among the tags
        std::uint64_t serial = 0;  // never used again, as the index is when the host is gone
        std::weak_ptr<const HostMm> host;
        Pcid pcid() const { return static_cast<Pcid>(kFirst + index); }
    };

    // What lies at `address`, for an access of `mm` on a CPU. Flushes what the CPU holds of the
    // range when the host has changed since. Throws std::runtime_error when more ranges are shared
    // than there are tags.
    SharedRange use(Asids& asids, TranslationCaches& caches, const Mm& mm, VirtAddr address);
    // The tag of a host whose address 0 guests see at `shift`; null: nobody has used it.
    const Tag* find(MmId host, std::uint64_t shift) const;

  private:
    static constexpr std::size_t kFirst = 1 << 12;  // PCIDs have 12 bits
    static constexpr std::size_t kTags = (1 << 16) - kFirst;

    // Takes back those of hosts that are gone.
    void collect();

    bool on_;
    std::map<std::pair<MmId, std::uint64_t>, Tag> tags_;  // by host and shift
    std::vector<std::size_t> free_;                       // indices that were given and taken back
    std::size_t given_ = 0;                               // indices, ever
    std::size_t collect_at_ = 64;                         // so many in tags_
    std::uint64_t serials_ = 0;
};

}  // namespace ptshare::engine
