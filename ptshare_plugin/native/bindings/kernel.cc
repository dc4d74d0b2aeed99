// core's Kernel for Python: tests drive system calls, faults and a table walker with it, without an
// engine. Every page frame holds one 64-bit word, so that data can be checked as well.
#include "core/kernel.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "core/audit.h"
#include "core/snapshot.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

constexpr const char* kUseNames[] = {"free", "table", "file", "anon", "reserved"};
constexpr const char* kRefusalNames[] = {"anonymous",  "private", "misaligned", "address",
                                         "protection", "size",    "room"};
constexpr const char* kAccessNames[] = {"read", "write", "fetch"};
constexpr int kSigBus = 7;
constexpr int kSigSegv = 11;

using Counts = std::map<std::string, std::uint64_t>;

// The first eight bytes of every page frame. A file made with create_file starts out with
// `id << 32 | page + 1` at the start of each of its pages.
class Words final : public FrameContents {
  public:
    void fill(std::uint64_t file, std::uint64_t bytes) { filled_[file] = bytes; }
    std::uint64_t& at(Pfn pfn) {
        if (pfn.value >= words_.size()) words_.resize(pfn.value + 1, kPoison);
        return words_[pfn.value];
    }

    void zero(Pfn pfn) override { at(pfn) = 0; }
    void copy(Pfn to, Pfn from) override {
        const std::uint64_t word = at(from);
        at(to) = word;
    }
    void read_file(const File& file, std::uint64_t index, Pfn pfn) override {
        const auto it = filled_.find(file.id());
        const std::uint64_t first = index << kPageShift;
        const std::uint64_t kept =
            it == filled_.end() || it->second <= first ? 0 : it->second - first;
        at(pfn) = low_bytes(file.id() << 32 | (index + 1), kept);
    }
    void cut_file(const File& file, std::uint64_t bytes, Pfn last) override {
        if (const auto it = filled_.find(file.id()); it != filled_.end()) {
            it->second = std::min(it->second, bytes);
        }
        if (last != Pfn(0)) at(last) = low_bytes(at(last), bytes & (kPageSize - 1));
    }
    void released(Pfn pfn) override { at(pfn) = kPoison; }

  private:
    static constexpr std::uint64_t kPoison = 0xdeaddeaddeaddeadULL;
    static std::uint64_t low_bytes(std::uint64_t word, std::uint64_t bytes) {
        return bytes >= sizeof(word) ? word : word & ((1ULL << (8 * bytes)) - 1);
    }

    std::vector<std::uint64_t> words_;               // index: frame
    std::map<std::uint64_t, std::uint64_t> filled_;  // by file id: bytes not cut off since
};

KernelConfig checked(KernelConfig config) {
    if (config.levels != 4 && config.levels != 5) {
        throw std::invalid_argument("levels is 4 or 5, not " + std::to_string(config.levels));
    }
    const std::uint64_t around = config.fault_around_bytes;
    if (around < kPageSize || around > kPmdSize || (around & (around - 1)) != 0) {
        throw std::invalid_argument("fault_around_bytes is a power of two from 4096 to 2097152");
    }
    if (config.memory_bytes < 16 * kPageSize) {
        throw std::invalid_argument("memory_bytes is at least 65536");
    }
    return config;
}

class Model {
  public:
    Model(const std::string& policy, const KernelConfig& config)
        : kernel_(checked(config), make_policy(policy), words_) {}

    Kernel& kernel() { return kernel_; }
    Words& words() { return words_; }

    Mm& mm(std::uint64_t id) {
        if (Mm* found = kernel_.find_mm(MmId(id))) return *found;
        throw std::invalid_argument("no mm " + std::to_string(id));
    }
    const std::shared_ptr<File>& file(std::uint64_t id) {
        const auto it = files_.find(id);
        if (it == files_.end()) throw std::invalid_argument("no file " + std::to_string(id));
        return it->second;
    }
    std::uint64_t create_file(const std::string& name, std::uint64_t bytes) {
        auto made = kernel_.create_file(name);
        const std::uint64_t id = made->id();
        made->resize(bytes);
        words_.fill(id, bytes);
        files_.emplace(id, std::move(made));
        return id;
    }
    void close_file(std::uint64_t id) {
        file(id);
        files_.erase(id);
    }

    std::string save() const {
        std::ostringstream to;
        ptshare::save(kernel_, to);
        return to.str();
    }
    // Another model in this one's state, with as many open files.
    std::unique_ptr<Model> restored() const {
        auto other = std::make_unique<Model>(kernel_.policy().name(), kernel_.config());
        other->words_ = words_;  // first: restore() must leave them alone
        std::istringstream from(save());
        const FilesById files = restore(other->kernel_, from);
        for (const auto& [id, file] : files_) other->files_[id] = files.at(id);
        return other;
    }

