#include "gem5/kernel.hh"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <limits>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "base/logging.hh"
#include "cpu/base.hh"
#include "debug/Ptshare.hh"
#include "engine/kernel_metrics.h"
#include "gem5/program.hh"
#include "gem5/tlb.hh"
#include "gem5/walker.hh"
#include "sim/process.hh"
#include "sim/se_workload.hh"
#include "sim/sim_exit.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

namespace {

// Frames left to gem5's own emulation: vsyscall pages, stacks of its own.
constexpr std::uint64_t kFramesForGem5 = 4096;
constexpr int kMaxTries = 8;  // of one access; the engine's limit

engine::Parameter parse(const std::string& text) {
    if (text == "true" || text == "false") return text == "true";
    std::istringstream whole(text);
    std::int64_t count = 0;
    if (whole >> count && whole.eof()) return count;
    std::istringstream fraction(text);
    double real = 0;
    if (fraction >> real && fraction.eof()) return real;
    return text;
}

engine::Params parse_machine(const std::vector<std::string>& lines) {
    std::map<std::string, engine::Parameter> values;
    for (const std::string& line : lines) {
        const auto equals = line.find('=');
        fatal_if(equals == std::string::npos, "PtshareKernel.machine: '%s' is not key=value", line);
        values[line.substr(0, equals)] = parse(line.substr(equals + 1));
    }
    return engine::Params(std::move(values));
}

// What this engine counts for a process; the rest is gem5's to count.
bool counted_here(const std::string& name) {
    for (const char* prefix :
         {"instructions", "access.reads", "access.writes", "tlb.", "walk", "fault.", "syscall.",
          "shootdown.", "cycles.walk", "cycles.fault", "cycles.syscall", "cycles.shootdown"}) {
        if (name.rfind(prefix, 0) == 0) return true;
    }
    return false;
}

}  // namespace

// ---- Contents

Contents::~Contents() {
    for (const auto& [id, fd] : host_) ::close(fd);
}

void Contents::back(const File& file, int fd) {
    const int copy = ::dup(fd);
    fatal_if(copy < 0, "ptshare: no file descriptors left on the host");
    host_[file.id()] = copy;
}

int Contents::host_file(const File& file) const {
    const auto it = host_.find(file.id());
    return it == host_.end() ? -1 : it->second;
}

void Contents::zero(Pfn pfn) {
    memory_.memsetBlob(address_of(pfn).value, 0, kPageSize);
}

void Contents::copy(Pfn to, Pfn from) {
    std::uint8_t page[kPageSize];
    memory_.readBlob(address_of(from).value, page, sizeof(page));
    memory_.writeBlob(address_of(to).value, page, sizeof(page));
}

void Contents::read_file(const File& file, std::uint64_t index, Pfn pfn) {
    std::uint8_t page[kPageSize] = {};
    const int fd = host_file(file);
    if (fd >= 0) {
        const ssize_t got =
            ::pread(fd, page, sizeof(page), static_cast<off_t>(index << kPageShift));
        fatal_if(got < 0, "ptshare: %s cannot be read", file.name());
    }
    memory_.writeBlob(address_of(pfn).value, page, sizeof(page));
}

void Contents::cut_file(const File&, std::uint64_t bytes, Pfn last) {
    const std::uint64_t offset = bytes & (kPageSize - 1);
    if (last == Pfn(0) || offset == 0) return;
    memory_.memsetBlob(address_of(last).value + offset, 0, kPageSize - offset);
}

void Contents::write_entry(PhysAddr at, std::uint64_t bits) {
    memory_.writeBlob(at.value, &bits, sizeof(bits));
}

// ---- Kernel

Kernel::Kernel(const Params& p)
    : ClockedObject(p),
      machine_(parse_machine(p.machine)),
      costs_(machine_),
      flush_ceiling_(machine_.count("kernel.flush_ceiling_pages")) {
}

Kernel::~Kernel() = default;

gem5::PortProxy& Kernel::memory() {
    return system_->physProxy;
}

