// A file and its page cache: the pages that every mapping of the file shares.
#pragma once

#include <cstdint>
#include <string>

#include "chunked.h"
#include "frames.h"
#include "types.h"

namespace ptshare {

// Pages live in the cache from their first use until the file shrinks or goes; they are never
// reclaimed. Owned jointly (shared_ptr) by descriptors, directory entries and VMAs.
class File {
  public:
    // `frames` and `contents` must outlive the file.
    File(std::uint64_t id, std::string name, FrameAllocator& frames, FrameContents& contents);
    ~File();
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    std::uint64_t id() const { return id_; }
    const std::string& name() const { return name_; }
    std::uint64_t size() const { return size_; }
    // Pages that hold any byte of the file: an access beyond them is SIGBUS.
    std::uint64_t pages() const { return (size_ + kPageSize - 1) >> kPageShift; }

    // Whether the cache holds pages of 2 MiB, as hugetlbfs' does: 512 contiguous frames, brought in
    // and dropped together. The size is then a multiple of that.
    bool huge() const { return huge_; }
    // Turns a file of such a size into one, for good; nobody maps its cached pages.
    void make_huge();

    // Sets the size in bytes; whoever shrinks a file unmaps the cut pages first (Kernel::truncate).
    void resize(std::uint64_t bytes);

    // The cached page `index`, or Pfn(0).
    Pfn cached(std::uint64_t index) const { return index < cache_.size() ? cache_[index] : Pfn(0); }
    // No page at or beyond this one is cached.
    std::uint64_t cached_end() const { return cache_.size(); }
    // The page `index` (< pages()), brought into the cache if need be.
    Pfn page(std::uint64_t index);
    // Whether pages [first, first + n) are all cached, in frames that follow each other.
    bool contiguous(std::uint64_t first, std::uint64_t n) const {
        return first + n <= cache_.size() && cache_[first] != Pfn(0) && cache_.regular(first, n);
    }
    // The next `n` pages behind the cached ones, as page() of each in order, in frames that nobody
    // has had; contents count only.
    void bring_in_next(std::uint64_t n);
    // Brings in all pages below `end` (at most pages()), as page() of each in order. At once where
    // none is cached and contents count only.
    void read_ahead(std::uint64_t end);

  private:
    template <bool kReads>
    friend class Snapshot;

    std::uint64_t id_;
    std::string name_;
    std::uint64_t size_ = 0;
    bool huge_ = false;
    // Index: page of the file (4 KiB); owns one reference to each frame. Of a huge file: whole 2
    // MiB pages only.
    Chunked<Pfn> cache_;
    FrameAllocator& frames_;  // the kernel's, as contents_
    FrameContents& contents_;
};

}  // namespace ptshare
