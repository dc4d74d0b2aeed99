#include "streams/stream.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <stdexcept>

#include "streams/refusal.h"

namespace ptshare::engine {

namespace {

// Inside the uppermost page of the stack, where the arguments and main's frame are.
constexpr VirtAddr kStackWord(kStackTop.value - 0x800);
// Accesses for which memory is brought near at a time: more would push it out of the host's first
// cache before it is used.
constexpr std::size_t kNear = 16;

}  // namespace

Stream::Stream(const Params& params, const std::string& policy, unsigned cores,
               StreamRequest request)
    : BarrierRun(params, policy, cores),
      request_(std::move(request)),
      pattern_(find_pattern(request_.pattern)) {
    request_.places.stack = kStackWord;

    Kernel& kernel = machine_.kernel();
    const auto file = [&](const std::string& name, std::uint64_t bytes) {
        std::shared_ptr<File> made = kernel.create_file(name);
        made->resize(bytes);
        return made;
    };
    program_ = file(request_.file, request_.file_bytes);
    region_file_ = file("region", request_.region_bytes);
    barrier_file_ = file("region.sync", kPageSize);
    for (std::uint64_t i = 0; i < request_.processes; ++i) {
        add(*processes_.emplace_back(std::make_unique<Process>()));
    }
}

void Stream::run_slice(Core& core, Thread& thread) {
    auto& process = static_cast<Process&>(thread);
    if (!process.started) {
        start(core, process);
        wait(core);
        return;
    }
    // One that owns memory of the others goes when none needs it.
    if (process.done) {
        leave(core, process);
        return;
    }
    if (!process.in_roi) {
        touch(core, kStackWord, true);
        mark(process, kMarkBegin);
        touch(core, request_.places.options, false);
    }
    Batch batch;
    const std::uint64_t end = progress_ + slice_;
    while (progress_ < end) {
        batch.count = 0;
        batch.instructions = 0;
        const Pattern::Then then = process.pattern->fill(batch);
        use_batch(core, process, batch);
        if (!follow(core, process, then, batch.call)) return;
    }
    queues_.end_slice(core);
}

void Stream::use_batch(Core& core, Process& process, const Batch& batch) {
    const std::uint64_t missed = process.counters.dtlb_misses;
    for (std::size_t i = 0; i < batch.count; ++i) {
        if (process.walks && i % kNear == 0) bring_near(core, process, batch, i);
        const StreamAccess& access = batch.accesses[i];
        const Access kind = access.write ? Access::Write : Access::Read;
        if (!machine_.access(core, access.address, access.size, kind)) {
            throw std::logic_error("a pattern left its memory");
        }
    }
    process.walks = 2 * (process.counters.dtlb_misses - missed) > batch.count;
    progress_ += batch.instructions;
    machine_.block(core, VirtAddr(0), 0, static_cast<unsigned>(batch.instructions));
}

bool Stream::follow(Core& core, Process& process, Pattern::Then then, const StreamCall& call) {
    switch (then) {
        case Pattern::Then::More:
            break;
        case Pattern::Then::Call:
            make_call(core, process, call);
            break;
        case Pattern::Then::Barrier:
            use_barrier(core, process);
            wait(core);
            return false;
        case Pattern::Then::End:
            finish(core, process);
            wait(core);
            return false;
        case Pattern::Then::Killed:
            finish(core, process);
            ranks_[process.rank].signal = SIGKILL;
            leave(core, process);
            return false;
    }
    return true;
}

// ---- Start and end

// What a workload does before its region of interest: exec, the barrier's page, the region.
void Stream::start(Core& core, Process& process) {
    process.started = true;
    map_program(machine_.kernel(), *process.mm, program_, request_.segments,
                [&](VirtAddr at, std::uint64_t n) {
                    for (const VirtAddr end = at + n; at < end;
                         at = align_down(at, kPageSize) + kPageSize) {
                        if (!machine_.make_accessible(core, at, Access::Write)) return false;
                    }
                    return true;
                });
    touch(core, kStackWord, true);
    machine_.charge_syscall(core, machine_.costs().exec);
    process.faults_before = minor_faults(process.counters);
    for (const Segment& segment : request_.segments) {
        const bool write = (segment.prot & kProtWrite) != 0;
        if (write) touch(core, segment.address + (segment.memory_bytes - 8), true);
    }
    touch(core, request_.places.options, true);
    process.barrier = map_shared(core, process, barrier_file_, VirtAddr(0), kPageSize, kMapShared);
    if (pattern_.region == Region::Mapped) map_region(core, process);
    if (request_.places.powers != VirtAddr(0)) {
        touch(core, request_.places.powers, true);
        touch(core, request_.places.powers + (kPageSize - 8), true);
    }
    const PatternRequest pattern{request_.region,    request_.region_bytes, process.rank,
                                 request_.processes, request_.seed,         request_.work,
                                 request_.own};
    process.pattern = pattern_.make(pattern, request_.places);
    use_barrier(core, process);
}

void Stream::map_region(Core& core, Process& process) {
    const std::uint64_t flags = kMapShared | kMapFixed | (request_.share ? kMapSharedPt : 0);
    map_shared(core, process, region_file_, request_.region, request_.region_bytes, flags);
    if (request_.around) return;
    const Errno error =
        machine_.kernel().userfault_register(*process.mm, request_.region, request_.region_bytes);
    machine_.charge_syscall(core, 0);
    if (error != Errno::Ok) throw std::runtime_error("the region cannot be registered");
}

VirtAddr Stream::map_shared(Core& core, Process& process, const std::shared_ptr<File>& file,
                            VirtAddr at, std::uint64_t bytes, std::uint64_t flags) {
    MapRequest request;
    request.address = at;
    request.length = bytes;
    request.prot = kProtRead | kProtWrite;
    request.flags = flags;
    request.file = file;
    enter_kernel(core, process);
    const VirtAddr address = map_or_say(machine_.kernel(), *process.mm, request, file->name());
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mmap));
    return address;
}

