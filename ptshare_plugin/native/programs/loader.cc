#include "programs/loader.h"

#include <stdexcept>

namespace ptshare::engine {

namespace {

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

}  // namespace

VirtAddr Loader::load(Core& core, Mm& mm, const Program& program,
                      const std::vector<std::string>& argv, const std::vector<std::string>& env) {
    map_program(machine_.kernel(), mm, program.file, program.segments,
                [&](VirtAddr at, std::uint64_t n) { return memory_.fill_zero(core, at, n); });
    return build_stack(core, program, argv, env);
}

VirtAddr Loader::build_stack(Core& core, const Program& program,
                             const std::vector<std::string>& argv,
                             const std::vector<std::string>& env) {
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
