// Pages of a region that many address spaces touch alike.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "table_run.h"

namespace ptshare {

class PageSet {
  public:
    // None yet, of a region of so many pages.
    explicit PageSet(std::uint64_t pages) : pages_(pages), words_((pages + kBits - 1) / kBits) {}

    std::uint64_t pages() const { return pages_; }
    void add(std::uint64_t page);
    // The first page of the set at or after `page`; none: pages().
    std::uint64_t next(std::uint64_t page) const;

    // PTE tables that read them of a cached file, whose faults map windows of so many pages (a
    // power of two, at most 512; 1: the page alone) around them.
    struct Group {
        std::shared_ptr<const TableShape> shape;  // frames: of the file, from the first page on
        std::uint64_t faults = 0;
        std::uint64_t mapped = 0;  // pages
    };
    // Of the `tables` tables (at most 512) from page `first` on. Computed once, so that trees share
    // shapes; there is a page.
    const Group& group(std::uint64_t first, std::uint64_t tables, std::uint64_t window) const;
    // That group if it was computed before, or null.
    const Group* known(std::uint64_t first, std::uint64_t tables, std::uint64_t window) const;

  private:
    static constexpr std::uint64_t kBits = 64;
    using Key = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;

    std::uint64_t pages_;
    std::vector<std::uint64_t> words_;  // a bit for each page
    mutable std::map<Key, Group> groups_;
};

}  // namespace ptshare
