#include "engine/loader.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare::engine {

namespace {

constexpr VirtAddr kStackTop(0x7ffffffff000);
constexpr std::uint64_t kInitialStack = 132 * 1024;  // Linux: setup_arg_pages' 128 KiB and a page

// Auxiliary vector types (uapi/linux/auxvec.h).
enum Aux : std::uint64_t {
    kAuxNull = 0,
    kAuxHeaders = 3,
    kAuxHeaderBytes = 4,
    kAuxHeaderCount = 5,
    kAuxPageSize = 6,
    kAuxBase = 7,
    kAuxFlags = 8,
    kAuxEntry = 9,
    kAuxUid = 11,
    kAuxEuid = 12,
    kAuxGid = 13,
    kAuxEgid = 14,
    kAuxClockTick = 17,
    kAuxSecure = 23,
    kAuxRandom = 25,
    kAuxName = 31,
};

void map(Kernel& kernel, Mm& mm, const MapRequest& request, const Program& program) {
    const MapResult result = kernel.mmap(mm, request);
    if (!result.ok()) {
        throw std::runtime_error(program.name + ": a segment does not fit the address space");
    }
}

}  // namespace

VirtAddr Loader::load(Core& core, Mm& mm, const Program& program,
                      const std::vector<std::string>& argv, const std::vector<std::string>& env) {
    VirtAddr heap(0);
    for (const Segment& segment : program.segments) {
        map_segment(core, mm, program, segment);
        heap = std::max(heap, align_up(segment.address + segment.memory_bytes, kPageSize));
    }
    mm.brk_start = heap;
    mm.brk = heap;
    return build_stack(core, mm, program, argv, env);
}

void Loader::map_segment(Core& core, Mm& mm, const Program& program, const Segment& segment) {
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
        request.file = program.file;
        request.offset = segment.offset - page_offset(segment.address);
        request.file_writable = false;
        map(machine_.kernel(), mm, request, program);
    }
    if (end > mapped_end) {
        request.address = mapped_end;
        request.length = end - mapped_end;
        request.file = nullptr;
        request.offset = 0;
        request.flags |= kMapAnonymous;
        map(machine_.kernel(), mm, request, program);
    }
    // The rest of the last page of file bytes belongs to .bss.
    if (segment.memory_bytes > segment.file_bytes && (segment.prot & kProtWrite) &&
        mapped_end > file_end) {
        const std::uint64_t rest =
            std::min(mapped_end, segment.address + segment.memory_bytes) - file_end;
        if (!memory_.fill_zero(core, file_end, rest)) {
            throw std::runtime_error(program.name + ": .bss cannot be cleared");
        }
    }
}

VirtAddr Loader::build_stack(Core& core, Mm& mm, const Program& program,
                             const std::vector<std::string>& argv,
                             const std::vector<std::string>& env) {
    MapRequest request;
    request.address = kStackTop - kInitialStack;
    request.length = kInitialStack;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapPrivate | kMapAnonymous | kMapFixed | kMapGrowsDown;
    map(machine_.kernel(), mm, request, program);

    const auto put = [&](VirtAddr at, const void* bytes, std::uint64_t n) {
        if (!memory_.write(core, at, bytes, n)) {
            throw std::runtime_error(program.name + ": arguments do not fit the stack");
        }
    };
    VirtAddr top = kStackTop - 8;
    const auto push_string = [&](const std::string& text) {
        top = top - (text.size() + 1);
        put(top, text.c_str(), text.size() + 1);
        return top.value;
    };
    const std::uint64_t name = push_string(program.name);
    std::vector<std::uint64_t> env_at;
    for (const std::string& text : env) env_at.push_back(push_string(text));
    std::vector<std::uint64_t> argv_at;
    for (const std::string& text : argv) argv_at.push_back(push_string(text));
    // splitmix64 (Steele, Lea, Flood 2014): sixteen bytes that depend on the seed alone.
    std::uint64_t random[2];
    std::uint64_t state = seed_;
    for (std::uint64_t& word : random) {
        state += 0x9e3779b97f4a7c15ULL;
        word = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
        word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
        word ^= word >> 31;
    }
    top = align_down(top - sizeof(random), 16);
    put(top, random, sizeof(random));

    std::vector<std::uint64_t> words{argv.size()};
    words.insert(words.end(), argv_at.begin(), argv_at.end());
    words.push_back(0);
    words.insert(words.end(), env_at.begin(), env_at.end());
    words.push_back(0);
    const std::uint64_t aux[][2] = {
        {kAuxHeaders, program.headers.value},
        {kAuxHeaderBytes, program.header_bytes},
        {kAuxHeaderCount, program.header_count},
        {kAuxPageSize, kPageSize},
        {kAuxBase, 0},
        {kAuxFlags, 0},
        {kAuxEntry, program.entry.value},
        {kAuxUid, 0},
        {kAuxEuid, 0},
        {kAuxGid, 0},
        {kAuxEgid, 0},
        {kAuxClockTick, 100},
        {kAuxSecure, 0},
        {kAuxRandom, top.value},
        {kAuxName, name},
        {kAuxNull, 0},
    };
    for (const auto& pair : aux) words.insert(words.end(), pair, pair + 2);
    // The ABI wants the stack pointer on a 16-byte boundary, at argc.
    const VirtAddr stack = align_down(top - words.size() * sizeof(words[0]), 16);
    put(stack, words.data(), words.size() * sizeof(words[0]));
    return stack;
}

}  // namespace ptshare::engine
