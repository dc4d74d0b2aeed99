// The Python extension module that brings the SimObjects into a gem5.opt that knows nothing of
// them. Its symbols are gem5.opt's, which exports them (it is linked with -rdynamic).
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pybind11/pybind11.h"
#include "sim/init.hh"

namespace {

using Init = void (*)(pybind11::module_&);

// Initialisers of the generated parameter bindings, in the order of the generated files, and of
// policies.cc.
std::vector<Init>& initialisers() {
    static std::vector<Init> list;
    return list;
}

}  // namespace

namespace gem5 {

// gem5's own constructors are hidden (their signature names a pybind11 type), and would come too
// late: the _m5 module is complete when this one is imported. Here they only collect.
EmbeddedPyBind::EmbeddedPyBind(const char* bound, void (*function)(pybind11::module_&),
                               const char* parent)
    : initFunc(function), name(bound), base(parent) {
    initialisers().push_back(function);
}

EmbeddedPyBind::EmbeddedPyBind(const char* bound, void (*function)(pybind11::module_&))
    : EmbeddedPyBind(bound, function, "") {
}

}  // namespace gem5

PYBIND11_MODULE(ptshare_gem5, module) {
    for (const Init init : initialisers()) init(module);
}
