#include "file.h"

#include <utility>

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
    for (std::uint64_t i = pages(); i < cache_.size(); ++i) {
        if (cache_[i] != Pfn(0) && frames_.drop_reference(cache_[i])) contents_.released(cache_[i]);
    }
    if (cache_.size() > pages()) cache_.resize(pages());
    if (cut) {
        const bool inside = !is_aligned(bytes, kPageSize);
        contents_.cut_file(*this, bytes, inside ? cached(bytes >> kPageShift) : Pfn(0));
    }
}

Pfn File::page(std::uint64_t index) {
    if (index >= cache_.size()) cache_.resize(index + 1);
    if (cache_[index] == Pfn(0)) {
        cache_[index] = frames_.allocate(FrameUse::FilePage);
        contents_.read_file(*this, index, cache_[index]);
    }
    return cache_[index];
}

}  // namespace ptshare
