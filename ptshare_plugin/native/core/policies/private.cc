// Policy `private`: MAP_SHARED_PT is ignored, as by a kernel that does not know it. The baseline.
#include <memory>

#include "../policy.h"

namespace ptshare {
namespace {

const RegisterPolicy kRegistered({"private", "every process has its own page tables (baseline)", 0,
                                  0, [] { return std::make_unique<SharingPolicy>(); }});

}  // namespace
}  // namespace ptshare
