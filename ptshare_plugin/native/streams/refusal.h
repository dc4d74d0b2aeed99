// Why the kernel did not map what a stream or a trace needs, in words.
#pragma once

#include <string>

#include "core/kernel.h"

namespace ptshare::engine {

// Maps, or throws std::runtime_error that says why not and what would be right. `what`: to be
// mapped, for the message.
VirtAddr map_or_say(Kernel& kernel, Mm& mm, const MapRequest& request, const std::string& what);

}  // namespace ptshare::engine
