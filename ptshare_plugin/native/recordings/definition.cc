#include "recordings/definition.h"

#include <algorithm>
#include <stdexcept>

#include "recordings/varint.h"

namespace ptshare::recordings {

namespace {

constexpr std::size_t kHead = 3;

std::uint16_t short_at(Word word, unsigned shift) {
    return static_cast<std::uint16_t>(word >> shift);
}

[[noreturn]] void refuse() {
    throw std::runtime_error("damaged: a block's definition is not whole");
}

}  // namespace

Definition::Definition(const Word* words, std::size_t count) {
    if (count < kHead) refuse();
    address = words[0];
    instructions.resize(short_at(words[1], 0));
    accesses.resize(short_at(words[1], 16));
    addresses = short_at(words[1], 32);
    exits.resize(short_at(words[1], 48) + std::size_t{1});
    calls = (words[2] & PTSHARE_BLOCK_CALLS) != 0;
    returns = (words[2] & PTSHARE_BLOCK_RETURNS) != 0;
    foreign = (words[2] & PTSHARE_BLOCK_FOREIGN) != 0;
    if (count != kHead + instructions.size() + 2 * accesses.size() + addresses + 2 * exits.size()) {
        refuse();
    }
    const Word* at = words + kHead;
    Word end = address;
    for (Instruction& each : instructions) {
        each.bytes = static_cast<std::uint8_t>(*at);
        each.address = end + unzigzag(*at++ >> 8);
        if (spans.empty() || each.address != end) spans.push_back({each.address, 0});
        ++spans.back().instructions;
        end = each.address + each.bytes;
    }
    for (Access& each : accesses) {
        const unsigned kind = static_cast<unsigned>(at[0] >> 16) & 0xff;
        each.instruction = short_at(at[0], 0);
        each.bytes = short_at(at[0], 24);
        each.guarded = (kind & PTSHARE_GUARDED) != 0;
        each.kind = static_cast<AccessKind>(kind & ~unsigned{PTSHARE_GUARDED});
        each.base = short_at(at[0], 40);
        guarded = guarded || each.guarded;
        each.offset = at[1];
        at += 2;
        const bool based = each.base != PTSHARE_BASE_NONE;
        if (each.instruction >= instructions.size() || each.kind > AccessKind::Modify ||
            (based ? each.base >= addresses : each.guarded)) {
            refuse();
        }
    }
    for (std::uint16_t i = 0; i < addresses; ++i, ++at) {
        if ((*at & 1) == 0) continue;
        stack_address = i;
        stack_distance = unzigzag(*at >> 1);
    }
    for (Left& each : exits) {
        each.instructions = short_at(at[0], 0);
        each.accesses = short_at(at[0], 16);
        each.stack_base = short_at(at[0], 32);
        each.stack_offset = at[1];
        at += 2;
        const bool based = each.stack_base < PTSHARE_BASE_UNKNOWN;
        if (each.instructions > instructions.size() || each.accesses > accesses.size() ||
            (based && each.stack_base >= addresses)) {
            refuse();
        }
        add_up(each);
        if (based && each.stack_base >= each.addresses) refuse();
    }
}

void Definition::add_up(Left& left) const {
    for (std::size_t i = 0; i < left.accesses; ++i) {
        const Access& access = accesses[i];
        // Addresses are numbered in the order of the accesses.
        if (access.base != PTSHARE_BASE_NONE) {
            left.addresses = std::max(left.addresses, static_cast<std::uint16_t>(access.base + 1));
        }
        std::uint16_t& kind = access.kind == AccessKind::Load    ? left.loads
                              : access.kind == AccessKind::Store ? left.stores
                                                                 : left.modifies;
        ++kind;
    }
}

Left Definition::left(unsigned left) const {
    if ((left & PTSHARE_STOPPED) == 0) {
        if (left >= exits.size()) throw std::runtime_error("damaged: a block has no such exit");
        return exits[left];
    }
    const unsigned stopped = left & ~unsigned{PTSHARE_STOPPED};
    if (stopped >= instructions.size()) {
        throw std::runtime_error("damaged: a block has no such instruction");
    }
    Left done;
    done.instructions = static_cast<std::uint16_t>(stopped);
    while (done.accesses < accesses.size() && accesses[done.accesses].instruction < stopped) {
        ++done.accesses;
    }
    add_up(done);
    return done;
}

Definitions::Definitions(const Definitions& parent, std::size_t count) {
    const std::lock_guard<std::mutex> lock(parent.adding_);
    if (parent.all_.size() < count) {
        throw std::runtime_error("damaged: the parent's stream lacks definitions of blocks");
    }
    all_.assign(parent.all_.begin(),
                parent.all_.begin() + static_cast<std::vector<int>::difference_type>(count));
}

const Definition& Definitions::add(const Word* words, std::size_t count) {
    auto made = std::make_shared<const Definition>(words, count);
    const std::lock_guard<std::mutex> lock(adding_);
    all_.push_back(std::move(made));
    return *all_.back();
}

const Definition& Definitions::at(std::size_t number) const {
    if (number >= all_.size()) throw std::runtime_error("damaged: a block without a definition");
    return *all_[number];
}

std::size_t Definitions::size() const {
    const std::lock_guard<std::mutex> lock(adding_);
    return all_.size();
}

}  // namespace ptshare::recordings
