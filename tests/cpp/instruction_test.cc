// Which instructions write their memory operand back, by their encodings.
#include "programs/instruction.h"

#include <initializer_list>

#include "check.h"

using ptshare::engine::writes_back;

namespace {

bool writes(std::initializer_list<std::uint8_t> bytes) {
    return writes_back(bytes.begin(), bytes.size());
}

}  // namespace

// Arithmetic on memory writes back, but for comparisons.
TEST(arithmetic) {
    CHECK(writes({0x01, 0x03}));              // add %eax,(%rbx)
    CHECK(writes({0x48, 0x01, 0x03}));        // add %rax,(%rbx)
    CHECK(writes({0x30, 0x45, 0x08}));        // xor %al,8(%rbp)
    CHECK(writes({0x83, 0x03, 0x01}));        // addl $1,(%rbx)
    CHECK(writes({0x66, 0x81, 0x2b, 0, 1}));  // subw $256,(%rbx)
    CHECK(!writes({0x39, 0x03}));             // cmp %eax,(%rbx)
    CHECK(!writes({0x83, 0x3b, 0x01}));       // cmpl $1,(%rbx)
    CHECK(!writes({0x03, 0x03}));             // add (%rbx),%eax
    CHECK(!writes({0x01, 0xc3}));             // add %eax,%ebx: no memory
    CHECK(!writes({0x85, 0x03}));             // test %eax,(%rbx)
}

TEST(operations_with_one_operand) {
    CHECK(writes({0xfe, 0x03}));               // incb (%rbx)
    CHECK(writes({0x48, 0xff, 0x0b}));         // decq (%rbx)
    CHECK(!writes({0xff, 0x33}));              // push (%rbx)
    CHECK(!writes({0xff, 0x13}));              // call *(%rbx)
    CHECK(writes({0xf7, 0x13}));               // notl (%rbx)
    CHECK(writes({0xf6, 0x1b}));               // negb (%rbx)
    CHECK(!writes({0xf7, 0x23}));              // mull (%rbx)
    CHECK(!writes({0xf7, 0x03, 1, 0, 0, 0}));  // testl $1,(%rbx)
    CHECK(writes({0xd1, 0x23}));               // shll (%rbx)
    CHECK(writes({0xc1, 0x2b, 0x03}));         // shrl $3,(%rbx)
    CHECK(!writes({0x8f, 0x03}));              // pop (%rbx)
}

TEST(exchanges_locked_or_not) {
    CHECK(writes({0x87, 0x03}));                    // xchg %eax,(%rbx)
    CHECK(writes({0xf0, 0x48, 0x0f, 0xc1, 0x03}));  // lock xadd %rax,(%rbx)
    CHECK(writes({0xf0, 0x0f, 0xb1, 0x0b}));        // lock cmpxchg %ecx,(%rbx)
    CHECK(writes({0x48, 0x0f, 0xc7, 0x0b}));        // cmpxchg16b (%rbx)
    CHECK(!writes({0x0f, 0xc7, 0xf0}));             // rdrand %eax
    CHECK(!writes({0x0f, 0xc7, 0x23}));             // xsavec (%rbx)
    CHECK(writes({0x0f, 0xab, 0x03}));              // bts %eax,(%rbx)
    CHECK(writes({0x0f, 0xba, 0x2b, 0x01}));        // btsl $1,(%rbx)
    CHECK(!writes({0x0f, 0xba, 0x23, 0x01}));       // btl $1,(%rbx)
    CHECK(!writes({0x0f, 0xa3, 0x03}));             // bt %eax,(%rbx)
    CHECK(writes({0x0f, 0xa4, 0x03, 0x05}));        // shld $5,%eax,(%rbx)
}

// What they write they do not read.
TEST(moves_strings_and_vectors) {
    CHECK(!writes({0x89, 0x03}));                          // mov %eax,(%rbx)
    CHECK(!writes({0x8b, 0x03}));                          // mov (%rbx),%eax
    CHECK(!writes({0xf3, 0xa4}));                          // rep movsb
    CHECK(!writes({0xf3, 0x48, 0xab}));                    // rep stos
    CHECK(!writes({0x0f, 0x94, 0x03}));                    // sete (%rbx)
    CHECK(!writes({0xc5, 0xfd, 0x7f, 0x03}));              // vmovdqa %ymm0,(%rbx)
    CHECK(!writes({0x62, 0xf1, 0xfd, 0x48, 0x7f, 0x03}));  // vmovdqa64 %zmm0,(%rbx)
}

TEST(prefixes_and_an_early_end) {
    CHECK(writes({0x64, 0x48, 0x01, 0x03}));        // add %rax,%fs:(%rbx)
    CHECK(writes({0xf0, 0x66, 0x83, 0x03, 0x01}));  // lock addw $1,(%rbx)
    CHECK(!writes({0xf0, 0x48}));
    CHECK(!writes({0x0f}));
    CHECK(!writes({}));
}
