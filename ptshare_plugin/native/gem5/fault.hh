// A page fault that core serves: gem5's own would end the simulation.
#pragma once

#include "core/types.h"
#include "sim/faults.hh"

namespace ptshare::g5 {

class Kernel;

class PageFault final : public gem5::FaultBase {
  public:
    PageFault(Kernel& kernel, VirtAddr address, Access access)
        : kernel_(kernel), address_(address), access_(access) {}

    gem5::FaultName name() const override { return "ptshare page fault"; }
    void invoke(gem5::ThreadContext* tc,
                const gem5::StaticInstPtr& inst = gem5::nullStaticInstPtr) override;

  private:
    Kernel& kernel_;  // not owned
    VirtAddr address_;
    Access access_;
};

}  // namespace ptshare::g5
