#include "programs/instruction.h"

namespace ptshare::engine {

namespace {

// Opcodes and their groups: Intel SDM volume 2D, appendix A, tables.

bool is_prefix(std::uint8_t byte) {
    switch (byte) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0x66:
        case 0x67:
        case 0xf0:
        case 0xf2:
        case 0xf3:
            return true;
        default:
            return false;
    }
}

// A set of values of ModRM.reg, which tells the instructions of a group apart.
constexpr unsigned kAll = 0xff;
constexpr unsigned reg(unsigned value) {
    return 1U << value;
}

// For which ModRM.reg a one-byte opcode with ModRM writes back.
unsigned one_byte(std::uint8_t opcode) {
    // ADD, OR, ADC, SBB, AND, SUB, XOR to memory; CMP, the eighth, only reads.
    if (opcode < 0x38 && (opcode & 6) == 0) return kAll;
    switch (opcode) {
        case 0x80:
        case 0x81:
        case 0x83:
            return kAll & ~reg(7);  // the same with a constant, and CMP
        case 0x86:
        case 0x87:
            return kAll;  // XCHG
        case 0xc0:
        case 0xc1:
        case 0xd0:
        case 0xd1:
        case 0xd2:
        case 0xd3:
            return kAll;  // rotates and shifts
        case 0xf6:
        case 0xf7:
            return reg(2) | reg(3);  // NOT, NEG; the others read
        case 0xfe:
        case 0xff:
            return reg(0) | reg(1);  // INC, DEC
        default:
            return 0;
    }
}

// The same of an opcode behind 0x0f.
unsigned two_byte(std::uint8_t opcode) {
    switch (opcode) {
        case 0xa4:
        case 0xa5:
        case 0xac:
        case 0xad:
            return kAll;  // SHLD, SHRD
        case 0xab:
        case 0xb3:
        case 0xbb:
            return kAll;  // BTS, BTR, BTC
        case 0xba:
            return reg(5) | reg(6) | reg(7);  // the same with a constant; BT reads
        case 0xb0:
        case 0xb1:
        case 0xc0:
        case 0xc1:
            return kAll;  // CMPXCHG, XADD
        case 0xc7:
            return reg(1);  // CMPXCHG8B, CMPXCHG16B
        default:
            return 0;
    }
}

}  // namespace

bool writes_back(const std::uint8_t* bytes, std::size_t count) {
    std::size_t at = 0;
    while (at < count && is_prefix(bytes[at])) ++at;
    if (at < count && (bytes[at] & 0xf0) == 0x40) ++at;  // REX
    const bool two = at < count && bytes[at] == 0x0f;
    at += two ? 2 : 1;  // ModRM follows
    if (at >= count) return false;
    const std::uint8_t modrm = bytes[at];
    const unsigned which = two ? two_byte(bytes[at - 1]) : one_byte(bytes[at - 1]);
    const bool in_memory = modrm >> 6 != 3;
    return in_memory && (which & reg((modrm >> 3) & 7)) != 0;
}

}  // namespace ptshare::engine
