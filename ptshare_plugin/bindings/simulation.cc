// engine::Simulation for Python.
#include "engine/simulation.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "bindings/bindings.h"
#include "core/audit.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Counters;
using engine::for_each_counter;
using engine::Params;
using engine::Simulation;

using Row = std::tuple<int, std::string, std::uint64_t>;

std::vector<Row> statistics(const Simulation& simulation) {
    std::vector<Row> rows;
    int index = 0;
    for (const engine::Rank& rank : simulation.ranks()) {
        for_each_counter(rank.counters, [&](const std::string& name, std::uint64_t value) {
            rows.emplace_back(index, name, value);
        });
        if (rank.marked) {
            for_each_counter(rank.roi, [&](const std::string& name, std::uint64_t value) {
                rows.emplace_back(index, "roi." + name, value);
            });
        }
        ++index;
    }
    for (const auto& [name, value] : simulation.machine_metrics())
        rows.emplace_back(-1, name, value);
    return rows;
}

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

std::vector<std::vector<std::uint64_t>> samples(const Simulation& simulation) {
    std::vector<std::vector<std::uint64_t>> rows;
    for (const engine::Sample& sample : simulation.samples()) rows.push_back(sample.row());
    return rows;
}

nb::list results(const Simulation& simulation) {
    nb::list list;
    for (const engine::Rank& rank : simulation.ranks()) {
        list.append(nb::make_tuple(rank.pid, rank.exit_code, rank.signal,
                                   nb::bytes(rank.output.data(), rank.output.size()),
                                   nb::bytes(rank.errors.data(), rank.errors.size()), rank.note));
    }
    return list;
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
        .def("results", &results)
        .def("statistics", &statistics)
        .def("samples", &samples);

    module.def("policies", [] {
        std::vector<std::pair<std::string, std::string>> list;
        for (const PolicyInfo& info : policies()) list.emplace_back(info.name, info.description);
        return list;
    });
    module.def("counter_names", [] {
        std::vector<std::string> names;
        const Counters none;
        for_each_counter(none,
                         [&](const std::string& name, std::uint64_t) { names.push_back(name); });
        return names;
    });
    module.def("machine_metric_names", [] { return Simulation::machine_metric_names(); });
}

}  // namespace ptshare::bindings
