// What restore() holds data against, so that no damaged snapshot becomes a kernel.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "kernel.h"
#include "snapshot.h"

namespace ptshare {

using TreesById = std::map<MmId, PageTable*>;

// Each function throws std::runtime_error with one line that names what is damaged.
class SnapshotChecks {
  public:
    // `kernel`: the one that is being read; must outlive this.
    explicit SnapshotChecks(const Kernel& kernel) : kernel_(kernel) {}

    // The kernel's allocator, as far as it was read; counts what is in use.
    void frames(FrameAllocator& frames);
    // Each frame has one owner, which uses it as the allocator says. After frames().
    void claim(Pfn pfn, FrameUse use);
    // The pages of a file's cache.
    void file(const File& file);
    void ids(const FilesById& files, std::uint64_t next_file, const TreesById& trees, MmId next_mm);
    // That nothing points into the void, which audit() relies on; it finds whatever else is wrong.
    void whole(const TreesById& trees);

  private:
    void table(const TablePage& page) const;

    const Kernel& kernel_;
    std::vector<bool> claimed_;  // index: frame
};

}  // namespace ptshare
