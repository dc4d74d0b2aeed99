// engine::Playback for Python.
#include "playback/playback.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <tuple>

#include "bindings/bindings.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Params;
using engine::Playback;
using engine::PlaybackRequest;

// Streams as a Python object has them: len(), pieces(stream), events(stream, piece), blocks(...).
class Pieces final : public engine::PieceSource {
  public:
    explicit Pieces(nb::object streams) : streams_(std::move(streams)) {}
    ~Pieces() override {
        const nb::gil_scoped_acquire acquire;
        streams_.reset();
    }

    std::size_t streams() const override {
        const nb::gil_scoped_acquire acquire;
        return nb::len(streams_);
    }
    std::size_t pieces(std::size_t stream) const override {
        const nb::gil_scoped_acquire acquire;
        return nb::cast<std::size_t>(streams_.attr("pieces")(stream));
    }
    std::string events(std::size_t stream, std::size_t piece) override {
        return text("events", stream, piece);
    }
    std::string blocks(std::size_t stream, std::size_t piece) override {
        return text("blocks", stream, piece);
    }

  private:
    std::string text(const char* what, std::size_t stream, std::size_t piece) {
        const nb::gil_scoped_acquire acquire;
        const nb::bytes found = nb::cast<nb::bytes>(streams_.attr(what)(stream, piece));
        return {found.c_str(), found.size()};
    }

    nb::object streams_;
};

using Deviations =
    std::vector<std::vector<std::tuple<std::string, std::uint64_t, std::uint64_t, std::uint64_t>>>;

Deviations deviations(const Playback& playback) {
    Deviations all;
    for (const auto& of_stream : playback.deviations()) {
        all.emplace_back();
        for (const engine::Deviation& each : of_stream) {
            all.back().emplace_back(each.what, each.address.value, each.bytes, each.times);
        }
    }
    return all;
}

using Run = std::pair<std::uint64_t, std::uint64_t>;
using Held = std::tuple<std::size_t, unsigned, std::uint64_t, std::vector<Run>>;

std::vector<Held> present(const Playback& playback) {
    std::vector<Held> all;
    for (const engine::Present& each : playback.present()) {
        std::vector<Run> runs;
        for (const auto& [at, pages] : each.runs) runs.emplace_back(at.value, pages);
        all.emplace_back(each.stream, each.rank, each.vm_pte_bytes, std::move(runs));
    }
    return all;
}

}  // namespace

void bind_playback(nb::module_& module) {
    nb::class_<Playback, engine::Run>(module, "Playback")
        .def(
            "__init__",
            [](Playback* self, const std::map<std::string, engine::Parameter>& params,
               const std::string& policy, unsigned cores, nb::object streams,
               const std::vector<std::pair<std::size_t, std::uint64_t>>& copies,
               const std::map<Run, Run>& shared, std::pair<std::uint64_t, std::uint64_t> roi,
               bool translated) {
                PlaybackRequest request;
                for (const auto& [stream, later] : copies)
                    request.copies.push_back({stream, later});
                for (const auto& [mapping, place] : shared) {
                    request.shared[mapping] = {VirtAddr(place.first), place.second};
                }
                request.code_is_translated = translated;
                std::tie(request.roi_begin, request.roi_end) = roi;
                new (self)
                    Playback(Params(params), policy, cores,
                             std::make_unique<Pieces>(std::move(streams)), std::move(request));
            },
            nb::arg("params"), nb::arg("policy"), nb::arg("cores"), nb::arg("streams"),
            nb::arg("copies"), nb::arg("shared"), nb::arg("roi"), nb::arg("translated"))
        .def_prop_ro("streams", &Playback::streams)
        .def("deviations", &deviations)
        .def("present", &present);
}

}  // namespace ptshare::bindings
