#include "imports/champsim.h"

#include <algorithm>
#include <cstring>

namespace ptshare::imports {

namespace {

// A record: address; branch, taken; registers written, registers read; addresses stored to, loaded
// from; in CloudSuite's form an address space, and what a C structure has between them.
struct Form {
    std::size_t bytes, memory, stores, loads;
};
constexpr Form kPlain{64, 16, 2, 4}, kCloudsuite{96, 24, 4, 4};

constexpr Word kLine = 64;      // what is accessed at most; sizes are not told
constexpr Word kAccess = 8;     // and is taken for
constexpr Word kLongest = 15;   // bytes of an instruction
constexpr unsigned kUsual = 4;  // of one whose end is not told by the next

}  // namespace

std::size_t Champsim::record_bytes() const {
    return (cloudsuite_ ? kCloudsuite : kPlain).bytes;
}

Champsim::Instruction Champsim::read(const char* record) const {
    const Form& form = cloudsuite_ ? kCloudsuite : kPlain;
    Instruction made;
    std::memcpy(&made.address, record, sizeof made.address);
    const auto addresses = [&](std::size_t at, std::size_t count) {
        std::vector<Word> found;
        for (std::size_t i = 0; i < count; ++i) {
            Word address;
            std::memcpy(&address, record + at + i * sizeof address, sizeof address);
            if (address != 0) found.push_back(address);
        }
        return found;
    };
    made.stores = addresses(form.memory, form.stores);
    made.loads = addresses(form.memory + form.stores * sizeof(Word), form.loads);
    return made;
}

void Champsim::write(Process& process, const Instruction& instruction, Word behind) {
    const Word length = behind - instruction.address;
    const bool told = length != 0 && length <= kLongest;
    process.instruction(instruction.address, told ? static_cast<unsigned>(length) : kUsual,
                        Flow::On);
    const auto bytes = [](Word address) {
        return static_cast<unsigned>(std::min(kAccess, kLine - address % kLine));
    };
    for (const Word each : instruction.loads) process.access(AccessKind::Load, each, bytes(each));
    for (const Word each : instruction.stores) process.access(AccessKind::Store, each, bytes(each));
}

std::size_t Champsim::feed(std::size_t lane, const char* bytes, std::size_t count, Word) {
    if (lane >= lanes_.size()) lanes_.resize(lane + 1);
    Process& owner = process(static_cast<std::uint32_t>(lane + 1));
    Instruction& last = lanes_[lane];
    const std::size_t record = record_bytes();
    std::size_t at = 0;
    for (; at + record <= count; at += record) {
        Instruction next = read(bytes + at);
        if (last.address != 0) write(owner, last, next.address);
        last = std::move(next);
    }
    if (count == 0 && last.address != 0) {  // the end
        write(owner, last, 0);
        last = {};
    }
    owner.end_block();
    return at;
}

}  // namespace ptshare::imports
