// What the engines can count, with unit and meaning, for the test that holds it against Python's
// vocabulary.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "accounting/counters.h"
#include "accounting/vocabulary.h"
#include "bindings/bindings.h"
#include "machine/machine_metrics.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using MetricRows = std::vector<std::tuple<std::string, std::string, std::string>>;

void add_row(MetricRows& rows, const std::string& name) {
    const engine::MetricRow* row = engine::find_metric(name);
    if (!row) throw std::logic_error(name + " is counted, but has no row in the vocabulary");
    rows.emplace_back(row->name, row->unit, row->meaning);
}

}  // namespace

void bind_metrics(nb::module_& module) {
    module.def("counters", [] {
        MetricRows rows;
        const engine::Counters none;
        engine::for_each_counter(
            none, [&](const std::string& name, std::uint64_t) { add_row(rows, name); });
        return rows;
    });
    module.def("machine_metrics", [] {
        MetricRows rows;
        for (const std::string& name : engine::machine_metric_names()) add_row(rows, name);
        return rows;
    });
}

}  // namespace ptshare::bindings
