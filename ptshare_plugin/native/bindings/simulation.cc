// engine::Simulation for Python.
#include "programs/simulation.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "bindings/bindings.h"
#include "bindings/results.h"
#include "core/audit.h"

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
    nb::class_<Simulation>(module, "Simulation")
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
             nb::arg("env"))
        .def("step", &Simulation::step, nb::arg("instructions"),
             nb::call_guard<nb::gil_scoped_release>())
        .def("audit", [](Simulation& self) { return audit(self.machine().kernel()); })
        .def_prop_ro("instructions", &Simulation::instructions)
        .def_prop_ro("cycles", &Simulation::cycles)
        .def("results", &results<Simulation>)
        .def("statistics", &statistics<Simulation>)
        .def("samples", &samples<Simulation>);

    module.def("counter_names", [] {
        std::vector<std::string> names;
        const engine::Counters none;
        engine::for_each_counter(
            none, [&](const std::string& name, std::uint64_t) { names.push_back(name); });
        return names;
    });
    module.def("machine_metric_names", [] { return engine::machine_metric_names(); });
}

}  // namespace ptshare::bindings