    // What a user-mode access does: hardware walk, faults until it goes through, A and D bits. The
    // frame it ends at, or the negated number of the signal that it raises.
    std::int64_t touch(Mm& mm, VirtAddr address, Access access) {
        if (address >= kernel_.task_size()) return -kSigSegv;
        for (int tries = 0; tries < 4; ++tries) {
            if (const auto pfn = walk(mm, address, access)) {
                return static_cast<std::int64_t>(pfn->value);
            }
            const FaultKind kind = kernel_.fault(mm, address, access).kind;
            if (kind == FaultKind::Segv) return -kSigSegv;
            if (kind == FaultKind::Bus) return -kSigBus;
        }
        throw std::logic_error("a fault was served, yet the access does not go through");
    }

  private:
    std::optional<Pfn> walk(Mm& mm, VirtAddr address, Access access) {
        Pfn table = mm.table.root();
        for (Level level = mm.table.top();; level = below(level)) {
            const PhysAddr slot = address_of(table) + sizeof(Pte) * entry_index(address, level);
            const Pte entry = kernel_.tables().read_entry(slot);
            if (!entry.present()) return std::nullopt;
            if (level != Level::Pte && !entry.large()) {
                table = entry.pfn();
                continue;
            }
            if (!entry.permits(access)) return std::nullopt;
            kernel_.tables().set_entry_bits(
                slot, Pte::kAccessed | (access == Access::Write ? Pte::kDirty : 0));
            return PageTable::Leaf{entry, level}.frame_of(address);
        }
    }

    Words words_;    // outlives kernel_
    Kernel kernel_;  // outlives files_
    FilesById files_;
};

Access access_of(const std::string& name) {
    for (unsigned i = 0; i < std::size(kAccessNames); ++i) {
        if (name == kAccessNames[i]) return static_cast<Access>(i);
    }
    throw std::invalid_argument("an access is read, write or fetch, not '" + name + "'");
}

std::optional<Level> level_of(const std::string& name) {
    for (const Level level : {Level::Pte, Level::Pmd, Level::Pud}) {
        if (name == kLevelNames[index_of(level)]) return level;
    }
    if (name == "policy") return std::nullopt;
    throw std::invalid_argument("share_level is policy, pte, pmd or pud, not '" + name + "'");
}

std::int64_t number(Errno error) {
    return -static_cast<std::int64_t>(error);
}
std::int64_t number(const MapResult& result) {
    return result.ok() ? static_cast<std::int64_t>(result.address.value) : number(result.error);
}

std::int64_t mmap(Model& model, std::uint64_t mm, std::uint64_t address, std::uint64_t length,
                  std::uint64_t prot, std::uint64_t flags, std::int64_t file, std::uint64_t offset,
                  bool readable, bool writable) {
    MapRequest request;
    request.address = VirtAddr(address);
    request.length = length;
    request.prot = prot;
    request.flags = flags;
    if (file >= 0) request.file = model.file(static_cast<std::uint64_t>(file));
    request.offset = offset;
    request.file_readable = readable;
    request.file_writable = writable;
    return number(model.kernel().mmap(model.mm(mm), request));
}

using FaultTuple = std::tuple<std::string, bool, std::uint64_t, bool>;

FaultTuple fault(Model& model, std::uint64_t mm, std::uint64_t address, const std::string& access) {
    const FaultResult result =
        model.kernel().fault(model.mm(mm), VirtAddr(address), access_of(access));
    return {name_of(result.kind), result.linked, result.around, result.region};
}

using LeafTuple = std::tuple<std::uint64_t, std::uint64_t, std::string>;

std::optional<LeafTuple> translate(Model& model, std::uint64_t mm, std::uint64_t address) {
    const auto leaf = model.mm(mm).table.leaf(VirtAddr(address));
    if (!leaf) return std::nullopt;
    return LeafTuple{leaf->frame_of(VirtAddr(address)).value, leaf->pte.bits(),
                     kLevelNames[index_of(leaf->level)]};
}

std::pair<int, std::uint64_t> read(Model& model, std::uint64_t mm, std::uint64_t address) {
    const std::int64_t pfn = model.touch(model.mm(mm), VirtAddr(address), Access::Read);
    if (pfn < 0) return {static_cast<int>(-pfn), 0};
    return {0, model.words().at(Pfn(static_cast<std::uint64_t>(pfn)))};
}

int write(Model& model, std::uint64_t mm, std::uint64_t address, std::uint64_t value) {
    const std::int64_t pfn = model.touch(model.mm(mm), VirtAddr(address), Access::Write);
    if (pfn < 0) return static_cast<int>(-pfn);
    model.words().at(Pfn(static_cast<std::uint64_t>(pfn))) = value;
    return 0;
}

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