ptshare::Kernel& Kernel::core() {
    if (core_) return *core_;
    auto* workload = dynamic_cast<gem5::SEWorkload*>(system_->workload);
    fatal_if(!workload, "PtshareKernel works in system-call emulation only");
    const std::uint64_t free = workload->freeMemSize() >> kPageShift;
    fatal_if(free < 2 * kFramesForGem5, "the system's memory is too small: %d free pages", free);
    const std::uint64_t frames = free - kFramesForGem5;
    fatal_if(frames > std::numeric_limits<int>::max(), "the system's memory exceeds 8 TiB");
    const gem5::Addr base = workload->allocPhysPages(static_cast<int>(frames));
    KernelConfig config;
    config.memory_bytes = base + (frames << kPageShift);
    // Frame 0 means "none" in core.
    config.first_frame = std::max<std::uint64_t>(base >> kPageShift, 1);
    config.levels = static_cast<unsigned>(machine_.count("mmu.levels"));
    config.fault_around_bytes = machine_.count("kernel.fault_around_bytes");
    config.dirty_tracking = machine_.flag("kernel.dirty_tracking");
    contents_ = std::make_unique<Contents>(memory());
    core_ = std::make_unique<ptshare::Kernel>(config, make_policy(params().policy), *contents_);
    return *core_;
}

void Kernel::init() {
    ClockedObject::init();
    Values& own = values_.emplace_back(this, nullptr);
    for (const engine::KernelMetric& metric : engine::kernel_metrics()) {
        own.add(metric.name, [this, &metric] { return static_cast<double>(metric.value(core())); });
    }
    own.add("shootdown.invalidated_ranges",
            [this] { return static_cast<double>(invalidated_ranges_); });
    own.add("cycles.makespan", [this] { return static_cast<double>(curCycle()); });
}

void Kernel::add_statistics(ProcessRecord& record) {
    using engine::Counters;
    const std::string name = "process" + std::to_string(record.index);
    Values& whole = values_.emplace_back(this, group_names_.emplace_back(name).c_str());
    Values& roi = values_.emplace_back(&whole, group_names_.emplace_back("roi").c_str());
    const auto add = [&](const std::string& metric, auto value) {
        whole.add(metric, [&record, value] {
            return static_cast<double>(value(record.counters) - value(record.at_reset));
        });
        roi.add(metric, [&record, value] { return static_cast<double>(value(record.roi)); });
    };
#define PTSHARE_VALUE(field, metric) \
    if (counted_here(metric)) add(metric, [](const Counters& c) { return c.field; });
    PTSHARE_COUNTERS(PTSHARE_VALUE)
#undef PTSHARE_VALUE
    static constexpr const char* kLevelNames[] = {"pte", "pmd", "pud", "p4d", "pgd"};
    static constexpr const char* kPlaceNames[] = {"l1", "l2", "llc", "dram"};
    for (unsigned level = 0; level < kLevels; ++level) {
        for (unsigned place = 0; place < engine::kServedPlaces; ++place) {
            add(std::string("walk.reads.") + kLevelNames[level] + "." + kPlaceNames[place],
                [level, place](const Counters& c) { return c.pte_reads[level][place]; });
        }
    }
    whole.add("exit_code", [&record] { return static_cast<double>(record.exit_code); });
    whole.add("signal", [&record] { return static_cast<double>(record.signal); });
}

void Kernel::update_instructions(ProcessRecord& record) {
    // A context keeps counting what it ran before: one process runs on each.
    if (record.mm) {
        record.counters.instructions = record.context->getCurrentInstCount();
    }
}

void Kernel::resetStats() {
    ClockedObject::resetStats();
    // gem5 resets before the first tick, too: what loading the programs took belongs to the run.
    if (gem5::curTick() == 0) return;
    for (ProcessRecord& record : records_) {
        update_instructions(record);
        record.at_reset = record.counters;
    }
}

void Kernel::preDumpStats() {
    ClockedObject::preDumpStats();
    for (ProcessRecord& record : records_) update_instructions(record);
}

// ---- Processes

void Kernel::adopt(gem5::ThreadContext* tc) {
    const auto id = static_cast<std::size_t>(tc->contextId());
    if (by_context_.size() <= id) by_context_.resize(id + 1);
    ProcessRecord& record = records_.emplace_back();
    record.index = static_cast<unsigned>(records_.size() - 1);
    record.process = tc->getProcessPtr();
    record.context = tc;
    auto* tlb = dynamic_cast<Tlb*>(tc->getMMUPtr()->dtb);
    fatal_if(!tlb, "%s: its data TLB is no PtshareTLB", tc->getCpuPtr()->name());
    record.walker = &tlb->pages();
    fatal_if(record.index >= std::numeric_limits<Pcid>::max(), "ptshare: too many processes");
    by_context_[id] = &record;
    add_statistics(record);
    // gem5 would copy the program into memory of its own: its pages come from the page cache.
    record.process->image = gem5::loader::MemoryImage();
}

