#include "imports/process.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "recordings/varint.h"

namespace ptshare::imports {

namespace {

constexpr std::size_t kMostInstructions = 128, kMostAccesses = 256;
constexpr std::size_t kHandOver = 1 << 16;  // words
constexpr Word kThread = 1;                 // that makes the mappings which were there

std::vector<Word> text(const std::string& text) {
    std::vector<Word> words(text.size() / sizeof(Word) + 1);
    std::memcpy(words.data(), text.data(), text.size());
    return words;
}

}  // namespace

void Process::item(unsigned kind, Word small, const std::vector<Word>& words) {
    end_block();
    words_.push_back(PTSHARE_ITEM | Word{kind} << PTSHARE_KIND_SHIFT |
                     Word{words.size()} << PTSHARE_COUNT_SHIFT | small);
    words_.insert(words_.end(), words.begin(), words.end());
}

void Process::write(const std::string& name, Word born, const std::vector<Area>& shared) {
    instructions_.clear();
    used_.clear();
    writes_ = true;
    beyond = 0;
    item(PTSHARE_BORN, PTSHARE_WORDS_VERSION, {number_, 0, later(born), 0, 0});
    item(PTSHARE_NAME, 0, text(name));
    map_areas(shared);
    threads_.clear();
    thread_ = kThread;
}

void Process::map_areas(const std::vector<Area>& shared) {
    for (const Area& area : touched_.areas(shared)) {
        item(PTSHARE_MAP, area.rights, {area.start, area.end - area.start, 0, 0, 0, 0});
    }
    for (const Area& area : shared) {
        const Word bytes = area.end - area.start;
        item(
            PTSHARE_CALL, SYS_mmap | kThread << 16,
            {area.start, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, 3, 0, last_stamp_});
        std::vector<Word> file{0, area.start / kPage, bytes};
        char name[64];
        std::snprintf(name, sizeof name, "/dev/shm/shared-%#llx",
                      static_cast<unsigned long long>(area.start));
        for (const Word word : text(name)) file.push_back(word);
        item(PTSHARE_FILE, kThread, file);
        item(PTSHARE_RETURN, SYS_mmap | kThread << 16, {area.start, last_stamp_});
    }
}

void Process::instruction(Word address, unsigned bytes, Flow flow) {
    left_out_ = address >= kProgramEnd;
    if (left_out_) {
        ++beyond;
        return;
    }
    if (!writes_) {
        touched_.touch(address, std::max(bytes, 1U), kReads | kExecutes);
        return;
    }
    if (!instructions_.empty()) {
        const recordings::Instruction& last = instructions_.back();
        if (flow_ != Flow::On || last.address + last.bytes != address ||
            instructions_.size() == kMostInstructions || used_.size() >= kMostAccesses) {
            end_block();
        }
    }
    recordings::Instruction made;
    made.address = address;
    made.bytes = static_cast<std::uint8_t>(bytes);
    instructions_.push_back(made);
    flow_ = flow;
}

void Process::access(AccessKind kind, Word address, unsigned bytes) {
    if (left_out_ || address >= kProgramEnd || bytes == 0) {
        ++beyond;
        return;
    }
    if (!writes_) {
        touched_.touch(
            address, bytes,
            kind == AccessKind::Load ? kReads : static_cast<std::uint8_t>(kReads | kWrites));
        return;
    }
    if (instructions_.empty()) throw std::runtime_error("an access without its instruction");
    const auto instruction = static_cast<std::uint16_t>(instructions_.size() - 1);
    if (kind == AccessKind::Store) {
        for (auto each = used_.rbegin(); each != used_.rend(); ++each) {
            if (each->instruction != instruction) break;
            if (each->kind == AccessKind::Load && each->address == address &&
                each->bytes == bytes) {
                each->kind = AccessKind::Modify;
                return;
            }
        }
    }
    if (used_.size() == 2 * kMostAccesses) {
        throw std::runtime_error("an instruction with hundreds of accesses");
    }
    used_.push_back({instruction, static_cast<std::uint16_t>(bytes), kind, address});
}

// The words of PTSHARE_DEFINE are what makes it that block.
void Process::define() {
    const Word count = 3 + instructions_.size() + 3 * used_.size() + 2;
    words_.push_back(PTSHARE_ITEM | Word{PTSHARE_DEFINE} << PTSHARE_KIND_SHIFT |
                     count << PTSHARE_COUNT_SHIFT);
    words_.push_back(instructions_.front().address);
    words_.push_back(instructions_.size() | Word{used_.size()} << 16 | Word{used_.size()} << 32);
    words_.push_back(flow_ == Flow::Call     ? PTSHARE_BLOCK_CALLS
                     : flow_ == Flow::Return ? PTSHARE_BLOCK_RETURNS
                                             : 0);
    Word end = instructions_.front().address;
    for (const recordings::Instruction& each : instructions_) {
        words_.push_back(each.bytes | recordings::zigzag(each.address - end) << 8);
        end = each.address + each.bytes;
    }
    for (std::size_t i = 0; i < used_.size(); ++i) {
        words_.push_back(used_[i].instruction | static_cast<Word>(used_[i].kind) << 16 |
                         Word{used_[i].bytes} << 24 | Word{i} << 40);
        words_.push_back(0);
    }
    words_.insert(words_.end(), used_.size(), 0);
    words_.push_back(instructions_.size() | Word{used_.size()} << 16 |
                     Word{PTSHARE_BASE_UNKNOWN} << 32);
    words_.push_back(0);
}

void Process::end_block() {
    if (instructions_.empty()) return;
    key_.clear();
    const auto add = [this](const auto& value) {
        key_.append(reinterpret_cast<const char*>(&value), sizeof value);
    };
    add(instructions_.front().address);
    add(flow_);
    for (const recordings::Instruction& each : instructions_) add(each.bytes);
    for (const Used& each : used_) {
        add(each.instruction);
        add(each.bytes);
        add(each.kind);
    }
    const auto [found, is_new] =
        known_.try_emplace(key_, static_cast<std::uint32_t>(known_.size()));
    if (is_new) define();
    words_.push_back(PTSHARE_ITEM | Word{PTSHARE_BLOCK} << PTSHARE_KIND_SHIFT | found->second);
    for (const Used& each : used_) words_.push_back(each.address);
    instructions_.clear();
    used_.clear();
    if (words_.size() > kHandOver) hand_over();
}

void Process::hand_over() {
    encoder_.feed(reinterpret_cast<const char*>(words_.data()), words_.size() * sizeof(Word));
    words_.clear();
}

void Process::thread(Word id) {
    if (!writes_) return;
    const unsigned number =
        threads_.try_emplace(id, static_cast<unsigned>(threads_.size() + 1)).first->second;
    if (number == thread_) return;
    thread_ = number;
    item(PTSHARE_THREAD, number, {});
}

void Process::stamp(Word now) {
    if (writes_) item(PTSHARE_STAMP, 0, {later(now)});
}

void Process::call(unsigned number, const std::array<Word, 6>& arguments, Word result, Word called,
                   Word returned) {
    if (!writes_) return;
    const Word small = number | Word{thread_} << 16;
    std::vector<Word> words(arguments.begin(), arguments.end());
    words.push_back(later(called));
    item(PTSHARE_CALL, small, words);
    item(PTSHARE_RETURN, small, {result, later(returned)});
}

void Process::signal(unsigned number, Word now) {
    if (writes_) item(PTSHARE_SIGNAL, number | Word{thread_} << 16, {later(now)});
}

void Process::finish(Word now) {
    if (!writes_) return;
    item(PTSHARE_END, 1, {0, later(now)});
    hand_over();
}

}  // namespace ptshare::imports
