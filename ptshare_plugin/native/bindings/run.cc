// engine::Run for Python: what every simulation does and hands over.
#include "machine/run.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/bindings.h"
#include "core/audit.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Run;

using Row = std::tuple<int, std::string, std::uint64_t>;

std::vector<Row> statistics(const Run& run) {
    std::vector<Row> rows;
    int index = 0;
    for (const engine::Rank& rank : run.ranks()) {
        engine::for_each_counter(rank.counters, [&](const std::string& name, std::uint64_t value) {
            rows.emplace_back(index, name, value);
        });
        if (rank.marked) {
            engine::for_each_counter(rank.roi, [&](const std::string& name, std::uint64_t value) {
                rows.emplace_back(index, "roi." + name, value);
            });
        }
        ++index;
    }
    for (const auto& [name, value] : engine::machine_metrics(run.machine())) {
        rows.emplace_back(-1, name, value);
    }
    return rows;
}

std::vector<std::vector<std::uint64_t>> samples(const Run& run) {
    std::vector<std::vector<std::uint64_t>> rows;
    for (const engine::Sample& sample : run.samples()) rows.push_back(sample.row());
    return rows;
}

nb::list results(const Run& run) {
    nb::list list;
    for (const engine::Rank& rank : run.ranks()) {
        list.append(nb::make_tuple(rank.pid, rank.exit_code, rank.signal,
                                   nb::bytes(rank.output.data(), rank.output.size()),
                                   nb::bytes(rank.errors.data(), rank.errors.size()), rank.note));
    }
    return list;
}

}  // namespace

void bind_run(nb::module_& module) {
    nb::class_<Run>(module, "Run")
        .def("step", &Run::step, nb::arg("count"), nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("instructions", &Run::instructions)
        .def_prop_ro("cycles", &Run::cycles)
        .def("results", &results)
        .def("statistics", &statistics)
        .def("samples", &samples)
        .def("audit", [](const Run& run) { return audit(run.machine().kernel()); });
}

}  // namespace ptshare::bindings
