// engine::Simulation for Python.
#include "programs/simulation.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "bindings/bindings.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Params;
using engine::Simulation;

std::size_t add_program(Simulation& simulation, const std::string& name, nb::bytes image,
                        const std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t,
                                                     std::uint64_t, std::uint64_t>>& segments,
                        std::uint64_t entry, std::uint64_t phdr, std::uint64_t phentsize,
                        std::uint64_t phnum) {
    std::vector<Segment> list;
    for (const auto& [address, offset, file_bytes, memory_bytes, prot] : segments) {
        list.push_back({VirtAddr(address), offset, file_bytes, memory_bytes, prot});
    }
    const auto* first = static_cast<const std::uint8_t*>(image.data());
    return simulation.add_program(name, {first, first + image.size()}, list, VirtAddr(entry),
                                  VirtAddr(phdr), phentsize, phnum);
}

}  // namespace

void bind_simulation(nb::module_& module) {
    nb::class_<Simulation, engine::Run>(module, "Simulation")
        .def(
            "__init__",
            [](Simulation* self, const std::map<std::string, engine::Parameter>& params,
               const std::string& policy, unsigned cores, std::uint64_t seed,
               const std::string& unicorn_library) {
                new (self) Simulation(Params(params), policy, cores, seed, unicorn_library);
            },
            nb::arg("params"), nb::arg("policy"), nb::arg("cores"), nb::arg("seed"),
            nb::arg("unicorn_library"))
        .def("add_program", &add_program, nb::arg("name"), nb::arg("image"), nb::arg("segments"),
             nb::arg("entry"), nb::arg("phdr"), nb::arg("phentsize"), nb::arg("phnum"))
        .def("add_process", &Simulation::add_process, nb::arg("program"), nb::arg("argv"),
             nb::arg("env"));

    module.def("policies", [] {
        std::vector<std::pair<std::string, std::string>> list;
        for (const PolicyInfo& info : policies()) list.emplace_back(info.name, info.description);
        return list;
    });
}

}  // namespace ptshare::bindings
