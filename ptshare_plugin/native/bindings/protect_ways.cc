// engine::measure_protect for Python.
#include "studies/protect_ways.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>

#include "bindings/bindings.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Params;
using Values = std::map<std::string, engine::Parameter>;

nb::dict measure(const Values& params, const std::string& policy, unsigned processes,
                 unsigned cores, std::uint64_t region, std::uint64_t piece, unsigned way,
                 unsigned direction) {
    engine::ProtectCost cost;
    {
        const nb::gil_scoped_release released;
        const auto look = [] {
            const nb::gil_scoped_acquire held;
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
        };
        cost = engine::measure_protect(
            Params(params), policy, {processes, cores, region, piece, look},
            static_cast<engine::ProtectWay>(way), static_cast<engine::ProtectDirection>(direction));
    }
    nb::dict row;
    row["caller_cycles"] = cost.caller_cycles;
    row["hold_cycles"] = cost.hold_cycles;
    row["work_cycles"] = cost.work_cycles();
    row["change_cycles"] = cost.change_cycles;
    row["touch_cycles"] = cost.touch_cycles;
    row["baseline_cycles"] = cost.baseline_cycles;
    row["syscalls"] = cost.syscalls;
    row["messages"] = cost.messages;
    row["signals"] = cost.signals;
    row["faults"] = cost.faults;
    row["switches"] = cost.switches;
    row["walks"] = cost.walks;
    row["ipis"] = cost.ipis;
    row["adopted"] = cost.adopted;
    row["stale_hits"] = cost.stale_hits;
    return row;
}

}  // namespace

void bind_protect_ways(nb::module_& module) {
    module.def("measure_protect", &measure, nb::arg("params"), nb::arg("policy"),
               nb::arg("processes"), nb::arg("cores"), nb::arg("region"), nb::arg("piece"),
               nb::arg("way"), nb::arg("direction"));
    module.def(
        "policy_shares_tables",
        [](const Values& params, const std::string& policy) {
            return engine::policy_shares_tables(Params(params), policy);
        },
        nb::arg("params"), nb::arg("policy"));
}

}  // namespace ptshare::bindings