void bind_kernel(nb::module_& module) {
    nb::register_exception_translator([](const std::exception_ptr& raised, void*) {
        try {
            std::rethrow_exception(raised);
        } catch (const OutOfMemory& error) {
            PyErr_SetString(PyExc_MemoryError, error.what());
        }
    });

    nb::class_<Model>(module, "Kernel")
        .def(
            "__init__",
            [](Model* self, const std::string& policy, std::uint64_t memory_bytes, unsigned levels,
               std::uint64_t fault_around_bytes, bool dirty_tracking, bool pt_reclaim,
               const std::string& share_level, bool share_any_address, bool share_anonymous) {
                KernelConfig config;
                config.memory_bytes = memory_bytes;
                config.levels = levels;
                config.fault_around_bytes = fault_around_bytes;
                config.dirty_tracking = dirty_tracking;
                config.pt_reclaim = pt_reclaim;
                config.share_level = level_of(share_level);
                config.share_any_address = share_any_address;
                config.share_anonymous = share_anonymous;
                new (self) Model(policy, config);
            },
            nb::arg("policy"), nb::arg("memory_bytes"), nb::arg("levels") = 4,
            nb::arg("fault_around_bytes") = kPageSize, nb::arg("dirty_tracking") = false,
            nb::arg("pt_reclaim") = false, nb::arg("share_level") = "policy",
            nb::arg("share_any_address") = false, nb::arg("share_anonymous") = false)

        .def("create_mm", [](Model& self) { return self.kernel().create_mm().id.value; })
        .def(
            "share_mm", [](Model& self, std::uint64_t mm) { self.kernel().share_mm(self.mm(mm)); },
            nb::arg("mm"))
        .def(
            "fork",
            [](Model& self, std::uint64_t mm) { return self.kernel().fork(self.mm(mm)).id.value; },
            nb::arg("mm"))
        .def(
            "exit", [](Model& self, std::uint64_t mm) { self.kernel().exit(self.mm(mm)); },
            nb::arg("mm"))
        .def("mms",
             [](Model& self) {
                 std::vector<std::uint64_t> ids;
                 for (const auto& [id, mm] : self.kernel().mms()) ids.push_back(id.value);
                 return ids;
             })

        .def("create_file", &Model::create_file, nb::arg("name"), nb::arg("size"))
        .def("close_file", &Model::close_file, nb::arg("file"))
        .def(
            "truncate",
            [](Model& self, std::uint64_t file, std::uint64_t size) {
                return number(self.kernel().truncate(*self.file(file), size));
            },
            nb::arg("file"), nb::arg("size"))

        .def("mmap", &mmap, nb::arg("mm"), nb::arg("address"), nb::arg("length"), nb::arg("prot"),
             nb::arg("flags"), nb::arg("file") = -1, nb::arg("offset") = 0,
             nb::arg("readable") = true, nb::arg("writable") = true)
        .def(
            "munmap",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length) {
                return number(self.kernel().munmap(self.mm(mm), VirtAddr(address), length));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("length"))
        .def(
            "mprotect",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length,
               std::uint64_t prot) {
                return number(self.kernel().mprotect(self.mm(mm), VirtAddr(address), length, prot));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("length"), nb::arg("prot"))
        .def(
            "mremap",
            [](Model& self, std::uint64_t mm, std::uint64_t old_address, std::uint64_t old_length,
               std::uint64_t new_length, std::uint64_t flags, std::uint64_t new_address) {
                return number(self.kernel().mremap(self.mm(mm), VirtAddr(old_address), old_length,
                                                   new_length, flags, VirtAddr(new_address)));
            },
            nb::arg("mm"), nb::arg("old_address"), nb::arg("old_length"), nb::arg("new_length"),
            nb::arg("flags") = 0, nb::arg("new_address") = 0)
        .def(
            "madvise",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length,
               int advice) {
                return number(
                    self.kernel().madvise(self.mm(mm), VirtAddr(address), length, advice));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("length"), nb::arg("advice"))
        .def(
            "set_brk_start",
            [](Model& self, std::uint64_t mm, std::uint64_t address) {
                Mm& found = self.mm(mm);
                found.brk_start = found.brk = VirtAddr(address);
            },
            nb::arg("mm"), nb::arg("address"))
        .def(
            "brk",
            [](Model& self, std::uint64_t mm, std::uint64_t end) {
                return self.kernel().brk(self.mm(mm), VirtAddr(end)).value;
            },
            nb::arg("mm"), nb::arg("end"))

        .def("alignment",
             [](Model& self) { return self.kernel().policy().alignment(self.kernel()); })
        .def("flush_strategy",
             [](Model& self) { return std::string(name_of(self.kernel().flush_strategy())); })
        .def("fault", &fault, nb::arg("mm"), nb::arg("address"), nb::arg("access"))
        .def(
            "touch",
            [](Model& self, std::uint64_t mm, std::uint64_t address, const std::string& access) {
                return self.touch(self.mm(mm), VirtAddr(address), access_of(access));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("access"))
        .def("read", &read, nb::arg("mm"), nb::arg("address"))
        .def("write", &write, nb::arg("mm"), nb::arg("address"), nb::arg("value"))
        .def("translate", &translate, nb::arg("mm"), nb::arg("address"))

        .def("save",
             [](Model& self) {
                 const std::string saved = self.save();
                 return nb::bytes(saved.data(), saved.size());
             })
        .def("restored", &Model::restored)

        .def("audit", [](Model& self) { return audit(self.kernel()); })
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
