// The sharing policies for Python: what their own files state.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "core/policy.h"

namespace nb = nanobind;

namespace ptshare::bindings {

void bind_policies(nb::module_& module) {
    const auto has = [](PolicyTrait trait) {
        return [trait](const PolicyInfo& info) { return info.has(trait); };
    };
    nb::class_<PolicyInfo>(module, "PolicyInfo")
        .def_ro("name", &PolicyInfo::name)
        .def_ro("description", &PolicyInfo::description)
        .def_prop_ro("shares_tables", has(kSharesTables))
        .def_prop_ro("strict_alignment", has(kStrictAlignment))
        .def_prop_ro("page_by_page", has(kPageByPage))
        .def_prop_ro("candidate", has(kCandidate));
    module.def("policies", &policies);
}

}  // namespace ptshare::bindings