// As Syscalls makes them.
void Stream::enter_kernel(Core& core, Process& process) {
    ++process.counters.syscalls;
    machine_.charge_syscall(core, machine_.costs().syscall);
}

void Stream::make_call(Core& core, Process& process, const StreamCall& call) {
    if (call.kind == StreamCall::Kind::Map) {
        map_region(core, process);
        return;
    }
    enter_kernel(core, process);
    Kernel& kernel = machine_.kernel();
    Errno error = Errno::Ok;
    if (call.kind == StreamCall::Kind::Unmap) {
        error = kernel.munmap(*process.mm, request_.region, request_.region_bytes);
        machine_.charge_syscall(core, machine_.costs().memory_call(SYS_munmap));
    } else if (call.kind == StreamCall::Kind::Protect) {
        const std::uint64_t prot = kProtRead | (call.writable ? kProtWrite : 0);
        error = kernel.mprotect(*process.mm, call.address, call.length, prot);
        machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mprotect));
    } else if (machine_.make_accessible(core, call.address, Access::Write)) {
        throw std::runtime_error("a read-only page of the region can be written");
    }
    if (error != Errno::Ok) {
        throw std::runtime_error("the policy refuses a call of " + request_.pattern);
    }
}

void Stream::finish(Core& core, Process& process) {
    touch(core, kStackWord, true);  // the call that makes the mark
    mark(process, kMarkEnd);
    process.done = true;
}

void Stream::leave(Core& core, const Process& process) {
    exit(core);
    processes_[process.rank].reset();
}

// ---- Accesses around the pattern's

void Stream::touch(Core& core, VirtAddr at, bool write) {
    if (machine_.access(core, at, 8, write ? Access::Write : Access::Read)) return;
    throw std::runtime_error("the program has no memory at a place that it uses");
}

// The accesses of a batch do not depend on each other, so the host overlaps what the model's own
// reads would wait for one after the other: first the leaves' entries, then what they lead to.
void Stream::bring_near(const Core& core, const Process& process, const Batch& batch,
                        std::size_t from) {
    const TableStore& tables = machine_.kernel().tables();
    const PageTable& table = process.mm->table;
    const Hierarchy& caches = machine_.hierarchy();
    const std::size_t count = std::min(kNear, batch.count - from);
    const StreamAccess* accesses = &batch.accesses[from];
    std::array<PhysAddr, kNear> leaves;
    for (std::size_t i = 0; i < count; ++i) {
        const VirtAddr address = accesses[i].address;
        Pfn at = table.root();
        for (Level level = table.top();; level = static_cast<Level>(index_of(level) - 1)) {
            leaves[i] = entry_address(at, address, level);
            if (level == Level::Pte) break;
            const Pte entry = tables.entry(leaves[i]);
            if (!entry.present() || entry.large()) break;
            at = entry.pfn();
        }
        tables.prefetch(leaves[i]);
        caches.prefetch(core.id, leaves[i]);
    }
    for (std::size_t i = 0; i < count; ++i) {
        const Pte leaf = tables.entry(leaves[i]);
        if (!leaf.present()) continue;
        // Of a large page it is another line: a hint in vain.
        const std::uint64_t offset = page_offset(accesses[i].address);
        caches.prefetch(core.id, PhysAddr(address_of(leaf.pfn()).value + offset));
    }
}

void Stream::use_barrier(Core& core, const Process& process) {
    touch(core, kStackWord, true);
    touch(core, request_.places.barrier_page, false);
    touch(core, process.barrier, true);
    touch(core, kStackWord, false);
}

}  // namespace ptshare::engine
