#include "programs/executor.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace ptshare::engine {

using namespace unicorn;

namespace {

// RFLAGS of a fresh process: only the bit that always reads as one, and IF.
constexpr std::uint64_t kInitialFlags = 0x202;

template <class Callback>
void* pointer_to(Callback callback) {
    return reinterpret_cast<void*>(callback);
}

}  // namespace

Executor::Executor(const std::string& library, HostMemory& memory)
    : api_(library), memory_(memory), blocks_(kBlockEntries) {
    api_.check(api_.open(kArchX86, kMode64, &engine_), "open");
    // Translations come from on_fill, physical memory is HostMemory, and no address ends a run.
    api_.check(api_.ctl(engine_, kTlbType, kTlbVirtual), "virtual TLB");
    api_.check(api_.ctl(engine_, kUseExits, 1), "exits");
    api_.check(api_.mem_map_ptr(engine_, 0, memory.bytes(), kProtAll, memory.data()), "map memory");
    const auto hook = [&](int type, void* callback, auto... more) {
        Hook handle = 0;
        api_.check(api_.hook_add(engine_, &handle, type, callback, this, std::uint64_t{1},
                                 std::uint64_t{0}, more...),
                   "hook");
    };
    hook(kHookTlbFill, pointer_to(&Executor::on_fill));
    hook(kHookMemRead | kHookMemWrite, pointer_to(&Executor::on_memory));
    hook(kHookBlock, pointer_to(&Executor::on_block));
    hook(kHookInterrupt, pointer_to(&Executor::on_interrupt));
    hook(kHookInstruction, pointer_to(&Executor::on_syscall), kInsSyscall);
    hook(kHookInstruction, pointer_to(&Executor::on_rdtsc), kInsRdtsc);
    hook(kHookInstruction, pointer_to(&Executor::on_rdtscp), kInsRdtscp);
    initial_ = new_context();
}

Executor::~Executor() {
    if (initial_) free_context(initial_);
    if (engine_) api_.close(engine_);
}

Executor::Context Executor::new_context() {
    Context context = nullptr;
    api_.check(api_.context_alloc(engine_, &context), "context");
    save(context);
    return context;
}

void Executor::free_context(Context context) {
    api_.context_free(context);
}

void Executor::save(Context context) {
    api_.check(api_.context_save(engine_, context), "save context");
}

void Executor::load(Context context) {
    api_.check(api_.context_restore(engine_, context), "restore context");
}

void Executor::reset(Context context, VirtAddr stack) {
    load(initial_);
    write(kRsp, stack.value);
    write(kRflags, kInitialFlags);
    save(context);
}

std::uint64_t Executor::read(Register reg) {
    std::uint64_t value = 0;
    api_.check(api_.reg_read(engine_, reg, &value), "read register");
    return value;
}

void Executor::write(Register reg, std::uint64_t value) {
    api_.check(api_.reg_write(engine_, reg, &value), "write register");
}

SyscallRegisters Executor::syscall_registers() {
    SyscallRegisters registers;
    registers.number = read(kRax);
    constexpr Register kArguments[6] = {kRdi, kRsi, kRdx, kR10, kR8, kR9};
    for (unsigned i = 0; i < 6; ++i) registers.args[i] = read(kArguments[i]);
    return registers;
}

void Executor::set_result(std::int64_t value, VirtAddr pc) {
    write(kRax, static_cast<std::uint64_t>(value));
    // SYSCALL leaves the return address and the flags here (Intel SDM volume 2, SYSCALL).
    write(kRcx, pc.value);
    write(kR11, read(kRflags));
}

void Executor::forget_translations() {
    fills_ = 0;
    if (++epoch_ > kMaxEpoch) {
        epoch_ = 1;
        std::fill(reverse_.begin(), reverse_.end(), 0);
    }
    api_.check(api_.ctl(engine_, kFlushTlb), "flush TLB");
}

Executor::Stop Executor::run(Observer& observer, VirtAddr pc, std::uint64_t budget,
                             std::uint64_t image) {
    observer_ = &observer;
    budget_ = budget;
    image_ = image;
    stopping_ = false;
    pc_ = pc;
    failure_ = nullptr;
    if (fills_ >= growth_ && growth_ <= kLastGrowth) {
        growth_ *= 2;
        forget_translations();
    }
    // Not while blocks run, and so not when the frame is released.
    if (memory_.take_code_released()) api_.check(api_.ctl(engine_, kFlushBlocks), "flush blocks");
    const Error error = api_.emu_start(engine_, pc.value, ~0ULL, 0, 0);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    if (!stopping_) {
        // Unicorn ended by itself: an opcode that it does not know, a failure of its own, or HLT,
        // which is a general protection fault in user mode.
        constexpr Error kInvalidInstruction = 10;
        constexpr int kGeneralProtection = 13;
        if (error != kInvalidInstruction) api_.check(error, "run");
        exception_ = error == 0 ? kGeneralProtection : -1;
        reason_ = Stop::Exception;
    }
    if (reason_ != Stop::Budget) pc_ = VirtAddr(read(kRip));
    return reason_;
}

