// A kernel, a file and short names for what kernel tests do again and again.
#pragma once

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "core/audit.h"
#include "core/kernel.h"

namespace ptshare::test {

constexpr std::uint64_t kRw = kProtRead | kProtWrite;
constexpr std::uint64_t kAnonymous = kMapPrivate | kMapAnonymous | kMapFixed;
constexpr std::uint64_t kSharedFile = kMapShared | kMapFixed;
constexpr std::uint64_t kPtFile = kMapShared | kMapFixed | kMapSharedPt;
constexpr VirtAddr kBase(0x10000000000);  // starts a PUD entry's span
constexpr std::uint64_t kPages = kPageSize;

inline KernelConfig config(std::uint64_t fault_around = kPageSize) {
    return {256ULL << 20, 4, fault_around, false, false, 1};
}

struct World {
    explicit World(const std::string& policy, const KernelConfig& with = config())
        : kernel(with, make_policy(policy), contents) {
        file = kernel.create_file("data");
        file->resize(8 * kPmdSize);
    }

    MapResult map(Mm& mm, VirtAddr at, std::uint64_t length, std::uint64_t prot,
                  std::uint64_t flags, std::shared_ptr<File> of = nullptr,
                  std::uint64_t first_page = 0, bool writable = true) {
        MapRequest request;
        request.address = at;
        request.length = length;
        request.prot = prot;
        request.flags = flags;
        request.file = std::move(of);
        request.offset = first_page * kPages;
        request.file_writable = writable;
        return kernel.mmap(mm, request);
    }
    // A process that shares `length` bytes of the file at kBase.
    Mm& guest(std::uint64_t length = 2 * kPmdSize, std::uint64_t prot = kRw) {
        Mm& mm = kernel.create_mm();
        CHECK(map(mm, kBase, length, prot, kPtFile, file).ok());
        return mm;
    }
    FaultKind read(Mm& mm, VirtAddr at) { return kernel.fault(mm, at, Access::Read).kind; }
    FaultKind write(Mm& mm, VirtAddr at) { return kernel.fault(mm, at, Access::Write).kind; }

    // The leaf at an address; all zeros where nothing is mapped.
    static Pte leaf(const Mm& mm, VirtAddr at) {
        const auto found = mm.table.leaf(at);
        return found ? found->pte : Pte();
    }
    static std::uint64_t own_tables(const Mm& mm) {
        std::uint64_t sum = 0;
        for (unsigned i = 0; i < kLevels; ++i) sum += mm.table.tables(static_cast<Level>(i));
        return sum;
    }
    std::uint64_t table_frames() const { return kernel.frames().in_use(FrameUse::Table); }
    std::uint64_t refused(Refusal why) const {
        return kernel.stats().refusals[static_cast<unsigned>(why)];
    }
    std::size_t audit_lines() const { return audit(kernel).size(); }

    FrameContents contents;
    Kernel kernel;
    std::shared_ptr<File> file;  // 8 x 2 MiB; goes before the kernel
};

// Runs `body`, then checks what must hold after every test: the counters equal recounts, and when
// the last process is gone (first to last here) no table and no anonymous page is left.
inline void in_world(const std::string& policy, const KernelConfig& with,
                     const std::function<void(World&)>& body) {
    World world(policy, with);
    body(world);
    CHECK_EQ(world.audit_lines(), 0U);
    while (!world.kernel.mms().empty()) {
        world.kernel.exit(*world.kernel.mms().begin()->second);
        CHECK_EQ(world.audit_lines(), 0U);
    }
    CHECK(world.kernel.hosts().empty());
    CHECK_EQ(world.table_frames(), 0U);
    CHECK_EQ(world.kernel.frames().in_use(FrameUse::AnonPage), 0U);
}
inline void in_world(const std::string& policy, const std::function<void(World&)>& body) {
    in_world(policy, config(), body);
}

}  // namespace ptshare::test
