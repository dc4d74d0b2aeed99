#include "gem5/fault.hh"

#include "gem5/kernel.hh"

namespace ptshare::g5 {

void PageFault::invoke(gem5::ThreadContext* tc, const gem5::StaticInstPtr&) {
    kernel_.page_fault(tc, address_, access_);
}

}  // namespace ptshare::g5
