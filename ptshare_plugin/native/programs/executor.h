// Executes x86-64 code with Unicorn and tells an Observer about every memory access.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "core/types.h"
#include "machine/huge_allocator.h"
#include "programs/memory.h"
#include "programs/unicorn_api.h"

namespace ptshare::engine {

// What the running code meets. Calls come in program order. A member that returns false ends the
// run (Stop::Fault): the task is dead.
class Observer {
  public:
    struct Mapping {
        Pfn frame;
        bool read = false;
        bool write = false;
        bool execute = false;
    };

    virtual ~Observer() = default;
    // data() is about to be called for `physical`: a hint, to bring the model's state near.
    virtual void approach(PhysAddr physical) = 0;
    // Code is about to use a page that Unicorn has no translation of.
    virtual bool map(VirtAddr page, Access access, Mapping& mapping) = 0;
    // A load or store of `size` bytes whose first byte lies at `physical`.
    virtual bool data(VirtAddr address, PhysAddr physical, unsigned size, Access access) = 0;
    // A basic block is entered. Its instructions are counted, its bytes fetched.
    virtual bool block(VirtAddr address, unsigned bytes, unsigned instructions) = 0;
    virtual std::uint64_t timestamp() = 0;  // for RDTSC
    virtual std::uint64_t core_id() = 0;    // for RDTSCP
};

// Registers as a system call finds them.
struct SyscallRegisters {
    std::uint64_t number = 0;
    std::uint64_t args[6] = {};
};

class Executor {
  public:
    enum class Stop { Budget, Syscall, Fault, Exception };

    // One task's registers. Owned by whoever made it, given back with free_context.
    using Context = unicorn::Context*;

    // `memory` must outlive the executor. Throws std::runtime_error.
    Executor(const std::string& library, HostMemory& memory);
    ~Executor();
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;

    Context new_context();
    void free_context(Context context);
    void save(Context context);
    void load(Context context);
    // Clears registers for a new program: stack pointer set, everything else as the ABI starts.
    void reset(Context context, VirtAddr stack);

    // Runs from `pc` until the budget of instructions is used up (checked at block ends), a system
    // call, a fault that the observer would not serve, or a CPU exception (exception() tells
    // which). `image` tells apart programs that have different code at one address.
    Stop run(Observer& observer, VirtAddr pc, std::uint64_t budget, std::uint64_t image);
    VirtAddr pc() const { return pc_; }           // where to go on after run()
    int exception() const { return exception_; }  // vector of the CPU exception, -1: invalid opcode

    // Of a hook: where the instruction stands that it is about.
    VirtAddr instruction() { return VirtAddr(read(unicorn::kRip)); }

    SyscallRegisters syscall_registers();
    // The result of a system call that returns to `pc`.
    void set_result(std::int64_t value, VirtAddr pc);
    std::uint64_t read(unicorn::Register reg);
    void write(unicorn::Register reg, std::uint64_t value);

    // Translations may have changed: forget those that Unicorn keeps.
    void forget_translations();

  private:
    static bool on_fill(unicorn::Engine*, std::uint64_t page, int type, unicorn::TlbEntry* entry,
                        void* self);
    static void on_memory(unicorn::Engine*, int type, std::uint64_t physical, int size,
                          std::int64_t value, void* self);
    static void on_block(unicorn::Engine*, std::uint64_t address, std::uint32_t size, void* self);
    static void on_syscall(unicorn::Engine*, void* self);
    static void on_interrupt(unicorn::Engine*, std::uint32_t vector, void* self);
    static int on_rdtsc(unicorn::Engine*, void* self);
    static int on_rdtscp(unicorn::Engine*, void* self);

    template <class Work>
    void guarded(Work&& work);
    void stop(Stop reason);
    std::uint64_t reverse_entry(std::uint64_t page) const { return (epoch_ << kEpochShift) | page; }
    unsigned instructions_of(std::uint64_t address, std::uint32_t bytes);

    // Hooks get physical addresses; a frame's page is the one it was last mapped at. Two pages of
    // one frame are never in Unicorn's TLB together, so that this is exact.
    // An entry is the page number with the epoch above it; of another epoch, it is void. Packed,
    // because it is read for every access, at random.
    static constexpr unsigned kEpochShift = 36;  // page numbers of 47-bit addresses fit below
    static constexpr std::uint64_t kMaxEpoch = (1ULL << (64 - kEpochShift)) - 1;

    // Instructions of a block, by address; entries of other programs and lengths are told apart.
    struct BlockEntry {
        std::uint64_t address = ~0ULL;
        std::uint64_t image = 0;
        std::uint32_t bytes = 0;
        std::uint32_t instructions = 0;
    };
    static constexpr std::size_t kBlockEntries = 1 << 14;
    // Unicorn's own TLB starts with 256 entries and doubles at a flush that finds it full: flushed
    // after ever more fills, it grows to what the program uses. Speed alone depends on this.
    static constexpr std::uint64_t kFirstGrowth = 320;
    static constexpr std::uint64_t kLastGrowth = 320 << 9;

    unicorn::Api api_;
    HostMemory& memory_;
    unicorn::Engine* engine_ = nullptr;  // owned
    Context initial_ = nullptr;          // owned; registers as Unicorn starts them
    std::vector<std::uint64_t, HugeAllocator<std::uint64_t>> reverse_;  // index: frame
    std::uint64_t epoch_ = 1;  // counts forget_translations()
    std::uint64_t fills_ = 0;  // since then
    std::uint64_t growth_ = kFirstGrowth;
    std::vector<BlockEntry> blocks_;

    // State of the run under way.
    Observer* observer_ = nullptr;
    std::uint64_t budget_ = 0;
    std::uint64_t image_ = 0;
    bool stopping_ = false;
    Stop reason_ = Stop::Budget;
    VirtAddr pc_;
    int exception_ = 0;
    std::exception_ptr failure_;  // thrown by the observer inside a hook; rethrown by run()
};

}  // namespace ptshare::engine
