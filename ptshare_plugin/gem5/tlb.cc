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

// A cache-line flush is checked as a read.
BaseMMU::Mode checked_as(const RequestPtr& req, BaseMMU::Mode mode) {
    return req->isCacheClean() ? BaseMMU::Read : mode;
}

}  // namespace

Access access_of(BaseMMU::Mode mode) {
    if (mode == BaseMMU::Execute) return Access::Fetch;
    return mode == BaseMMU::Write ? Access::Write : Access::Read;
}

Tlb::Tlb(const Params& p) : TLB(p), kernel_(p.kernel), pages_(p.pages) {
}

ProcessRecord* Tlb::record_for(const RequestPtr& req, ThreadContext* tc) const {
    if ((req->getFlags() & kSegmentMask) == gem5::X86ISA::segment_idx::Ms) return nullptr;
    ProcessRecord* record = kernel_->record(tc);
    // Above the user half lies gem5's vsyscall page.
    if (!record || (req->getVaddr() >> 63) != 0) return nullptr;
    if (!record->loaded) kernel_->load(*record);
    return record->mm ? record : nullptr;
}

Fault Tlb::finish(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode,
                  PhysAddr address) const {
    req->setPaddr(address.value);
    return finalizePhysical(req, tc, mode);
}

Fault Tlb::translateAtomic(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode) {
    ProcessRecord* record = record_for(req, tc);
    if (!record) return TLB::translateAtomic(req, tc, mode);
    mode = checked_as(req, mode);
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(mode);
    PhysAddr physical;
    if (!pages_->translate(*record, address, access, physical)) {
        return std::make_shared<PageFault>(*kernel_, address, access);
    }
    return finish(req, tc, mode, physical);
}

void Tlb::translateTiming(const RequestPtr& req, ThreadContext* tc,
                          BaseMMU::Translation* translation, BaseMMU::Mode mode) {
    ProcessRecord* record = record_for(req, tc);
    if (!record) {
        TLB::translateTiming(req, tc, translation, mode);
        return;
    }
    mode = checked_as(req, mode);
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(mode);
    const auto lookup = pages_->look_up(*record, address, access);
    if (lookup.found == Found::Here && lookup.cycles == 0) {
        translation->finish(finish(req, tc, mode, lookup.address), req, tc, mode);
    } else if (lookup.found == Found::Outside) {
        translation->finish(std::make_shared<PageFault>(*kernel_, address, access), req, tc, mode);
    } else {
        translation->markDelayed();
        pages_->delay({this, translation, req, tc, mode}, *record, lookup);
    }
}

Fault Tlb::translateFunctional(const RequestPtr& req, ThreadContext* tc, BaseMMU::Mode mode) {
    ProcessRecord* record = record_for(req, tc);
    if (!record) return TLB::translateFunctional(req, tc, mode);
    const VirtAddr address(req->getVaddr());
    const Access access = access_of(checked_as(req, mode));
    const Pfn frame = kernel_->user_frame(*record, address, access);
    if (frame == Pfn(0)) return std::make_shared<PageFault>(*kernel_, address, access);
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
