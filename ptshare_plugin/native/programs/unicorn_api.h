// Unicorn's C interface, bound at run time. Unicorn's library is GPL-2.0: it is opened with dlopen
// from where the user installed it, neither linked nor shipped; only the names, numbers and
// signatures that its documentation gives stand here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ptshare::engine::unicorn {

struct Engine;
struct Context;
using Error = int;  // 0: no error
using Hook = std::size_t;

constexpr int kArchX86 = 4;
constexpr int kMode64 = 1 << 3;
constexpr std::uint32_t kProtRead = 1;
constexpr std::uint32_t kProtWrite = 2;
constexpr std::uint32_t kProtExec = 4;
constexpr std::uint32_t kProtAll = 7;

constexpr int kHookInterrupt = 1 << 0;
constexpr int kHookInstruction = 1 << 1;
constexpr int kHookBlock = 1 << 3;
constexpr int kHookMemRead = 1 << 10;
constexpr int kHookMemWrite = 1 << 11;
constexpr int kHookTlbFill = 1 << 17;

constexpr int kMemRead = 16;
constexpr int kMemWrite = 17;
constexpr int kMemFetch = 18;

constexpr int kInsRdtsc = 608;
constexpr int kInsRdtscp = 609;
constexpr int kInsSyscall = 699;

enum Register : int {
    kRax = 35,
    kRcx = 38,
    kRdi = 39,
    kRdx = 40,
    kRip = 41,
    kRsi = 43,
    kRsp = 44,
    kR8 = 106,
    kR9 = 107,
    kR10 = 108,
    kR11 = 109,
    kFsBase = 250,
    kGsBase = 251,
    kRflags = 253,
};

struct TlbEntry {
    std::uint64_t physical;
    std::uint32_t perms;
};

struct TranslationBlock {
    std::uint64_t pc;
    std::uint16_t instructions;
    std::uint16_t bytes;
};

// uc_ctl requests: type, number of arguments and direction packed as unicorn.h's UC_CTL does.
constexpr int control(int type, int arguments, int direction) {
    return static_cast<int>(static_cast<unsigned>(type) | (static_cast<unsigned>(arguments) << 26) |
                            (static_cast<unsigned>(direction) << 30));
}
constexpr int kWrite = 1;
constexpr int kReadWrite = 3;
constexpr int kUseExits = control(4, 1, kWrite);
constexpr int kRequestBlock = control(8, 2, kReadWrite);
constexpr int kFlushBlocks = control(10, 0, kWrite);
constexpr int kFlushTlb = control(11, 0, kWrite);
constexpr int kTlbType = control(12, 1, kWrite);
constexpr int kTlbVirtual = 1;

// The functions used, with unicorn.h's signatures.
class Api {
  public:
    // Opens the library. Throws std::runtime_error naming it when that fails or a symbol is
    // missing.
    explicit Api(const std::string& library);
    ~Api();
    Api(const Api&) = delete;
    Api& operator=(const Api&) = delete;

    unsigned (*version)(unsigned* major, unsigned* minor);
    Error (*open)(int arch, int mode, Engine** engine);
    Error (*close)(Engine*);
    const char* (*strerror)(Error);
    Error (*ctl)(Engine*, int request, ...);
    Error (*mem_map_ptr)(Engine*, std::uint64_t address, std::uint64_t size, std::uint32_t perms,
                         void* memory);
    Error (*hook_add)(Engine*, Hook*, int type, void* callback, void* user, std::uint64_t begin,
                      std::uint64_t end, ...);
    Error (*emu_start)(Engine*, std::uint64_t begin, std::uint64_t until, std::uint64_t timeout,
                       std::size_t count);
    Error (*emu_stop)(Engine*);
    Error (*reg_read)(Engine*, int reg, void* value);
    Error (*reg_write)(Engine*, int reg, const void* value);
    Error (*context_alloc)(Engine*, Context**);
    Error (*context_save)(Engine*, Context*);
    Error (*context_restore)(Engine*, Context*);
    Error (*context_free)(Context*);

    // Throws std::runtime_error "Unicorn: <what>: <reason>" unless `error` is 0.
    void check(Error error, const char* what) const;

  private:
    template <class Function>
    void bind(Function& function, const char* name);

    std::string library_;
    void* handle_;  // owned: closed with the object
};

}  // namespace ptshare::engine::unicorn
