#include "exec.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare {

namespace {

// [vvar], [vvar_vclock] and [vdso] of Linux 6.18. A program is not told of them (no
// AT_SYSINFO_EHDR), so they only take their room.
constexpr std::uint64_t kVdsoBytes = 8 * kPageSize;
constexpr std::uint64_t kInitialStack = 132 * 1024;  // Linux: setup_arg_pages' 128 KiB and a page

void map(Kernel& kernel, Mm& mm, const MapRequest& request, const File& program) {
    if (!kernel.mmap(mm, request).ok()) {
        throw std::runtime_error(program.name() + ": a segment does not fit the address space");
    }
}

void map_segment(Kernel& kernel, Mm& mm, const std::shared_ptr<File>& file, const Segment& segment,
                 const ClearUser& clear) {
    const VirtAddr start = align_down(segment.address, kPageSize);
    const VirtAddr file_end = segment.address + segment.file_bytes;
    const VirtAddr end = align_up(segment.address + segment.memory_bytes, kPageSize);
    const VirtAddr mapped_end = segment.file_bytes == 0 ? start : align_up(file_end, kPageSize);
    MapRequest request;
    request.prot = segment.prot;
    request.flags = kMapPrivate | kMapFixed;
    if (mapped_end > start) {
        request.address = start;
        request.length = mapped_end - start;
        request.file = file;
        request.offset = segment.offset - page_offset(segment.address);
        request.file_writable = false;
        map(kernel, mm, request, *file);
    }
    if (end > mapped_end) {
        request.address = mapped_end;
        request.length = end - mapped_end;
        request.file = nullptr;
        request.offset = 0;
        request.flags |= kMapAnonymous;
        map(kernel, mm, request, *file);
    }
    // The rest of the last page of file bytes belongs to .bss.
    if (segment.memory_bytes > segment.file_bytes && (segment.prot & kProtWrite) &&
        mapped_end > file_end) {
        const VirtAddr rest_end = std::min(mapped_end, segment.address + segment.memory_bytes);
        if (!clear(file_end, rest_end - file_end)) {
            throw std::runtime_error(file->name() + ": .bss cannot be cleared");
        }
    }
}

}  // namespace

void map_program(Kernel& kernel, Mm& mm, const std::shared_ptr<File>& file,
                 const std::vector<Segment>& segments, const ClearUser& clear) {
    // As after any earlier start of the program: its pages wait in the page cache.
    for (std::uint64_t i = 0; i < file->pages(); ++i) file->page(i);
    VirtAddr heap(0);
    for (const Segment& segment : segments) {
        map_segment(kernel, mm, file, segment, clear);
        heap = std::max(heap, align_up(segment.address + segment.memory_bytes, kPageSize));
    }
    mm.brk_start = heap;
    mm.brk = heap;
    MapRequest stack;
    stack.address = kStackTop - kInitialStack;
    stack.length = kInitialStack;
    stack.prot = kProtRead | kProtWrite;
    stack.flags = kMapPrivate | kMapAnonymous | kMapFixed | kMapGrowsDown;
    map(kernel, mm, stack, *file);
    Vma vdso;
    vdso.end = kernel.mmap_base();
    vdso.start = VirtAddr(vdso.end.value - kVdsoBytes);
    vdso.flags = kVmPfnMap;
    if (mm.overlaps(vdso.start, vdso.end)) {
        throw std::runtime_error(file->name() + ": a segment lies where the vdso goes");
    }
    mm.insert(std::move(vdso));
}

}  // namespace ptshare
