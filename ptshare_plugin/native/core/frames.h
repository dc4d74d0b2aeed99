// Simulated physical memory as the kernel hands it out: 4 KiB frames, each with one use.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

#include "chunked.h"
#include "types.h"

namespace ptshare {

class File;

enum class FrameUse : std::uint8_t { Free = 0, Table, FilePage, AnonPage, Reserved };
constexpr unsigned kFrameUses = 5;

// The bytes behind frames. Core decides which frame holds what; whoever runs programs keeps the
// bytes. The default keeps none, for runs that only count.
class FrameContents {
  public:
    virtual ~FrameContents() = default;
    virtual void zero(Pfn) {}
    virtual void copy(Pfn /*to*/, Pfn /*from*/) {}
    // Fills a frame with page `index` of a file, zeros past its end.
    virtual void read_file(const File&, std::uint64_t /*index*/, Pfn) {}
    // A file was cut to `bytes`: what it held beyond reads as zeros from now on, also in `last`,
    // the cached page that the cut goes through (Pfn(0): none).
    virtual void cut_file(const File&, std::uint64_t /*bytes*/, Pfn /*last*/) {}
    // The frame was given back: nothing may be remembered of it.
    virtual void released(Pfn) {}
    // A new table page is all zeros; an entry of one, at its physical address, has a new value. For
    // engines whose walkers read tables from simulated memory.
    virtual void zero_table(Pfn) {}
    virtual void write_entry(PhysAddr, std::uint64_t /*bits*/) {}
    // The same where a walker set A or D, and not the kernel.
    virtual void walker_wrote(PhysAddr address, std::uint64_t bits) { write_entry(address, bits); }
    // Nothing is kept of any frame, so that nobody misses these calls: operations on many pages may
    // leave them out.
    virtual bool counts_only() const { return false; }
};

// For runs that only count, and do it at full size.
class NoContents final : public FrameContents {
  public:
    bool counts_only() const override { return true; }
};

// Simulated memory ran out. A run ends with this message; it is no host failure.
class OutOfMemory : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Frame 0 is reserved, so that Pfn(0) can mean "none". Freed frames are used again, last freed
// first, so that one seed gives one layout.
class FrameAllocator {
  public:
    // Hands out frames from `first` (at least 1) up to the end of `memory_bytes`; whoever owns the
    // memory below uses that.
    explicit FrameAllocator(std::uint64_t memory_bytes, std::uint64_t first = 1);

    // From now on single frames come from the list of a CPU, as from Linux's per-CPU page lists
    // (mm/page_alloc.c): filled with some that follow each other, so that what a CPU takes lies
    // together, whatever others take meanwhile. Without this there is one list for all.
    void use_list(unsigned cpu) {
        if (lists_.size() <= cpu) lists_.resize(cpu + 1);
        cpu_ = cpu;
    }

    // One frame, or 512 contiguous ones that start on a 2 MiB boundary. Throws OutOfMemory.
    Pfn allocate(FrameUse use);
    Pfn allocate_huge(FrameUse use);
    // n frames, wherever they are.
    void allocate_many(FrameUse use, std::uint64_t n);
    // Gives back what allocate_huge() gave, all of it with one reference.
    void free_huge(Pfn first);

    // How many frames allocate() would hand out one after the other without using freed ones.
    std::uint64_t untouched() const {
        return free_.empty() && free_huge_.empty() ? capacity_ - frames_.size() : 0;
    }
    // As n calls of allocate(), n at most untouched(): the first of n contiguous frames.
    Pfn allocate_run(FrameUse use, std::uint64_t n);

    // Anonymous pages are shared between mms after fork; other uses have one reference.
    void add_reference(Pfn pfn);
    // Drops a reference; true when that was the last and the frame is free again.
    bool drop_reference(Pfn pfn);

    // The machine goes: what is given back from now on is not kept track of.
    void retire() { retired_ = true; }
    bool retired() const { return retired_; }

    FrameUse use(Pfn pfn) const { return frames_[pfn.value].use; }
    std::uint32_t references(Pfn pfn) const { return frames_[pfn.value].references; }
    std::uint64_t in_use(FrameUse use) const { return in_use_[static_cast<unsigned>(use)]; }
    // One more than the highest frame number handed out so far.
    std::uint64_t high_water() const { return frames_.size(); }
    std::uint64_t capacity() const { return capacity_; }

  private:
    template <bool kReads>
    friend class Snapshot;
    friend class SnapshotChecks;

    struct Frame {
        FrameUse use = FrameUse::Free;
        std::uint32_t references = 0;  // invariant: 0 exactly when use is Free

        friend constexpr bool operator==(Frame a, Frame b) {
            return a.use == b.use && a.references == b.references;
        }
        // Neighbours in a block are alike (see Chunked).
        friend constexpr Frame advanced(Frame frame, std::uint64_t) { return frame; }
    };

    static constexpr std::uint64_t kBatch = 63;  // zone_batchsize() of a zone of 1 GiB and more

    Pfn take(Pfn pfn, FrameUse use);
    Pfn take_last(std::vector<Pfn>& list, FrameUse use);
    // Fills the empty list of a CPU with what was freed last, or else with untouched frames; there
    // may be neither.
    void fill(std::vector<Pfn>& list);
    [[noreturn]] void out_of_memory() const;

    std::uint64_t capacity_;  // frames, 0 included; invariant: at least frames_.size()
    Chunked<Frame> frames_;   // index: frame number
    std::vector<Pfn> free_;   // freed frames below frames_.size(); last in, first out
    // By CPU, of frames below frames_.size() that are free and in no other list; taken from the
    // back.
    std::vector<std::vector<Pfn>> lists_;
    std::optional<unsigned> cpu_;  // whose list is used; none: free_ alone
    // First frames of freed 2 MiB; last in, first out. Broken up when no other frame is left.
    std::vector<Pfn> free_huge_;
    bool retired_ = false;
    std::array<std::uint64_t, kFrameUses> in_use_{};  // invariant: equals a count over frames_
};

}  // namespace ptshare
