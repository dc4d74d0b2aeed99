// engine::Deployment for Python. What runs out of memory answers false.
#include "studies/deployment.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <map>

#include "bindings/bindings.h"
#include "core/audit.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

using engine::Deployment;
using engine::Params;
using engine::Protection;

using Counts = std::map<std::string, std::uint64_t>;

template <class Fn>
bool fits(const Fn& fn) {
    const nb::gil_scoped_release released;
    try {
        fn();
        return true;
    } catch (const OutOfMemory&) {
        return false;
    }
}

Counts protect(Deployment& self, std::size_t first, std::size_t count, std::uint64_t prot,
               std::uint64_t cpus) {
    const nb::gil_scoped_release released;
    Protection sum;
    for (std::size_t i = first; i < first + count; ++i) {
        const Protection one = self.protect(i, prot, cpus);
        sum.calls += one.calls;
        sum.ptes_changed += one.ptes_changed;
        sum.flushes += one.flushes;
        sum.interrupts += one.interrupts;
        sum.cycles += one.cycles;
        sum.cycles_other += one.cycles_other;
    }
    return {{"calls", sum.calls},     {"ptes_changed", sum.ptes_changed},
            {"flushes", sum.flushes}, {"interrupts", sum.interrupts},
            {"cycles", sum.cycles},   {"cycles_other", sum.cycles_other}};
}

std::map<std::string, Counts> tables(const Deployment& self) {
    const auto sums = self.tables();
    std::map<std::string, Counts> named;
    for (const Owner owner : {Owner::Guest, Owner::Host}) {
        Counts& levels = named[owner == Owner::Host ? "host" : "guest"];
        for (unsigned i = 0; i < kLevels; ++i) {
            levels[kLevelNames[i]] = sums[static_cast<unsigned>(owner)][i];
        }
    }
    return named;
}

Counts faults(const Deployment& self) {
    Counts named;
    for (const FaultKind kind : kFaultKinds) {
        named[name_of(kind)] = self.faults().faults[static_cast<unsigned>(kind)];
    }
    named["linked"] = self.faults().linked;
    named["around_pages"] = self.faults().around;
    return named;
}

}  // namespace

void bind_plan(nb::module_& module) {
    nb::class_<Deployment>(module, "Deployment", nb::is_weak_referenceable())
        .def(
            "__init__",
            [](Deployment* self, const std::map<std::string, engine::Parameter>& params,
               const std::string& policy, std::uint64_t region_bytes) {
                new (self) Deployment(Params(params), policy, region_bytes);
            },
            nb::arg("params"), nb::arg("policy"), nb::arg("region_bytes"))
        .def("make_resident", [](Deployment& self) { return fits([&] { self.make_resident(); }); })
        .def(
            "attach",
            [](Deployment& self, std::uint64_t own_pages) {
                return fits([&] { self.attach(own_pages); });
            },
            nb::arg("own_pages") = 0)
        .def("stop", &Deployment::stop)
        .def(
            "touch",
            [](Deployment& self, std::size_t client, std::uint64_t offset, std::uint64_t length,
               bool write) { return fits([&] { self.touch(client, offset, length, write); }); },
            nb::arg("client"), nb::arg("offset"), nb::arg("length"), nb::arg("write"))
        .def(
            "touch_spread",
            [](Deployment& self, std::size_t client, std::uint64_t pages, bool write) {
                return fits([&] { self.touch_spread(client, pages, write); });
            },
            nb::arg("client"), nb::arg("pages"), nb::arg("write"))
        .def(
            "visit",
            [](Deployment& self, std::size_t client, std::uint64_t visits, std::uint64_t seed,
               bool write) { return fits([&] { self.visit(client, visits, seed, write); }); },
            nb::arg("client"), nb::arg("visits"), nb::arg("seed"), nb::arg("write"))
        .def("protect", &protect, nb::arg("first"), nb::arg("count"), nb::arg("prot"),
             nb::arg("cpus"))
        .def("write_protected", &Deployment::write_protected)
        .def_prop_ro("clients", &Deployment::clients)
        .def("tables", &tables)
        .def("faults", &faults)
        .def_prop_ro("fault_cycles", &Deployment::fault_cycles)
        .def("audit", [](const Deployment& self) { return audit(self.kernel()); })
        // Bytes of the simulator's own memory behind tables.
        .def_prop_ro("held_bytes",
                     [](const Deployment& self) { return self.kernel().tables().held_bytes(); })
        .def_prop_ro("frames_left", [](const Deployment& self) {
            const FrameAllocator& frames = self.kernel().frames();
            std::uint64_t used = 0;
            for (unsigned i = 1; i < kFrameUses; ++i) {
                used += frames.in_use(static_cast<FrameUse>(i));
            }
            return frames.capacity() - used;
        });
}

}  // namespace ptshare::bindings
