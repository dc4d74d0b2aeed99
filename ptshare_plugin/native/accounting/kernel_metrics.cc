#include "accounting/kernel_metrics.h"

#include "accounting/vocabulary.h"

namespace ptshare::engine {

namespace {

template <Level level>
std::uint64_t tables_at(const Kernel& k) {
    return k.tables().peak().by_level[index_of(level)];
}

template <Owner owner>
std::uint64_t bytes_of(const Kernel& k) {
    return k.tables().peak().by_owner[static_cast<unsigned>(owner)] * kPageSize;
}

template <Refusal reason>
std::uint64_t refused(const Kernel& k) {
    return k.stats().refusals[static_cast<unsigned>(reason)];
}

constexpr KernelMetric kMetrics[] = {
    {"pt.bytes", [](const Kernel& k) { return k.tables().peak().total() * kPageSize; }},
    {"pt.bytes.guest", bytes_of<Owner::Guest>},
    {"pt.bytes.host", bytes_of<Owner::Host>},
    {"pt.tables.pte", tables_at<Level::Pte>},
    {"pt.tables.pmd", tables_at<Level::Pmd>},
    {"pt.tables.pud", tables_at<Level::Pud>},
    {"pt.tables.p4d", tables_at<Level::P4d>},
    {"pt.tables.pgd", tables_at<Level::Pgd>},
    {"pt.end.bytes", [](const Kernel& k) { return k.tables().counts().total() * kPageSize; }},
    {"pt.region.pte_tables", [](const Kernel& k) { return k.tables().peak_region_pte(); }},
    {"pt.region.bytes", [](const Kernel& k) { return k.tables().peak_region_pte() * kPageSize; }},
    {"pt.tables.allocated", [](const Kernel& k) { return k.tables().allocated(); }},
    {"pt.tables.freed", [](const Kernel& k) { return k.tables().freed(); }},
    {"pt.host_mms", [](const Kernel& k) { return k.stats().peak_hosts; }},
    {"share.links", [](const Kernel& k) { return k.stats().links; }},
    {"share.carried_pages", [](const Kernel& k) { return k.stats().carried_pages; }},
    {"share.refused.anonymous", refused<Refusal::Anonymous>},
    {"share.refused.private", refused<Refusal::Private>},
    {"share.refused.misaligned", refused<Refusal::Misaligned>},
    {"share.refused.address", refused<Refusal::Address>},
    {"share.refused.protection", refused<Refusal::Protection>},
    {"share.refused.size", refused<Refusal::Size>},
    {"share.refused.room", refused<Refusal::Room>},
    {"share.fell_back", [](const Kernel& k) { return k.stats().fell_back; }},
    {"share.dangling_links", [](const Kernel& k) { return k.stats().dangling_links; }},
    {"share.room_bytes", [](const Kernel& k) { return k.stats().peak_room; }},
    {"rss.file_pages.peak", [](const Kernel& k) { return k.stats().peak_rss_file; }},
    {"rss.anon_pages.peak", [](const Kernel& k) { return k.stats().peak_rss_anon; }},
    {"frames.page_cache", [](const Kernel& k) { return k.frames().in_use(FrameUse::FilePage); }},
    {"frames.end",
     [](const Kernel& k) {
         return k.frames().in_use(FrameUse::Table) + k.frames().in_use(FrameUse::AnonPage);
     }},
};
static_assert(all_known(kMetrics), "a metric of core's has no row in the vocabulary");

}  // namespace

const std::vector<KernelMetric>& kernel_metrics() {
    static const std::vector<KernelMetric> metrics(std::begin(kMetrics), std::end(kMetrics));
    return metrics;
}

}  // namespace ptshare::engine