void Kernel::load(ProcessRecord& record) {
    record.loaded = true;
    record.mm = &core().create_mm();
    record.mmu = {record.mm->table.root(), static_cast<Pcid>(record.index + 1)};
    const HostFile program(record.process->executable);
    const std::shared_ptr<File> image = file(program.fd(), true);
    try {
        map_program(core(), *record.mm, image, read_segments(program),
                    [&](VirtAddr at, std::uint64_t n) {
                        const std::vector<std::uint8_t> zeros(n);
                        return copy_out(record, at, zeros.data(), n);
                    });
    } catch (const std::runtime_error& error) {
        fatal("ptshare: %s", error.what());
    }
}

std::shared_ptr<File> Kernel::file(int host_fd, bool create) {
    struct stat status;
    if (::fstat(host_fd, &status) != 0 || !S_ISREG(status.st_mode)) return nullptr;
    auto& entry = files_[{status.st_dev, status.st_ino}];
    if (!entry) {
        if (!create) return nullptr;
        entry = core().create_file("inode " + std::to_string(status.st_ino));
        contents_->back(*entry, host_fd);
        entry->resize(static_cast<std::uint64_t>(status.st_size));
    }
    return entry;
}

int Kernel::status(unsigned index) const {
    const ProcessRecord& record = records_.at(index);
    return record.signal != 0 ? -record.signal : record.exit_code;
}

void Kernel::leave(ProcessRecord& record) {
    if (!record.mm) return;
    update_instructions(record);
    if (record.in_roi) mark(record, 2);
    core().exit(*record.mm);
    record.mm = nullptr;
    owe(record, &engine::Counters::cycles_syscall, costs_.exit);
    record.walker->caches().flush_pcid(record.mmu.pcid);
}

void Kernel::mark(ProcessRecord& record, std::uint64_t kind) {
    update_instructions(record);
    if (kind == 1 && !record.in_roi) {
        record.in_roi = true;
        record.roi_begin = record.counters;
        if (inside_++ == 0) gem5::exitSimLoop("ptshare: the region of interest begins");
    } else if (kind == 2 && record.in_roi) {
        record.in_roi = false;
        engine::Counters inside = record.counters;
        engine::subtract(inside, record.roi_begin);
        engine::add(record.roi, inside);
        if (--inside_ == 0) gem5::exitSimLoop("ptshare: the region of interest ends");
    }
}

// ---- Faults and time

bool Kernel::serve(ProcessRecord& record, VirtAddr address, Access access, FaultResult& result) {
    result = core().fault(*record.mm, address, access);
    engine::count_fault(record.counters, result);
    DPRINTF(Ptshare, "process %d: fault of kind %d at %#x\n", record.index,
            static_cast<int>(result.kind), address.value);
    owe(record, &engine::Counters::cycles_fault, costs_.fault(result));
    return !result.is_fatal();
}

void Kernel::page_fault(gem5::ThreadContext* tc, VirtAddr address, Access access) {
    ProcessRecord& record = *this->record(tc);
    FaultResult result;
    if (serve(record, address, access, result)) {
        spend(record);
        return;
    }
    static constexpr const char* kVerbs[] = {"read of", "write to", "fetch from"};
    const bool bus = result.kind == FaultKind::Bus;
    std::ostringstream why;
    why << "ptshare: process " << record.index << " was killed by " << (bus ? "SIGBUS" : "SIGSEGV")
        << " (" << kVerbs[static_cast<unsigned>(access)] << " 0x" << std::hex << address.value
        << " at ip 0x" << tc->pcState().instAddr() << ")";
    record.signal = bus ? SIGBUS : SIGSEGV;
    leave(record);
    tc->suspend();
    gem5::exitSimLoop(why.str(), 128 + record.signal);
}

Pfn Kernel::user_frame(ProcessRecord& record, VirtAddr address, Access access) {
    if (!record.mm || address >= core().task_size()) return Pfn(0);
    for (int tries = 0; tries < kMaxTries; ++tries) {
        const auto leaf = record.mm->table.leaf(address);
        if (leaf && leaf->pte.permits(access)) return leaf->frame_of(address);
        FaultResult result;
        if (!serve(record, address, access, result)) return Pfn(0);
    }
    panic("ptshare: a page fault repeats without end");
}

