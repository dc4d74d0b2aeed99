// The extension module: core's kernel for tests and tools, the embedded engine's simulation.
#include <nanobind/nanobind.h>

#include "bindings/bindings.h"

NB_MODULE(_core, module) {
    module.doc() = "ptshare's model core and embedded engine";
    ptshare::bindings::bind_kernel(module);
    ptshare::bindings::bind_metrics(module);
    ptshare::bindings::bind_policies(module);
    ptshare::bindings::bind_protect_ways(module);
    ptshare::bindings::bind_recording(module);
    ptshare::bindings::bind_imports(module);
    ptshare::bindings::bind_run(module);  // what simulations derive from
    ptshare::bindings::bind_playback(module);
    ptshare::bindings::bind_simulation(module);
    ptshare::bindings::bind_plan(module);
    ptshare::bindings::bind_stream(module);
    ptshare::bindings::bind_trace(module);
}
