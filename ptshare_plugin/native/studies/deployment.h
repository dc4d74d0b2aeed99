// Clients that map one file and touch it, one after the other, in core's kernel alone: no CPU, no
// clock, no bytes, so that thousands of clients of hundreds of gigabytes fit.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accounting/costs.h"
#include "accounting/params.h"
#include "core/kernel.h"
#include "core/page_set.h"
#include "translation/shootdown.h"

namespace ptshare::engine {

// What calls of mprotect came to.
struct Protection {
    std::uint64_t calls = 0;
    std::uint64_t ptes_changed = 0;
    std::uint64_t flushes = 0;       // shootdowns asked for
    std::uint64_t interrupts = 0;    // CPUs that others' shootdowns interrupted
    std::uint64_t cycles = 0;        // of the callers, waiting for other CPUs included
    std::uint64_t cycles_other = 0;  // of the interrupted CPUs
};

class Deployment {
  public:
    // `region_bytes`: of the file, a multiple of 2 MiB. Throws std::invalid_argument for a policy
    // that does not exist. All others throw OutOfMemory when the kernel's memory runs out.
    Deployment(const Params& params, const std::string& policy, std::uint64_t region_bytes);

    // Brings the whole file into the page cache; somebody has mapped it.
    void make_resident();
    // A further client maps the file, MAP_SHARED | MAP_SHARED_PT, to read and to write. It needs
    // `own_pages` pages besides, for whatever.
    void attach(std::uint64_t own_pages);
    // Ends what another thread has a client do, or will, with std::runtime_error.
    void stop() { stopped_ = true; }
    std::size_t clients() const { return clients_.size(); }
    // A client accesses every page of [offset, offset + length) of the region.
    void touch(std::size_t client, std::uint64_t offset, std::uint64_t length, bool write);
    // `pages` pages that are spread evenly over the region.
    void touch_spread(std::size_t client, std::uint64_t pages, bool write);
    // Pages as the workload `zipf` visits them.
    void visit(std::size_t client, std::uint64_t visits, std::uint64_t seed, bool write);
    // The whole region of a client gets a protection. `cpus` run a client each, the caller's among
    // them. Throws std::runtime_error when the call fails.
    Protection protect(std::size_t client, std::uint64_t prot, std::uint64_t cpus);
    // Clients whose first page is mapped, and not writable.
    std::uint64_t write_protected() const;

    const TouchResult& faults() const { return faults_; }
    // Of the faults so far, cycles; the tables that they allocated included.
    std::uint64_t fault_cycles() const { return fault_cycles_; }
    // Tables by [Owner][Level, as the kernel names it], summed over mms.
    std::array<std::array<std::uint64_t, kLevels>, 2> tables() const;
    const Kernel& kernel() const { return kernel_; }

  private:
    struct Client {
        MmId mm;
        VirtAddr region;
    };
    Mm& mm_of(const Client& client) { return *kernel_.find_mm(client.mm); }
    void access(std::size_t client, std::uint64_t offset, std::uint64_t length, bool write);
    void go_on() const;  // unless stopped
    // Counts and prices what a client's accesses came to, which should have reached `end`.
    void count(const TouchResult& result, VirtAddr end);
    // One flush, with a client on each CPU: the caller, and those that follow it.
    void shoot_down(std::size_t client, const FlushRequest& request, std::uint64_t cpus,
                    Protection& done);
    // Prices what has been touched since the last time.
    void charge_tables();

    Costs costs_;
    Shootdowns shootdowns_;     // prices with costs_
    TranslationCaches caches_;  // of every CPU: nothing is translated, they stay empty
    std::uint64_t region_bytes_;
    NoContents contents_;  // outlives kernel_
    Kernel kernel_;        // outlives file_
    std::shared_ptr<File> file_;
    std::vector<Client> clients_;
    std::atomic<bool> stopped_ = false;
    std::optional<PageSet> spread_;   // what touch_spread() was asked for last,
    std::uint64_t spread_pages_ = 0;  // so many
    TouchResult faults_;              // of all clients
    std::uint64_t fault_cycles_ = 0;
};

}  // namespace ptshare::engine