namespace {

// Calls copy(frame address, done, part) for each page's part of [address, address + n).
template <class Frame, class Copy>
bool each_page(VirtAddr address, std::uint64_t n, Frame&& frame, Copy&& copy) {
    for (std::uint64_t done = 0; done < n;) {
        const VirtAddr at = address + done;
        const std::uint64_t part = std::min(n - done, kPageSize - page_offset(at));
        const Pfn pfn = frame(at);
        if (pfn == Pfn(0)) return false;
        copy(address_of(pfn).value + page_offset(at), done, part);
        done += part;
    }
    return true;
}

}  // namespace

bool Kernel::copy_in(ProcessRecord& record, VirtAddr from, void* to, std::uint64_t n) {
    return each_page(
        from, n, [&](VirtAddr at) { return user_frame(record, at, Access::Read); },
        [&](gem5::Addr at, std::uint64_t done, std::uint64_t part) {
            memory().readBlob(at, static_cast<std::uint8_t*>(to) + done, part);
        });
}

bool Kernel::copy_out(ProcessRecord& record, VirtAddr to, const void* from, std::uint64_t n) {
    return each_page(
        to, n, [&](VirtAddr at) { return user_frame(record, at, Access::Write); },
        [&](gem5::Addr at, std::uint64_t done, std::uint64_t part) {
            memory().writeBlob(at, static_cast<const std::uint8_t*>(from) + done, part);
        });
}

void Kernel::owe(ProcessRecord& record, std::uint64_t engine::Counters::*category,
                 std::uint64_t cycles) {
    const Effects effects = core().take_effects();
    cycles += costs_.effects(effects);
    record.counters.*category += cycles;
    record.pending += cycles;
    for (const FlushRequest& request : effects.flushes) shoot_down(record, request);
}

void Kernel::spend(ProcessRecord& record) {
    // A CPU that a system call put to sleep goes on when that says so.
    if (record.pending == 0 || record.context->status() != gem5::ThreadContext::Active) return;
    const std::uint64_t cycles = std::exchange(record.pending, 0);
    system_->threads.quiesceTick(record.context->contextId(), clockEdge(gem5::Cycles(cycles)));
}

std::uint64_t Kernel::flush(ProcessRecord& record, const FlushTarget& target) {
    engine::TranslationCaches& caches = record.walker->caches();
    const std::uint64_t pages = (target.end - target.start) >> kPageShift;
    std::uint64_t cycles = costs_.shootdown_local;
    std::uint64_t dropped = 0;
    if (pages > flush_ceiling_) {
        dropped = caches.flush_pcid(record.mmu.pcid);
    } else {
        dropped = caches.flush_range(record.mmu.pcid, target.start, target.end);
        cycles += pages * costs_.flush_page;
    }
    record.counters.tlb_flushed_entries += dropped;
    return cycles;
}

// As Linux's native_flush_tlb_multi: every CPU that runs an affected mm is interrupted. A CPU's
// own time for it is spent at its next fault or system call.
void Kernel::shoot_down(ProcessRecord& from, const FlushRequest& request) {
    std::unordered_map<std::uint64_t, const FlushTarget*> targets;
    for (const FlushTarget& target : request.targets) targets[target.mm.value] = &target;
    invalidated_ranges_ += request.targets.size();
    ++from.counters.shootdowns;
    std::uint64_t interrupted = 0;
    for (ProcessRecord& record : records_) {
        if (!record.mm) continue;
        const auto hit = targets.find(record.mm->id.value);
        if (hit == targets.end()) continue;
        std::uint64_t cycles = flush(record, *hit->second);
        if (&record != &from) {
            ++interrupted;
            ++record.counters.shootdown_received;
            cycles += costs_.shootdown_receive;
        }
        record.counters.cycles_shootdown += cycles;
        record.pending += cycles;
    }
    if (interrupted == 0) return;
    from.counters.shootdown_ipis += interrupted;
    const std::uint64_t cycles = costs_.shootdown_first + (interrupted - 1) * costs_.shootdown_next;
    from.counters.cycles_shootdown += cycles;
    from.pending += cycles;
}

}  // namespace ptshare::g5
