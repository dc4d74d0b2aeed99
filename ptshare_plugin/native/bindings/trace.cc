// Traces for Python: survey, conversion, replay.
#include "streams/trace.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "streams/replay.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::AddressRange;
using engine::Params;
using engine::Replay;
using engine::TraceConversion;
using engine::TraceSurvey;

using Numbers = std::pair<std::uint64_t, std::uint64_t>;

AddressRange range(const Numbers& numbers) {
    return {VirtAddr(numbers.first), VirtAddr(numbers.second)};
}

std::vector<Numbers> ranges(const TraceSurvey& survey) {
    std::vector<Numbers> found;
    for (const auto& [first, end] : survey.ranges()) found.emplace_back(first.value, end.value);
    return found;
}

}  // namespace

void bind_trace(nb::module_& module) {
    nb::class_<TraceSurvey>(module, "TraceSurvey")
        .def(
            "__init__",
            [](TraceSurvey* self, const std::string& path, const Numbers& share) {
                new (self) TraceSurvey(path, range(share));
            },
            nb::arg("path"), nb::arg("share"))
        .def("step", &TraceSurvey::step, nb::arg("records"),
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("records", &TraceSurvey::records)
        .def_prop_ro("shared", &TraceSurvey::shared)
        .def_prop_ro("cut_off", &TraceSurvey::cut_off)
        .def("ranges", &ranges);
    nb::class_<TraceConversion>(module, "TraceConversion")
        .def(nb::init<const std::string&, const std::string&>(), nb::arg("source"),
             nb::arg("target"))
        .def("step", &TraceConversion::step, nb::arg("records"),
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("records", &TraceConversion::records)
        .def_prop_ro("cut_off", &TraceConversion::cut_off);
    nb::class_<Replay, engine::Run>(module, "Replay")
        .def(
            "__init__",
            [](Replay* self, const std::map<std::string, engine::Parameter>& params,
               const std::string& policy, unsigned cores, const std::string& trace,
               const std::vector<Numbers>& ranges, const Numbers& shared_range, bool share,
               std::uint64_t processes, bool ends_together) {
                engine::ReplayRequest request;
                request.trace = trace;
                for (const Numbers& numbers : ranges) request.ranges.push_back(range(numbers));
                request.shared_range = range(shared_range);
                request.share = share;
                request.processes = processes;
                request.ends_together = ends_together;
                new (self) Replay(Params(params), policy, cores, std::move(request));
            },
            nb::arg("params"), nb::arg("policy"), nb::arg("cores"), nb::arg("trace"),
            nb::arg("ranges"), nb::arg("shared_range"), nb::arg("share"), nb::arg("processes"),
            nb::arg("ends_together"));
}

}  // namespace ptshare::bindings
