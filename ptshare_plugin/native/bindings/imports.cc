// Traces of others for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "imports/champsim.h"
#include "imports/drmemtrace.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using imports::Importer;
using recordings::Encoder;

class TraceImporter {
  public:
    explicit TraceImporter(const std::string& kind) {
        if (kind == "drmemtrace") {
            importer_ = std::make_unique<imports::Drmemtrace>();
        } else if (kind == "champsim" || kind == "cloudsuite") {
            importer_ = std::make_unique<imports::Champsim>(kind == "cloudsuite");
        } else {
            throw std::invalid_argument("no such kind of trace: " + kind);
        }
    }

    std::size_t record_bytes() const { return importer_->record_bytes(); }

    // Bytes taken, and the time that stopped it or 0.
    std::pair<std::size_t, std::uint64_t> feed(std::size_t lane, const nb::bytes& bytes,
                                               std::size_t start, std::uint64_t until) {
        start = std::min(start, bytes.size());
        const char* first = bytes.c_str() + start;
        const std::size_t count = bytes.size() - start;
        const nb::gil_scoped_release release;
        const std::size_t whole = count - count % importer_->record_bytes();
        const std::size_t taken = importer_->feed(lane, first, whole, until);
        return {taken, taken < whole ? importer_->stopped_at() : 0};
    }

    void write(const std::vector<std::string>& names,
               const std::vector<std::pair<std::uint64_t, std::uint64_t>>& shared) {
        std::vector<imports::Area> areas;
        for (const auto& [start, end] : shared) areas.push_back({start, end, 0});
        importer_->write(names, areas);
    }

    void finish() { importer_->finish(); }
    std::map<std::string, std::uint64_t> left_out() const { return importer_->left_out(); }
    std::vector<std::uint32_t> processes() {
        std::vector<std::uint32_t> found;
        for (const auto& each : importer_->processes()) found.push_back(each.number());
        return found;
    }
    Encoder& encoder(std::size_t process) {
        if (process >= importer_->processes().size()) {
            throw std::out_of_range("no such process of the trace");
        }
        imports::Process& found = importer_->processes()[process];
        found.hand_over();
        return found.encoder();
    }

  private:
    std::unique_ptr<Importer> importer_;
};

}  // namespace

void bind_imports(nb::module_& module) {
    nb::class_<TraceImporter>(module, "TraceImporter")
        .def(nb::init<const std::string&>(), nb::arg("kind"))
        .def_prop_ro("record_bytes", &TraceImporter::record_bytes)
        .def("feed", &TraceImporter::feed, nb::arg("lane"), nb::arg("records"), nb::arg("start"),
             nb::arg("until"))
        .def("write", &TraceImporter::write, nb::arg("names"), nb::arg("shared"))
        .def("finish", &TraceImporter::finish)
        .def("left_out", &TraceImporter::left_out)
        .def_prop_ro("processes", &TraceImporter::processes)
        .def("encoder", &TraceImporter::encoder, nb::arg("process"),
             nb::rv_policy::reference_internal);
}

}  // namespace ptshare::bindings
