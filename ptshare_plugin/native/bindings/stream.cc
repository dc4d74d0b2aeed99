// engine::Stream for Python.
#include "streams/stream.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "streams/native_loop.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Params;
using engine::Stream;
using engine::StreamRequest;

using Numbers =
    std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;

// Of a map whose keys the caller of Python's side is to know.
std::uint64_t at(const std::map<std::string, std::uint64_t>& values, const char* key) {
    const auto found = values.find(key);
    if (found == values.end()) throw std::invalid_argument(std::string(key) + " is missing");
    return found->second;
}

}  // namespace

void bind_stream(nb::module_& module) {
    nb::class_<Stream, engine::Run>(module, "Stream")
        .def(
            "__init__",
            [](Stream* self, const std::map<std::string, engine::Parameter>& params,
               const std::string& policy, unsigned cores, const std::string& pattern,
               const std::string& name, const std::vector<Numbers>& segments,
               const std::map<std::string, std::uint64_t>& values) {
                StreamRequest request;
                request.pattern = pattern;
                request.file = name;
                request.file_bytes = at(values, "file_bytes");
                for (const auto& [address, offset, file_bytes, memory_bytes, prot] : segments) {
                    request.segments.push_back(
                        {VirtAddr(address), offset, file_bytes, memory_bytes, prot});
                }
                request.places.options = VirtAddr(at(values, "options"));
                request.places.barrier_page = VirtAddr(at(values, "barrier_page"));
                request.places.powers = VirtAddr(at(values, "powers"));
                request.region = VirtAddr(at(values, "region"));
                request.region_bytes = at(values, "region_bytes");
                request.share = at(values, "share") != 0;
                request.around = at(values, "around") != 0;
                request.processes = at(values, "processes");
                request.seed = at(values, "seed");
                request.work = at(values, "work");
                request.own = at(values, "own");
                new (self) Stream(Params(params), policy, cores, std::move(request));
            },
            nb::arg("params"), nb::arg("policy"), nb::arg("cores"), nb::arg("pattern"),
            nb::arg("name"), nb::arg("segments"), nb::arg("values"));
    module.def("patterns", [] {
        std::map<std::string, std::string> arguments;
        for (const engine::PatternInfo& info : engine::patterns()) {
            arguments.emplace(info.name, info.argument);
        }
        return arguments;
    });
    module.def(
        "native_loop",
        [](const std::string& pattern, const std::map<std::string, std::uint64_t>& values) {
            const engine::NativeLoop loop = engine::native_loop(
                pattern, {VirtAddr(at(values, "region")), at(values, "region_bytes"), 0, 1,
                          at(values, "seed"), at(values, "work"), at(values, "own")});
            return std::make_tuple(loop.accesses, loop.seconds, loop.sum);
        },
        nb::arg("pattern"), nb::arg("values"));
}

}  // namespace ptshare::bindings
