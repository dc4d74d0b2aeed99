// Calls, faults and accesses of core's kernel, for Python.
#include "bindings/kernel.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "accounting/kernel_config.h"
#include "bindings/bindings.h"

namespace nb = nanobind;

namespace ptshare::bindings {

namespace {

constexpr const char* kAccessNames[] = {"read", "write", "fetch"};

Access access_of(const std::string& name) {
    for (unsigned i = 0; i < std::size(kAccessNames); ++i) {
        if (name == kAccessNames[i]) return static_cast<Access>(i);
    }
    throw std::invalid_argument("an access is read, write or fetch, not '" + name + "'");
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
    return return_value(model.kernel().mmap(model.mm(mm), request));
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
    return {0, model.word(pfn)};
}

int write(Model& model, std::uint64_t mm, std::uint64_t address, std::uint64_t value) {
    const std::int64_t pfn = model.touch(model.mm(mm), VirtAddr(address), Access::Write);
    if (pfn < 0) return static_cast<int>(-pfn);
    model.word(pfn) = value;
    return 0;
}

// ---- What Python sees

void bind_processes(KernelClass& kernel) {
    kernel.def("create_mm", [](Model& self) { return self.kernel().create_mm().id.value; })
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
        .def("mms", [](Model& self) {
            std::vector<std::uint64_t> ids;
            for (const auto& [id, mm] : self.kernel().mms()) ids.push_back(id.value);
            return ids;
        });
}

void bind_files(KernelClass& kernel) {
    kernel.def("create_file", &Model::create_file, nb::arg("name"), nb::arg("size"))
        .def("close_file", &Model::close_file, nb::arg("file"))
        .def(
            "truncate",
            [](Model& self, std::uint64_t file, std::uint64_t size) {
                return return_value(self.kernel().truncate(*self.file(file), size));
            },
            nb::arg("file"), nb::arg("size"));
}

void bind_memory_calls(KernelClass& kernel) {
    kernel
        .def("mmap", &mmap, nb::arg("mm"), nb::arg("address"), nb::arg("length"), nb::arg("prot"),
             nb::arg("flags"), nb::arg("file") = -1, nb::arg("offset") = 0,
             nb::arg("readable") = true, nb::arg("writable") = true)
        .def(
            "munmap",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length) {
                return return_value(self.kernel().munmap(self.mm(mm), VirtAddr(address), length));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("length"))
        .def(
            "mprotect",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length,
               std::uint64_t prot) {
                return return_value(
                    self.kernel().mprotect(self.mm(mm), VirtAddr(address), length, prot));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("length"), nb::arg("prot"))
        .def(
            "mremap",
            [](Model& self, std::uint64_t mm, std::uint64_t old_address, std::uint64_t old_length,
               std::uint64_t new_length, std::uint64_t flags, std::uint64_t new_address) {
                return return_value(self.kernel().mremap(self.mm(mm), VirtAddr(old_address),
                                                         old_length, new_length, flags,
                                                         VirtAddr(new_address)));
            },
            nb::arg("mm"), nb::arg("old_address"), nb::arg("old_length"), nb::arg("new_length"),
            nb::arg("flags") = 0, nb::arg("new_address") = 0)
        .def(
            "madvise",
            [](Model& self, std::uint64_t mm, std::uint64_t address, std::uint64_t length,
               int advice) {
                return return_value(
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
             [](Model& self) { return std::string(name_of(self.kernel().flush_strategy())); });
}

void bind_accesses(KernelClass& kernel) {
    kernel.def("fault", &fault, nb::arg("mm"), nb::arg("address"), nb::arg("access"))
        .def(
            "touch",
            [](Model& self, std::uint64_t mm, std::uint64_t address, const std::string& access) {
                return self.touch(self.mm(mm), VirtAddr(address), access_of(access));
            },
            nb::arg("mm"), nb::arg("address"), nb::arg("access"))
        .def("read", &read, nb::arg("mm"), nb::arg("address"))
        .def("write", &write, nb::arg("mm"), nb::arg("address"), nb::arg("value"))
        .def("translate", &translate, nb::arg("mm"), nb::arg("address"));
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

    KernelClass kernel(module, "Kernel");
    kernel
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
                config.share_level =
                    engine::chosen("share_level", share_level, engine::kShareLevels);
                config.share_any_address = share_any_address;
                config.share_anonymous = share_anonymous;
                new (self) Model(policy, config);
            },
            nb::arg("policy"), nb::arg("memory_bytes"), nb::arg("levels") = 4,
            nb::arg("fault_around_bytes") = kPageSize, nb::arg("dirty_tracking") = false,
            nb::arg("pt_reclaim") = false, nb::arg("share_level") = "policy",
            nb::arg("share_any_address") = false, nb::arg("share_anonymous") = false)
        .def("save",
             [](Model& self) {
                 const std::string saved = self.save();
                 return nb::bytes(saved.data(), saved.size());
             })
        .def("restored", &Model::restored);
    bind_processes(kernel);
    bind_files(kernel);
    bind_memory_calls(kernel);
    bind_accesses(kernel);
    bind_kernel_state(kernel);
}

}  // namespace ptshare::bindings
