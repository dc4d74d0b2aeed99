// What core's kernel holds and has counted, for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/kernel.h"
#include "core/audit.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

constexpr const char* kUseNames[] = {"free", "table", "file", "anon", "reserved"};
constexpr const char* kRefusalNames[] = {"anonymous",  "private", "misaligned", "address",
                                         "protection", "size",    "room"};

using Counts = std::map<std::string, std::uint64_t>;

Counts table_counts(const TableCounts& counts) {
    Counts named;
    for (unsigned i = 0; i < kLevels; ++i) named[kLevelNames[i]] = counts.by_level[i];
    named["guest"] = counts.by_owner[static_cast<unsigned>(Owner::Guest)];
    named["host"] = counts.by_owner[static_cast<unsigned>(Owner::Host)];
    named["region_pte"] = counts.region_pte;
    named["total"] = counts.total();
    return named;
}

// (frame, level, base address, owner, [(index, entry)]) of every live table, in frame order.
nb::list tables(Model& model) {
    nb::list list;
    model.kernel().tables().for_each([&](Pfn pfn, const TablePage& page) {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> entries;
        for (std::uint64_t i = 0; i < kEntries; ++i) {
            if (!page.entries[i].none()) entries.emplace_back(i, page.entries[i].bits());
        }
        const bool host = page.owner->owner() == Owner::Host;
        const Level named = kernel_name(page.level, page.owner->levels());
        list.append(nb::make_tuple(pfn.value, kLevelNames[index_of(named)], page.base.value,
                                   host ? "host" : "guest", entries));
    });
    return list;
}

// (start, end, flags, file id or None, file page, attached to a host)
nb::list vmas(const Mm& mm) {
    nb::list list;
    for (const auto& [start, vma] : mm.vmas) {
        nb::object file = vma.file ? nb::cast(vma.file->id()) : nb::none();
        list.append(nb::make_tuple(start.value, vma.end.value, vma.flags, file, vma.file_page,
                                   vma.host != nullptr));
    }
    return list;
}

nb::list hosts(Model& model) {
    nb::list list;
    for (const auto& host : model.kernel().hosts()) {
        nb::dict entry;
        entry["id"] = host->mm.id.value;
        entry["start"] = host->start.value;
        entry["end"] = host->end.value;
        entry["file"] = host->file->id();
        entry["rss_file"] = host->mm.rss_file;
        entry["dead"] = host->is_dead();
        entry["owner"] = host->owner.value;
        entry["references"] = host->references;
        entry["rss_huge"] = host->mm.rss_huge;
        entry["vmas"] = vmas(host->mm);
        std::vector<std::uint64_t> guests;
        for (const Guest& guest : host->guests) guests.push_back(guest.mm.value);
        entry["guests"] = guests;
        list.append(entry);
    }
    return list;
}

nb::dict stats(Model& model) {
    const KernelStats& from = model.kernel().stats();
    nb::dict named;
    Counts refusals;
    for (unsigned i = 0; i < kRefusals; ++i) refusals[kRefusalNames[i]] = from.refusals[i];
    named["refusals"] = refusals;
    named["links"] = from.links;
    named["carried_pages"] = from.carried_pages;
    named["fell_back"] = from.fell_back;
    named["dangling_links"] = from.dangling_links;
    named["peak_hosts"] = from.peak_hosts;
    named["peak_rss_file"] = from.peak_rss_file;
    named["peak_rss_anon"] = from.peak_rss_anon;
    named["peak_rss_huge"] = from.peak_rss_huge;
    return named;
}

Counts frames_in_use(Model& model) {
    Counts named;
    for (unsigned i = 1; i < kFrameUses; ++i) {
        named[kUseNames[i]] = model.kernel().frames().in_use(static_cast<FrameUse>(i));
    }
    return named;
}

nb::dict take_effects(Model& model) {
    const Effects effects = model.kernel().take_effects();
    nb::dict named;
    named["tables_allocated"] = effects.tables_allocated;
    named["tables_freed"] = effects.tables_freed;
    named["ptes_changed"] = effects.ptes_changed;
    named["ptes_copied"] = effects.ptes_copied;
    nb::list flushes;
    for (const FlushRequest& request : effects.flushes) {
        std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>> targets;
        for (const FlushTarget& target : request.targets) {
            targets.emplace_back(target.mm.value, target.start.value, target.end.value);
        }
        flushes.append(nb::make_tuple(targets, request.tables_freed));
    }
    named["flushes"] = flushes;
    return named;
}

}  // namespace

void bind_kernel_state(KernelClass& kernel) {
    kernel.def("audit", [](Model& self) { return audit(self.kernel()); })
        .def("table_counts",
             [](Model& self) { return table_counts(self.kernel().tables().counts()); })
        .def("peak_table_counts",
             [](Model& self) { return table_counts(self.kernel().tables().peak()); })
        .def("tables", &tables)
        .def(
            "rss",
            [](Model& self, std::uint64_t mm) {
                const Mm& found = self.mm(mm);
                return std::make_pair(found.rss_file, found.rss_anon);
            },
            nb::arg("mm"))
        .def(
            "vmas", [](Model& self, std::uint64_t mm) { return vmas(self.mm(mm)); }, nb::arg("mm"))
        .def(
            "rss_huge", [](Model& self, std::uint64_t mm) { return self.mm(mm).rss_huge; },
            nb::arg("mm"))
        .def(
            "vm_pte_bytes",
            [](Model& self, std::uint64_t mm) { return self.mm(mm).vm_pte_bytes(); }, nb::arg("mm"))
        .def("hosts", &hosts)
        .def("stats", &stats)
        .def("frames_in_use", &frames_in_use)
        .def("take_effects", &take_effects);
}

}  // namespace ptshare::bindings
