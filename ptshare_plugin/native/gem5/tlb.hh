// One side, instructions or data, of a CPU's translation caches, as gem5's CPUs see it.
#pragma once

#include "arch/x86/tlb.hh"
#include "core/types.h"
#include "params/PtshareTLB.hh"

namespace ptshare::g5 {

using gem5::PtshareTLBParams;

class Kernel;
class Walker;
struct Task;

// The arrays of X86ISA::TLB serve only what core does not map (gem5's vsyscall page, and processes
// that core does not know); everything else is in the walker's TranslationCaches.
class Tlb : public gem5::X86ISA::TLB {
  public:
    PARAMS(PtshareTLB);
    explicit Tlb(const Params& p);

    Walker& pages() const { return *pages_; }

    gem5::Fault translateAtomic(const gem5::RequestPtr& req, gem5::ThreadContext* tc,
                                gem5::BaseMMU::Mode mode) override;
    void translateTiming(const gem5::RequestPtr& req, gem5::ThreadContext* tc,
                         gem5::BaseMMU::Translation* translation,
                         gem5::BaseMMU::Mode mode) override;
    // What system calls and debuggers use: pages are faulted in, nothing is counted as a look-up.
    gem5::Fault translateFunctional(const gem5::RequestPtr& req, gem5::ThreadContext* tc,
                                    gem5::BaseMMU::Mode mode) override;
    void flushAll() override;
    void demapPage(gem5::Addr va, std::uint64_t asn) override;

    // Sets the physical address of a request that has been translated.
    gem5::Fault finish(const gem5::RequestPtr& req, gem5::ThreadContext* tc,
                       gem5::BaseMMU::Mode mode, PhysAddr address) const;
    // The page fault of one that is not.
    gem5::Fault fault(VirtAddr address, Access access) const;

  private:
    // The task whose tables translate the request; null: the base class does.
    Task* task_for(const gem5::RequestPtr& req, gem5::ThreadContext* tc) const;
    // False: gem5 has woken the context out of turn. The fault of its fetch hands it over.
    bool may_fetch(const Task& task, gem5::BaseMMU::Mode mode) const;
    static void count(Task& task, gem5::BaseMMU::Mode mode);

    Kernel* kernel_;  // not owned, as is pages_
    Walker* pages_;
};

// What rights a request needs. The load of a read-modify-write needs those of its store: it may
// lock the line, and the store must not fault then (gem5's own TLB checks it so, too).
Access access_of(const gem5::RequestPtr& req, gem5::BaseMMU::Mode mode);

}  // namespace ptshare::g5
