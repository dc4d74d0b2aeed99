// The simulated machine: cores with MMUs and clocks, the cache hierarchy, and the kernel whose work
// it prices. It knows tasks only as an mm and a set of counters; what runs them is another's work
// (Run).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "accounting/costs.h"
#include "accounting/counters.h"
#include "accounting/params.h"
#include "accounting/table_stores.h"
#include "core/kernel.h"
#include "machine/cache.h"
#include "machine/mmu.h"
#include "translation/asids.h"
#include "translation/shootdown.h"

namespace ptshare::engine {

// Who is charged: the mm whose tables are walked and the counters that grow.
struct Charged {
    Mm* mm = nullptr;  // not owned
    Counters counters;
};

constexpr std::uint64_t kNoLine = ~0ULL;
constexpr std::uint64_t kNoPage = ~0ULL;

// One simulated CPU.
struct Core {
    unsigned id = 0;
    std::unique_ptr<Mmu> mmu;
    std::uint64_t clock = 0;  // cycles; invariant: idle + what its tasks were charged here
    std::uint64_t idle = 0;
    std::uint64_t base_remainder = 0;  // instructions' base cycles, below one cycle, x 2^16
    Charged* running = nullptr;        // not owned; null when no task is loaded
    MmuContext context;                // root and PCID of the loaded mm
    Asids asids{0};                    // set by Machine
    // The data page translated last, while nothing else has used the D-TLB since: translating it
    // again would hit the most recently used entry and change nothing but a counter.
    std::uint64_t last_data_page = kNoPage;  // virtual page number
    Pfn last_data_frame;
    bool last_data_written = false;  // its entry is known to permit writes, with D set
    // The same for code and the I-TLB.
    std::uint64_t last_code_page = kNoPage;
    Pfn last_code_frame;
    bool lazy = false;  // what it has loaded waits, and nothing else is there to run
    bool used = false;  // some task was loaded before: loading another is a switch
    std::uint64_t last_fetch_line = kNoLine;

    void idle_until(std::uint64_t then) {
        if (clock >= then) return;
        idle += then - clock;
        clock = then;
    }
};

// What a load is part of, asked only when its page must be looked for beyond the first-level TLB.
class Loading {
  public:
    virtual ~Loading() = default;
    // Whether its instruction writes back what it loads: translated as a write from the start, it
    // faults once.
    virtual bool writes_back() = 0;
};

class Machine {
  public:
    // Throws std::invalid_argument for parameters that make no machine.
    // `contents` must outlive the machine.
    Machine(const Params& params, const std::string& policy, unsigned cores, TableStores& contents);

    // An mm that was there before the machine ran: no CPU holds what its root was filled with.
    Mm& create_mm();

    Kernel& kernel() { return kernel_; }
    const Kernel& kernel() const { return kernel_; }
    Core& core(unsigned id) { return cores_[id]; }
    const Core& core(unsigned id) const { return cores_[id]; }
    unsigned cores() const { return static_cast<unsigned>(cores_.size()); }
    const Costs& costs() const { return costs_; }

    // What the kernel does from now on it does on this core.
    void enter(Core& core);
    // The core has nothing to run, until it is entered again.
    void rest(Core& core) { core.lazy = true; }
    // Loads a task on a core (a context switch when another was loaded).
    void switch_to(Core& core, Charged* task);
    // The loaded task's mm is another one now (exec).
    void reload(Core& core);

    // One load, store or fetch by the loaded task, all inside one page: translation, faults, caches
    // and their time. False: the fault was fatal, last_fault() tells. `physical` (optional)
    // receives where the access went, `loading` (optional) is asked about a load.
    bool access(Core& core, VirtAddr address, unsigned size, Access access,
                PhysAddr* physical = nullptr, Loading* loading = nullptr);
    // A basic block of the loaded task: base cycles for its instructions, fetch of its lines.
    bool block(Core& core, VirtAddr address, unsigned bytes, unsigned instructions);
    // Brings the tables of the loaded mm to permit an access, as the faulting first attempt of an
    // instruction does. Returns false when fatal. `physical` (optional) receives where the access
    // goes; what the core's TLBs hold of a shared range, or may hold though it is stale, decides
    // as it does for access().
    bool make_accessible(Core& core, VirtAddr address, Access access, PhysAddr* physical = nullptr);
    // A translation from outside the model was used, to which its TLB would not have led any more.
    // Returns false, and counts nothing, unless the core may hold stale translations.
    bool used_stale(Core& core);

    struct Fatal {
        FaultKind kind = FaultKind::Segv;
        VirtAddr address;
        Access access = Access::Read;
    };
    const Fatal& last_fault() const { return fatal_; }

    // Charges kernel work of a system call: `cycles`, and what the kernel's effects cost.
    void charge_syscall(Core& core, std::uint64_t cycles);

    // True once after translations of the mm loaded on some core changed: whoever caches
    // translations outside the model must drop them.
    bool take_translations_changed();

    std::uint64_t invalidated_ranges() const { return shootdowns_.invalidated_ranges(); }
    Hierarchy& hierarchy() { return hierarchy_; }

  private:
    bool handle_fault(Core& core, VirtAddr address, Access access);
    void apply_effects(Core& core, std::uint64_t Counters::*category);
    // The kernel's stores to page tables go through the core's caches; the cycles that they wait.
    std::uint64_t store_tables(Core& core);
    void shoot_down(Core& core, const FlushRequest& request);
    void load_mm(Core& core, Mm& mm);
    void find_shared(Core& core, VirtAddr address);
    Translation translate(Core& core, VirtAddr address, Access access);
    bool translate_data(Core& core, VirtAddr address, Access access, PhysAddr& physical);
    bool translate_code(Core& core, VirtAddr address, PhysAddr& physical);
    void use_data(Core& core, PhysAddr physical, unsigned size, bool write);
    void charge(Core& core, std::uint64_t Counters::*category, std::uint64_t cycles);
    void cached_access(Core& core, PhysAddr address, AccessKind kind,
                       std::uint64_t Counters::*category, std::uint64_t hidden);

    Costs costs_;
    TableStores& table_stores_;
    Kernel kernel_;
    Hierarchy hierarchy_;
    std::vector<Core> cores_;
    std::uint64_t base_cpi_;  // x 2^16
    std::uint64_t line_bytes_;
    std::uint64_t l1i_latency_;  // an L1 hit is part of base CPI: only what exceeds it is charged
    std::uint64_t l1d_latency_;
    Shootdowns shootdowns_;
    bool translations_changed_ = false;
    Fatal fatal_;
};

}  // namespace ptshare::engine
