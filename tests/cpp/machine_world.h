// Processes on a machine that map one file with MAP_SHARED_PT.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "check.h"
#include "machine/machine.h"
#include "parameters.h"

namespace ptshare::engine::test {

constexpr VirtAddr kRegion(1ULL << 40);
constexpr std::uint64_t kRegionBytes = 4 << 20;

// A file mapped to read and to write, its tables shared if the policy does.
inline MapRequest shared_request(VirtAddr at, std::uint64_t bytes, std::shared_ptr<File> file) {
    MapRequest request;
    request.address = at;
    request.length = bytes;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapShared | kMapFixed | kMapSharedPt;
    request.file = std::move(file);
    return request;
}

// Processes on cores of their own that map one file with MAP_SHARED_PT.
struct World {
    World(const std::string& policy, unsigned processes, unsigned cores, const Values& changes = {})
        : params(small_machine(changes)),
          machine(params, policy, cores, contents),
          file(machine.kernel().create_file("file")),
          tasks(processes) {
        file->resize(kRegionBytes);
        for (Charged& task : tasks) {
            task.mm = &machine.create_mm();
            const MapRequest request = shared_request(kRegion, kRegionBytes, file);
            CHECK(machine.kernel().mmap(*task.mm, request).ok());
        }
        machine.kernel().take_effects();
        for (unsigned i = 0; i < processes && i < cores; ++i) run(i, i);
    }
    void run(unsigned process, unsigned core) {
        machine.switch_to(machine.core(core), &tasks[process]);
    }
    void touch(unsigned core, std::uint64_t page, Access access = Access::Read) {
        CHECK(machine.access(machine.core(core), kRegion + page * kPageSize, 8, access));
    }
    void protect(unsigned process, unsigned core, std::uint64_t pages, std::uint64_t prot) {
        CHECK(machine.kernel().mprotect(*tasks[process].mm, kRegion, pages * kPageSize, prot) ==
              Errno::Ok);
        machine.charge_syscall(machine.core(core), 0);
    }
    std::uint64_t cost(const std::string& name) const { return params.count("cost." + name); }
    Counters& counters(unsigned process) { return tasks[process].counters; }

    TableStores contents;
    Params params;
    Machine machine;
    std::shared_ptr<File> file;
    std::vector<Charged> tasks;
};

}  // namespace ptshare::engine::test
