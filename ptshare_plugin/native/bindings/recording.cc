// Recordings for Python: words of the recorder's tool into pieces, and pieces read.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <string>

#include "bindings/bindings.h"
#include "recordings/decoder.h"
#include "recordings/encoder.h"
#include "recordings/tally.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using recordings::Decoder;
using recordings::Encoder;
using recordings::EventReader;
using recordings::Item;
using recordings::Tally;
using recordings::Totals;

std::map<std::string, std::uint64_t> figures(const Totals& totals) {
    return {{"blocks", totals.blocks},
            {"instructions", totals.instructions},
            {"loads", totals.loads},
            {"stores", totals.stores},
            {"modifies", totals.modifies},
            {"events", totals.events},
            {"first_stamp", totals.first_stamp},
            {"last_stamp", totals.last_stamp}};
}

// What a program calls itself need not be UTF-8.
nb::bytes bytes_of(const std::string& text) {
    return nb::bytes(text.data(), text.size());
}

// `words`: anything with contiguous bytes.
void feed(Encoder& encoder, const nb::object& words) {
    Py_buffer view;
    if (PyObject_GetBuffer(words.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
    try {
        const nb::gil_scoped_release release;
        encoder.feed(static_cast<const char*>(view.buf), static_cast<std::size_t>(view.len));
    } catch (...) {
        PyBuffer_Release(&view);
        throw;
    }
    PyBuffer_Release(&view);
}

nb::tuple take(Encoder& encoder) {
    recordings::Piece piece;
    {
        const nb::gil_scoped_release release;
        piece = encoder.take();
    }
    return nb::make_tuple(bytes_of(piece.events), bytes_of(piece.blocks));
}

nb::tuple event(const Item& item) {
    nb::list words;
    for (std::size_t i = 0; i < item.count; ++i) words.append(item.words[i]);
    return nb::make_tuple(item.kind, item.small, nb::tuple(words));
}

nb::list events(const nb::bytes& text) {
    nb::list found;
    EventReader reader(text.c_str(), text.c_str() + text.size());
    Item item;
    while (reader.more()) {
        reader.next(item);
        if (item.kind != PTSHARE_DEFINE) found.append(event(item));
    }
    return found;
}

void count(Tally& tally, const nb::bytes& events, const nb::bytes& blocks) {
    const char* first = events.c_str();
    const char* second = blocks.c_str();
    const std::size_t bytes = events.size(), more = blocks.size();
    const nb::gil_scoped_release release;
    tally.count(first, bytes, second, more);
}

// The items of a piece: events as `events` gives them; blocks as (0, number, how left, addresses of
// its accesses that happened with kind and bytes).
nb::list items(Tally& tally, const nb::bytes& events, const nb::bytes& blocks) {
    nb::list found;
    Decoder& decoder = tally.decoder();
    decoder.load(events.c_str(), events.size(), blocks.c_str(), blocks.size());
    Item item;
    while (decoder.next(item)) {
        if (item.definition == nullptr) {
            found.append(event(item));
            continue;
        }
        nb::list accesses;
        for (std::size_t i = 0; i < item.done->accesses; ++i) {
            const recordings::Access& access = item.definition->accesses[i];
            if (!access.happens(item.words)) continue;
            accesses.append(nb::make_tuple(access.address(item.words), access.bytes,
                                           static_cast<unsigned>(access.kind)));
        }
        found.append(nb::make_tuple(unsigned{PTSHARE_BLOCK}, item.definition->address, item.exit,
                                    item.done->instructions, nb::tuple(accesses)));
    }
    return found;
}

}  // namespace

void bind_recording(nb::module_& module) {
    nb::class_<Encoder>(module, "RecordEncoder")
        .def(nb::init<>())
        .def(nb::init<const Encoder&, std::size_t>(), nb::arg("parent"), nb::arg("definitions"))
        .def("feed", &feed, nb::arg("words"))
        .def("take", &take)
        .def_prop_ro("words", &Encoder::words)
        .def_prop_ro("definitions", [](const Encoder& self) { return self.definitions().size(); })
        .def_prop_ro("name", [](const Encoder& self) { return bytes_of(self.name()); })
        .def_prop_ro("title", [](const Encoder& self) { return bytes_of(self.title()); })
        .def_prop_ro("ended", &Encoder::ended)
        .def_prop_ro("exited", &Encoder::exited)
        .def_prop_ro("status", &Encoder::status)
        .def_prop_ro("in_exec", &Encoder::in_exec)
        .def_prop_ro("inside_item", &Encoder::inside_item)
        .def("totals", [](const Encoder& self) { return figures(self.totals()); });
    nb::class_<Tally>(module, "RecordDecoder")
        .def(nb::init<>())
        .def(nb::init<const Tally&, std::size_t>(), nb::arg("parent"), nb::arg("definitions"))
        .def("count", &count, nb::arg("events"), nb::arg("blocks"))
        .def("items", &items, nb::arg("events"), nb::arg("blocks"))
        .def("totals", [](const Tally& self) { return figures(self.totals()); });
    module.def("record_events", &events, nb::arg("events"));
}

}  // namespace ptshare::bindings
