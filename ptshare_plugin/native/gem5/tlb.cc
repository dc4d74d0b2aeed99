#include "gem5/tlb.hh"

#include "arch/x86/ldstflags.hh"
#include "arch/x86/regs/segment.hh"
#include "gem5/fault.hh"
#include "gem5/kernel.hh"
#include "gem5/walker.hh"

namespace ptshare::g5 {

using gem5::BaseMMU;
using gem5::Fault;
using gem5::RequestPtr;
using gem5::ThreadContext;
using Found = engine::TranslationCaches::Found;

namespace {

constexpr gem5::Addr kSegmentMask = gem5::X86ISA::SegmentFlagMask;
// gem5's X86_64Process::vsyscallPage, which it maps itself.
constexpr gem5::Addr kVsyscallPage = 0xffffffffff600000ULL >> kPageShift;

// A cache-line flush is checked as a read.
BaseMMU::Mode checked_as(const RequestPtr& req, BaseMMU::Mode mode) {
    return req->isCacheClean() ? BaseMMU::Read : mode;
}

}  // namespace

Access access_of(const RequestPtr& req, BaseMMU::Mode mode) {
    if (mode == BaseMMU::Execute) return Access::Fetch;
    const bool writes = mode == BaseMMU::Write || req->isReadModifyWrite();
    return writes && !req->isCacheClean() ? Access::Write : Access::Read;
}

Tlb::Tlb(const Params& p) : TLB(p), kernel_(p.kernel), pages_(p.pages) {
}

Task* Tlb::task_for(const RequestPtr& req, ThreadContext* tc) const {
    if ((req->getFlags() & kSegmentMask) == gem5::X86ISA::segment_idx::Ms) return nullptr;
    Task* task = kernel_->task(tc);
    if (!task || req->getVaddr() >> kPageShift == kVsyscallPage) return nullptr;
    // gem5 writes the stack of a program that core has not seen yet.
    if (!task->started) kernel_->load(*task);
    return task;
}

Fault Tlb::finish(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode,
                  PhysAddr address) const {
    req->setPaddr(address.value);
    return finalizePhysical(req, tc, mode);
}

Fault Tlb::fault(VirtAddr address, Access access) const {
    return std::make_shared<PageFault>(*kernel_, address, access);
}

bool Tlb::may_fetch(const Task& task, BaseMMU::Mode mode) const {
    return mode != BaseMMU::Execute || kernel_->scheduler().has_core(task);
}

void Tlb::count(Task& task, BaseMMU::Mode mode) {
    if (mode == BaseMMU::Read) ++task.counters.data_reads;
    if (mode == BaseMMU::Write) ++task.counters.data_writes;
}

Fault Tlb::translateAtomic(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode) {
    Task* task = task_for(req, tc);
    if (!task) return TLB::translateAtomic(req, tc, mode);
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(req, mode);
    // A dead task's CPU comes to its end.
    if (!task->mm || !may_fetch(*task, mode)) return fault(address, access);
    count(*task, checked_as(req, mode));
    PhysAddr physical;
    if (!pages_->translate(*task, address, access, physical)) return fault(address, access);
    return finish(req, tc, mode, physical);
}

void Tlb::translateTiming(const RequestPtr& req, ThreadContext* tc,
                          BaseMMU::Translation* translation, BaseMMU::Mode mode) {
    Task* task = task_for(req, tc);
    if (!task) {
        TLB::translateTiming(req, tc, translation, mode);
        return;
    }
    // Whoever asked is told of the mode that it asked with.
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(req, mode);
    if (!task->mm || !may_fetch(*task, mode)) {
        translation->finish(fault(address, access), req, tc, mode);
        return;
    }
    count(*task, checked_as(req, mode));
    const auto lookup = pages_->look_up(*task, address, access);
    if (lookup.found == Found::Here && lookup.cycles == 0) {
        translation->finish(finish(req, tc, mode, lookup.address), req, tc, mode);
    } else if (lookup.found == Found::Outside) {
        translation->finish(fault(address, access), req, tc, mode);
    } else {
        translation->markDelayed();
        pages_->delay({this, translation, req, tc, mode}, *task, lookup);
    }
}

Fault Tlb::translateFunctional(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode) {
    Task* task = task_for(req, tc);
    if (!task) return TLB::translateFunctional(req, tc, mode);
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(req, mode);
    const Pfn frame = kernel_->user_frame(*task, address, access);
    if (frame == Pfn(0)) return fault(address, access);
    req->setPaddr(address_of(frame).value + page_offset(address));
    return gem5::NoFault;
}

void Tlb::flushAll() {
    TLB::flushAll();
    pages_->caches().flush_all();
}

void Tlb::demapPage(gem5::Addr va, std::uint64_t asn) {
    TLB::demapPage(va, asn);
    // No address space is named: whoever calls this gets more than was asked for.
    pages_->caches().flush_all();
}

}  // namespace ptshare::g5
