#include "file.h"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

namespace ptshare {

File::File(std::uint64_t id, std::string name, FrameAllocator& frames, FrameContents& contents)
    : id_(id), name_(std::move(name)), frames_(frames), contents_(contents) {
}

File::~File() {
    resize(0);
}

void File::resize(std::uint64_t bytes) {
    const bool cut = bytes < size_;
    size_ = bytes;
    if (huge_ && !is_aligned(bytes, kPmdSize)) throw std::logic_error("a part of a 2 MiB page");
    // Of a machine that goes and keeps nothing, there is nothing to give back.
    const bool gone = frames_.retired() && contents_.counts_only();
    for (std::uint64_t i = gone ? cache_.size() : pages(); i < cache_.size(); ++i) {
        const Pfn pfn = cache_[i];
        if (pfn == Pfn(0)) continue;
        if (!huge_ && !frames_.drop_reference(pfn)) continue;
        if (huge_ && i % kEntries == 0) frames_.free_huge(pfn);
        contents_.released(pfn);
    }
    if (cache_.size() > pages()) cache_.resize(pages());
    if (cut) {
        const bool inside = !is_aligned(bytes, kPageSize);
        contents_.cut_file(*this, bytes, inside ? cached(bytes >> kPageShift) : Pfn(0));
    }
}

void File::make_huge() {
    if (huge_) return;
    // All memory first: then nothing fails half-way.
    std::vector<Pfn> places((cache_.size() + kEntries - 1) / kEntries);
    try {
        for (std::uint64_t i = 0; i < cache_.size(); ++i) {
            Pfn& place = places[i / kEntries];
            if (cache_[i] != Pfn(0) && place == Pfn(0)) {
                place = frames_.allocate_huge(FrameUse::FilePage);
            }
        }
    } catch (const OutOfMemory&) {
        for (const Pfn place : places) {
            if (place != Pfn(0)) frames_.free_huge(place);
        }
        throw;
    }
    cache_.resize(places.size() * kEntries);
    for (std::uint64_t i = 0; i < cache_.size(); ++i) {
        if (places[i / kEntries] == Pfn(0)) continue;
        const Pfn place = places[i / kEntries] + i % kEntries;
        const Pfn old = cache_[i];
        if (old == Pfn(0)) {
            contents_.read_file(*this, i, place);
        } else {
            contents_.copy(place, old);
            if (frames_.drop_reference(old)) contents_.released(old);
        }
        cache_.set(i, place);
    }
    huge_ = true;
}

Pfn File::page(std::uint64_t index) {
    if (huge_) {
        const std::uint64_t first = index & ~(kEntries - 1);
        if (cache_.size() == first && contents_.counts_only()) {
            cache_.append(frames_.allocate_huge(FrameUse::FilePage), kEntries);
            return cache_[index];
        }
        if (cache_.size() < first + kEntries) cache_.resize(first + kEntries);
        if (cache_[first] == Pfn(0)) {
            const Pfn place = frames_.allocate_huge(FrameUse::FilePage);
            cache_.set_block(first, place);
            for (std::uint64_t i = 0; i < kEntries && !contents_.counts_only(); ++i) {
                contents_.read_file(*this, first + i, place + i);
            }
        }
        return cache_[index];
    }
    if (index >= cache_.size()) cache_.resize(index + 1);
    if (cache_[index] == Pfn(0)) {
        cache_.set(index, frames_.allocate(FrameUse::FilePage));
        contents_.read_file(*this, index, cache_[index]);
    }
    return cache_[index];
}

void File::bring_in_next(std::uint64_t n) {
    cache_.append(frames_.allocate_run(FrameUse::FilePage, n), n);
}

void File::read_ahead(std::uint64_t end) {
    if (huge_) {
        for (std::uint64_t i = 0; i < end; i += kEntries) page(i);
        return;
    }
    std::uint64_t i = 0;
    if (contents_.counts_only() && cache_.size() == 0) {
        i = std::min(end, frames_.untouched());
        bring_in_next(i);
    }
    for (; i < end; ++i) page(i);
}

}  // namespace ptshare
