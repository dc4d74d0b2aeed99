// Recounts everything from scratch and compares it with what the kernel claims.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"

namespace ptshare {

// Every violated invariant, a line each; empty when all hold. Walks every live table: slow.
std::vector<std::string> audit(const Kernel& kernel);

}  // namespace ptshare
