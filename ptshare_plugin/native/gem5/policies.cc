// The sharing policies for gem5's Python: what their own files state, as in ptshare_plugin._core.
#include "core/policy.h"
#include "pybind11/pybind11.h"
#include "pybind11/stl.h"
#include "sim/init.hh"

namespace {

using ptshare::PolicyInfo;
using ptshare::PolicyTrait;

void bind(pybind11::module_& m5) {
    pybind11::module_ module = m5.def_submodule("ptshare", "What ptshare's core states");
    const auto has = [](PolicyTrait trait) {
        return [trait](const PolicyInfo& info) { return info.has(trait); };
    };
    pybind11::class_<PolicyInfo>(module, "PolicyInfo")
        .def_readonly("name", &PolicyInfo::name)
        .def_readonly("description", &PolicyInfo::description)
        .def_property_readonly("shares_tables", has(ptshare::kSharesTables))
        .def_property_readonly("strict_alignment", has(ptshare::kStrictAlignment))
        .def_property_readonly("page_by_page", has(ptshare::kPageByPage))
        .def_property_readonly("candidate", has(ptshare::kCandidate));
    module.def("policies", &ptshare::policies);
}

const gem5::EmbeddedPyBind kBound("ptshare", bind);

}  // namespace
