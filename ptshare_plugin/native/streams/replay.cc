#include "streams/replay.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "streams/refusal.h"

namespace ptshare::engine {

Replay::Replay(const Params& params, const std::string& policy, unsigned cores,
               ReplayRequest request)
    : BarrierRun(params, policy, cores),
      line_bytes_(params.count("cache.line_bytes")),
      request_(std::move(request)),
      trace_(std::make_shared<const TraceFile>(request_.trace)) {
    if (request_.shared_range.first != request_.shared_range.second) {
        shared_file_ = machine_.kernel().create_file("trace-share");
        shared_file_->resize(request_.shared_range.second - request_.shared_range.first);
    }
    for (std::uint64_t i = 0; i < request_.processes; ++i) add(processes_.emplace_back());
}

void Replay::run_slice(Core& core, Thread& thread) {
    auto& process = static_cast<Process&>(thread);
    if (!process.reader) {
        start(core, process);
        wait(core);
        return;
    }
    // One that owns memory of the others goes when none needs it.
    if (process.done) {
        leave(core, process);
        return;
    }
    if (!process.in_roi) mark(process, kMarkBegin);
    for (std::uint64_t left = slice_; left != 0; --left) {
        if (process.at == process.count) {
            process.at = 0;
            process.count = process.reader->read(process.batch.data(), process.batch.size());
            if (process.count == 0) {
                end(core, process);
                return;
            }
        }
        replay(core, process.batch[process.at++]);
        ++progress_;
    }
    queues_.end_slice(core);
}

// ---- Start and end

void Replay::start(Core& core, Process& process) {
    process.reader = read_trace(trace_);
    for (const AddressRange& range : request_.ranges) {
        map(core, process, range, kProtRead | kProtWrite | kProtExec, kMapPrivate | kMapAnonymous,
            nullptr);
    }
    if (shared_file_) {
        map(core, process, request_.shared_range, kProtRead | kProtWrite,
            kMapShared | (request_.share ? kMapSharedPt : 0), shared_file_);
    }
}

void Replay::map(Core& core, Process& process, AddressRange range, std::uint64_t prot,
                 std::uint64_t flags, const std::shared_ptr<File>& file) {
    MapRequest request;
    request.address = range.first;
    request.length = range.second - range.first;
    request.prot = prot;
    request.flags = flags | kMapFixed;
    request.file = file;
    machine_.charge_syscall(core, machine_.costs().syscall);
    ++process.counters.syscalls;
    map_or_say(machine_.kernel(), *process.mm, request,
               file ? "the range to share" : "what the trace touches");
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mmap));
}

void Replay::end(Core& core, Process& process) {
    mark(process, kMarkEnd);
    process.done = true;
    if (request_.ends_together) {
        wait(core);
    } else {
        leave(core, process);
    }
}

void Replay::leave(Core& core, Process& process) {
    exit(core);
    process.reader.reset();
}

// ---- Accesses

void Replay::replay(Core& core, const TraceRecord& record) {
    switch (record.kind) {
        case TraceKind::Fetch:
            if (!machine_.block(core, record.address, record.size, 1)) refused(record);
            ++instructions_;
            return;
        case TraceKind::Load:
            use(core, record, Access::Read);
            return;
        case TraceKind::Store:
            use(core, record, Access::Write);
            return;
        case TraceKind::Modify:
            use(core, record, Access::Read, &modifies_);
            use(core, record, Access::Write);
            return;
    }
}

// In pieces that each lie in one page and are no longer than a cache line.
void Replay::use(Core& core, const TraceRecord& record, Access access, Loading* loading) {
    VirtAddr at = record.address;
    for (std::uint64_t left = record.size; left != 0;) {
        const std::uint64_t piece = std::min({left, line_bytes_, kPageSize - page_offset(at)});
        if (!machine_.access(core, at, static_cast<unsigned>(piece), access, nullptr, loading)) {
            refused(record);
        }
        at = at + piece;
        left -= piece;
    }
}

void Replay::refused(const TraceRecord& record) const {
    char address[32];
    std::snprintf(address, sizeof address, "0x%llx",
                  static_cast<unsigned long long>(record.address.value));
    throw std::runtime_error(std::string("the access at ") + address +
                             " is fatal: " + "the trace is not what it was when it was first read");
}

}  // namespace ptshare::engine
