#include "frames.h"

#include <algorithm>
#include <string>

namespace ptshare {

FrameAllocator::FrameAllocator(std::uint64_t memory_bytes, std::uint64_t first)
    : capacity_(memory_bytes >> kPageShift) {
    frames_.resize(first);
    for (std::uint64_t i = 0; i < first; ++i) take(Pfn(i), FrameUse::Reserved);
}

Pfn FrameAllocator::take(Pfn pfn, FrameUse use) {
    frames_.set(pfn.value, Frame{use, 1});
    ++in_use_[static_cast<unsigned>(use)];
    return pfn;
}

void FrameAllocator::out_of_memory() const {
    throw OutOfMemory("simulated memory of " + std::to_string(capacity_ >> (20 - kPageShift)) +
                      " MiB is exhausted: raise kernel.memory_bytes");
}

Pfn FrameAllocator::take_last(std::vector<Pfn>& list, FrameUse use) {
    const Pfn pfn = list.back();
    list.pop_back();
    return take(pfn, use);
}

void FrameAllocator::fill(std::vector<Pfn>& list) {
    if (!free_.empty()) {
        const auto n = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(kBatch, free_.size()));
        list.assign(free_.end() - n, free_.end());
        free_.erase(free_.end() - n, free_.end());
        return;
    }
    const std::uint64_t first = frames_.size();
    const std::uint64_t n = std::min(kBatch, capacity_ - std::min(capacity_, first));
    for (std::uint64_t i = 0; i < n; ++i) {
        frames_.append(Frame());
        list.push_back(Pfn(first + n - 1 - i));
    }
}

Pfn FrameAllocator::allocate(FrameUse use) {
    if (cpu_) {
        std::vector<Pfn>& own = lists_[*cpu_];
        if (own.empty()) fill(own);
        if (!own.empty()) return take_last(own, use);
    }
    if (!free_.empty()) return take_last(free_, use);
    if (frames_.size() >= capacity_) {
        for (std::vector<Pfn>& list : lists_) {
            if (!list.empty()) return take_last(list, use);
        }
        if (free_huge_.empty()) out_of_memory();
        const Pfn first = free_huge_.back();
        free_huge_.pop_back();
        for (std::uint64_t i = kEntries - 1; i != 0; --i) free_.push_back(first + i);
        return take(first, use);
    }
    return allocate_run(use, 1);
}

Pfn FrameAllocator::allocate_huge(FrameUse use) {
    if (!free_huge_.empty()) {
        const Pfn again = free_huge_.back();
        free_huge_.pop_back();
        for (std::uint64_t i = 0; i < kEntries; ++i) take(again + i, use);
        return again;
    }
    const std::uint64_t first = (frames_.size() + kEntries - 1) & ~(kEntries - 1);
    if (first + kEntries > capacity_) out_of_memory();
    while (frames_.size() < first) {
        free_.push_back(Pfn(frames_.size()));
        frames_.append(Frame());
    }
    return allocate_run(use, kEntries);
}

Pfn FrameAllocator::allocate_run(FrameUse use, std::uint64_t n) {
    const Pfn first(frames_.size());
    frames_.append(Frame{use, 1}, n);
    in_use_[static_cast<unsigned>(use)] += n;
    return first;
}

void FrameAllocator::allocate_many(FrameUse use, std::uint64_t n) {
    for (; n != 0 && untouched() < n; --n) allocate(use);
    if (n != 0) allocate_run(use, n);
}

void FrameAllocator::free_huge(Pfn first) {
    if (retired_) return;
    for (std::uint64_t i = 0; i < kEntries; ++i) {
        const Frame frame = frames_[first.value + i];
        if (frame.references != 1) throw std::logic_error("2 MiB given back while in use");
        --in_use_[static_cast<unsigned>(frame.use)];
        frames_.set(first.value + i, Frame());
    }
    free_huge_.push_back(first);
}

void FrameAllocator::add_reference(Pfn pfn) {
    Frame frame = frames_[pfn.value];
    ++frame.references;
    frames_.set(pfn.value, frame);
}

bool FrameAllocator::drop_reference(Pfn pfn) {
    if (retired_) return true;
    Frame frame = frames_[pfn.value];
    if (frame.references == 0) throw std::logic_error("frame freed twice");
    if (--frame.references != 0) {
        frames_.set(pfn.value, frame);
        return false;
    }
    --in_use_[static_cast<unsigned>(frame.use)];
    frames_.set(pfn.value, Frame());
    free_.push_back(pfn);
    return true;
}

}  // namespace ptshare
