// The class Kernel of the module.
#pragma once

#include <nanobind/nanobind.h>

#include "bindings/model.h"

namespace ptshare::bindings {

using KernelClass = nanobind::class_<Model>;

// What a kernel holds and has counted (kernel_state.cc).
void bind_kernel_state(KernelClass& kernel);

}  // namespace ptshare::bindings