void Executor::stop(Stop reason) {
    if (stopping_) return;
    stopping_ = true;
    reason_ = reason;
    api_.emu_stop(engine_);
}

// Exceptions must not pass through Unicorn's frames.
template <class Work>
void Executor::guarded(Work&& work) {
    if (stopping_) return;
    try {
        if (!work()) stop(Stop::Fault);
    } catch (...) {
        failure_ = std::current_exception();
        stop(Stop::Fault);
    }
}

bool Executor::on_fill(Engine*, std::uint64_t page, int type, TlbEntry* entry, void* self) {
    Executor& me = *static_cast<Executor*>(self);
    const Access access = type == kMemWrite   ? Access::Write
                          : type == kMemFetch ? Access::Fetch
                                              : Access::Read;
    Observer::Mapping mapping;
    me.guarded([&] { return me.observer_->map(VirtAddr(page), access, mapping); });
    if (me.stopping_ && !mapping.read && !mapping.write && !mapping.execute) return false;
    if (mapping.frame.value >= me.reverse_.size()) me.reverse_.resize(2 * mapping.frame.value + 1);
    std::uint64_t& reverse = me.reverse_[mapping.frame.value];
    const std::uint64_t number = page >> kPageShift;
    if (reverse >> kEpochShift == me.epoch_ && reverse != me.reverse_entry(number)) {
        me.forget_translations();
    }
    reverse = me.reverse_entry(number);
    ++me.fills_;
    if (mapping.execute) me.memory_.mark_code(mapping.frame);
    entry->physical = address_of(mapping.frame).value;
    entry->perms = (mapping.read ? kProtRead : 0) | (mapping.write ? kProtWrite : 0) |
                   (mapping.execute ? kProtExec : 0);
    return true;
}

void Executor::on_memory(Engine*, int type, std::uint64_t physical, int size, std::int64_t,
                         void* self) {
    Executor& me = *static_cast<Executor*>(self);
    __builtin_prefetch(me.memory_.data() + physical);
    me.observer_->approach(PhysAddr(physical));
    const std::uint64_t number = me.reverse_[physical >> kPageShift] & ((1ULL << kEpochShift) - 1);
    const VirtAddr address((number << kPageShift) | (physical & (kPageSize - 1)));
    const Access access = type == kMemWrite ? Access::Write : Access::Read;
    me.guarded([&] {
        return me.observer_->data(address, PhysAddr(physical), static_cast<unsigned>(size), access);
    });
}

unsigned Executor::instructions_of(std::uint64_t address, std::uint32_t bytes) {
    BlockEntry& entry = blocks_[(address ^ (address >> 14)) & (kBlockEntries - 1)];
    if (entry.address != address || entry.bytes != bytes || entry.image != image_) {
        TranslationBlock block{};
        api_.check(api_.ctl(engine_, kRequestBlock, address, &block), "block");
        entry = {address, image_, bytes, block.instructions};
    }
    return entry.instructions;
}

void Executor::on_block(Engine*, std::uint64_t address, std::uint32_t size, void* self) {
    Executor& me = *static_cast<Executor*>(self);
    if (me.stopping_) return;
    if (me.budget_ == 0) {
        me.pc_ = VirtAddr(address);
        me.stop(Stop::Budget);
        return;
    }
    me.guarded([&] {
        const unsigned instructions = me.instructions_of(address, size);
        me.budget_ -= std::min<std::uint64_t>(me.budget_, instructions);
        return me.observer_->block(VirtAddr(address), size, instructions);
    });
}

void Executor::on_syscall(Engine*, void* self) {
    static_cast<Executor*>(self)->stop(Stop::Syscall);
}

void Executor::on_interrupt(Engine*, std::uint32_t vector, void* self) {
    Executor& me = *static_cast<Executor*>(self);
    me.exception_ = static_cast<int>(vector);
    me.stop(Stop::Exception);
}

int Executor::on_rdtsc(Engine*, void* self) {
    Executor& me = *static_cast<Executor*>(self);
    const std::uint64_t now = me.observer_->timestamp();
    me.write(kRax, now & 0xffffffffULL);
    me.write(kRdx, now >> 32);
    return 1;  // done: do not execute the instruction
}

int Executor::on_rdtscp(Engine* engine, void* self) {
    Executor& me = *static_cast<Executor*>(self);
    me.write(kRcx, me.observer_->core_id());
    return on_rdtsc(engine, self);
}

}  // namespace ptshare::engine
