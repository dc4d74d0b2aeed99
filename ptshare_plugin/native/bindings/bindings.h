// What each file of bindings/ adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace ptshare::bindings {

void bind_imports(nanobind::module_& module);
void bind_kernel(nanobind::module_& module);
void bind_metrics(nanobind::module_& module);
void bind_policies(nanobind::module_& module);
void bind_playback(nanobind::module_& module);
void bind_protect_ways(nanobind::module_& module);
void bind_recording(nanobind::module_& module);
void bind_run(nanobind::module_& module);
void bind_simulation(nanobind::module_& module);
void bind_plan(nanobind::module_& module);
void bind_stream(nanobind::module_& module);
void bind_trace(nanobind::module_& module);

}  // namespace ptshare::bindings
