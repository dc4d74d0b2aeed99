#include "machine/machine.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "accounting/kernel_config.h"

namespace ptshare::engine {

namespace {

constexpr unsigned kFixedPoint = 16;  // fraction bits of base_cpi_ and base_remainder
// A fault that the kernel served lets the access through at the next try, unless the walk of
// another page evicted what it had filled; more tries than this are an error of the model.
constexpr int kMaxTries = 8;

}  // namespace

Machine::Machine(const Params& params, const std::string& policy, unsigned cores,
                 TableStores& contents)
    : costs_(params),
      table_stores_(contents),
      kernel_(kernel_config(params), make_policy(policy), contents),
      hierarchy_(params, cores),
      base_cpi_(static_cast<std::uint64_t>(params.real("cpu.base_cpi") * (1 << kFixedPoint))),
      line_bytes_(params.count("cache.line_bytes")),
      l1i_latency_(params.count("cache.l1i.latency")),
      l1d_latency_(params.count("cache.l1d.latency")),
      shootdowns_(params, costs_) {
    cores_.resize(cores);
    for (unsigned i = 0; i < cores; ++i) {
        cores_[i].id = i;
        cores_[i].mmu = std::make_unique<Mmu>(params, i, hierarchy_, kernel_.tables());
        cores_[i].asids = Asids(params.count("mmu.pcids"));
    }
}

inline void Machine::charge(Core& core, std::uint64_t Counters::*category, std::uint64_t cycles) {
    core.running->counters.*category += cycles;
    core.clock += cycles;
}

// ---- Context switch

void Machine::load_mm(Core& core, Mm& mm) {
    hierarchy_.set_bringer(core.id, mm.id.value);
    core.last_fetch_line = kNoLine;
    core.last_data_page = kNoPage;
    core.last_code_page = kNoPage;
    core.context = shootdowns_.load(core.id, core.asids, *core.mmu, mm);
}

void Machine::enter(Core& core) {
    kernel_.frames().use_list(core.id);
    // As switch_mm_irqs_off() to the mm that is loaded: flushes that it was spared are due.
    if (std::exchange(core.lazy, false) && core.running && core.running->mm) {
        load_mm(core, *core.running->mm);
    }
}

void Machine::switch_to(Core& core, Charged* task) {
    enter(core);
    if (core.running == task) return;
    core.running = task;
    if (core.used) {
        ++task->counters.switches;
        charge(core, &Counters::cycles_switch, costs_.switch_to);
    }
    core.used = true;
    load_mm(core, *task->mm);
}

void Machine::reload(Core& core) {
    load_mm(core, *core.running->mm);
}

// ---- Accesses

bool Machine::handle_fault(Core& core, VirtAddr address, Access access) {
    const FaultResult result = kernel_.fault(*core.running->mm, address, access);
    count_fault(core.running->counters, result);
    charge(core, &Counters::cycles_fault, costs_.fault(result));
    apply_effects(core, &Counters::cycles_fault);
    if (result.is_fatal()) fatal_ = {result.kind, address, access};
    return !result.is_fatal();
}

inline void Machine::find_shared(Core& core, VirtAddr address) {
    if (!shootdowns_.tags().on()) return;
    core.context.shared = shootdowns_.tags().use(core.asids, *core.mmu, *core.running->mm, address);
}

inline Translation Machine::translate(Core& core, VirtAddr address, Access access) {
    (access == Access::Fetch ? core.last_code_page : core.last_data_page) = kNoPage;
    find_shared(core, address);
    const Translation result =
        core.mmu->translate(address, access, core.context, core.running->counters);
    if (result.tlb_cycles != 0) charge(core, &Counters::cycles_tlb, result.tlb_cycles);
    if (result.walk_cycles != 0) charge(core, &Counters::cycles_walk, result.walk_cycles);
    // A walk drops an entry that did not serve from both L1 TLBs.
    if (!result.ok || result.walk_cycles != 0) core.last_data_page = core.last_code_page = kNoPage;
    return result;
}

bool Machine::make_accessible(Core& core, VirtAddr address, Access access, PhysAddr* physical) {
    const auto goes_to = [&](PhysAddr where) {
        if (physical) *physical = where;
        return true;
    };
    for (int tries = 0; tries < kMaxTries; ++tries) {
        find_shared(core, address);
        if (core.context.suspect || core.context.shared.tag != 0) {
            if (const auto held = core.mmu->held(address, access, core.context)) {
                return goes_to(*held);
            }
        }
        const auto leaf = core.running->mm->table.leaf(address);
        if (leaf && leaf->pte.permits(access) && address < kernel_.task_size()) {
            return goes_to(address_of(leaf->frame_of(address)) + page_offset(address));
        }
        if (translate(core, address, access).ok) {
            throw std::logic_error("a stale translation was used that no flush had left");
        }
        if (!handle_fault(core, address, access)) return false;
    }
    throw std::logic_error("a page fault repeats without end");
}

inline void Machine::cached_access(Core& core, PhysAddr address, AccessKind kind,
                                   std::uint64_t Counters::*category, std::uint64_t hidden) {
    const std::uint64_t latency =
        hierarchy_.access(core.id, address, kind, core.running->counters).latency;
    if (latency > hidden) charge(core, category, latency - hidden);
}

inline void Machine::use_data(Core& core, PhysAddr physical, unsigned size, bool write) {
    ++(write ? core.running->counters.data_writes : core.running->counters.data_reads);
    const AccessKind kind = write ? AccessKind::Write : AccessKind::Read;
    cached_access(core, physical, kind, &Counters::cycles_data, l1d_latency_);
    const PhysAddr last = physical + (size - 1);
    if (((physical.value ^ last.value) & ~(line_bytes_ - 1)) != 0) {
        cached_access(core, last, kind, &Counters::cycles_data, l1d_latency_);
    }
}

bool Machine::access(Core& core, VirtAddr address, unsigned size, Access access, PhysAddr* physical,
                     Loading* loading) {
    const bool write = access == Access::Write;
    const std::uint64_t page = vpn_of(address).value;
    PhysAddr where;
    if (page == core.last_data_page && (!write || core.last_data_written)) {
        ++core.running->counters.dtlb_accesses;
        where = PhysAddr(address_of(core.last_data_frame).value + page_offset(address));
    } else {
        Counters& counters = core.running->counters;
        if (!core.mmu->hit(address, access, core.context, counters, where)) {
            const bool as_write = write || (loading && loading->writes_back());
            const Access as = as_write ? Access::Write : Access::Read;
            if (!translate_data(core, address, as, where)) return false;
        }
        core.last_data_written = write;
        core.last_data_page = core.context.suspect ? kNoPage : page;
        core.last_data_frame = pfn_of(where);
    }
    use_data(core, where, size, write);
    if (physical) *physical = where;
    return true;
}

bool Machine::translate_data(Core& core, VirtAddr address, Access access, PhysAddr& physical) {
    for (int tries = 0; tries < kMaxTries; ++tries) {
        const Translation result = translate(core, address, access);
        physical = result.address;
        if (result.ok) return true;
        if (!handle_fault(core, address, access)) return false;
    }
    throw std::logic_error("a page fault repeats without end");
}

bool Machine::translate_code(Core& core, VirtAddr address, PhysAddr& physical) {
    const std::uint64_t page = vpn_of(address).value;
    if (page == core.last_code_page) {
        ++core.running->counters.itlb_accesses;
        physical = PhysAddr(address_of(core.last_code_frame).value + page_offset(address));
        return true;
    }
    for (int tries = 0; tries < kMaxTries; ++tries) {
        const Translation result = translate(core, address, Access::Fetch);
        if (result.ok) {
            core.last_code_page = core.context.suspect ? kNoPage : page;
            core.last_code_frame = pfn_of(result.address);
            physical = result.address;
            return true;
        }
        if (!handle_fault(core, address, Access::Fetch)) return false;
    }
    throw std::logic_error("a page fault repeats without end");
}

bool Machine::block(Core& core, VirtAddr address, unsigned bytes, unsigned instructions) {
    core.running->counters.instructions += instructions;
    core.base_remainder += instructions * base_cpi_;
    charge(core, &Counters::cycles_base, core.base_remainder >> kFixedPoint);
    core.base_remainder &= (1 << kFixedPoint) - 1;

    const VirtAddr end = address + bytes;
    while (address < end) {
        const VirtAddr stop = std::min(end, align_down(address, kPageSize) + kPageSize);
        PhysAddr physical;
        if (!translate_code(core, address, physical)) return false;
        const PhysAddr last = physical + (stop - address - 1);
        for (std::uint64_t line = physical.value & ~(line_bytes_ - 1); line <= last.value;
             line += line_bytes_) {
            if (line == core.last_fetch_line) continue;  // still in the fetch buffer
            core.last_fetch_line = line;
            ++core.running->counters.fetches;
            cached_access(core, PhysAddr(line), AccessKind::Fetch, &Counters::cycles_fetch,
                          l1i_latency_);
        }
        address = stop;
    }
    return true;
}

// ---- What the kernel did

void Machine::charge_syscall(Core& core, std::uint64_t cycles) {
    charge(core, &Counters::cycles_syscall, cycles);
    apply_effects(core, &Counters::cycles_syscall);
}

Mm& Machine::create_mm() {
    Mm& made = kernel_.create_mm();
    table_stores_.take();
    return made;
}

std::uint64_t Machine::store_tables(Core& core) {
    const TableStores::Noted noted = table_stores_.take();
    // Whole lines, which nobody waits for; their time is in cost.table_alloc. No access of
    // anybody's.
    Counters uncounted;
    for (const Pfn table : noted.cleared) {
        const PhysAddr end = address_of(table) + kPageSize;
        for (PhysAddr at = address_of(table); at < end; at = at + line_bytes_) {
            hierarchy_.access(core.id, at, AccessKind::Write, uncounted);
        }
    }
    Counters& counters = core.running->counters;
    std::uint64_t waited = 0;
    for (const PhysAddr line : noted.lines) {
        const CacheResult result = hierarchy_.access(core.id, line, AccessKind::Write, counters);
        if (result.transferred) ++counters.table_store_transfers;
        waited += result.latency - std::min(result.latency, l1d_latency_);
    }
    counters.table_stores += noted.lines.size();
    counters.table_store_cycles += waited;
    return waited;
}

void Machine::apply_effects(Core& core, std::uint64_t Counters::*category) {
    const Effects effects = kernel_.take_effects();
    charge(core, category, costs_.effects(effects) + store_tables(core));
    count_populated(core.running->counters, effects);
    for (const FlushRequest& request : effects.flushes) shoot_down(core, request);
}

void Machine::shoot_down(Core& core, const FlushRequest& request) {
    std::vector<Shootdowns::Cpu> cpus;
    for (Core& each : cores_) {
        Counters* running = each.running ? &each.running->counters : nullptr;
        cpus.push_back({&each.asids, each.mmu.get(), running, each.lazy});
    }
    const std::uint64_t waited =
        shootdowns_.carry_out(request, core.running->counters, cpus, kernel_, core.clock);
    for (Core& each : cores_) {
        const Shootdowns::Cpu& cpu = cpus[each.id];
        if (!each.running) continue;
        if (cpu.cycles != 0) charge(each, &Counters::cycles_shootdown, cpu.cycles);
        if (!cpu.changed) continue;
        each.last_data_page = kNoPage;
        each.last_code_page = kNoPage;
        Mm* mm = each.running->mm;  // null when its task is leaving
        each.context.suspect = mm && each.asids.suspect() ? &mm->table : nullptr;
        translations_changed_ = true;
    }
    if (waited != 0) charge(core, &Counters::cycles_shootdown, waited);
}

bool Machine::used_stale(Core& core) {
    if (!core.context.suspect) return false;
    ++core.running->counters.tlb_stale_hits;
    translations_changed_ = true;
    return true;
}

bool Machine::take_translations_changed() {
    return std::exchange(translations_changed_, false);
}

}  // namespace ptshare::engine
