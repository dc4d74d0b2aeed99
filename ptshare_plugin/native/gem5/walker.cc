#include "gem5/walker.hh"

#include <algorithm>
#include <utility>

#include "arch/x86/faults.hh"
#include "base/logging.hh"
#include "gem5/fault.hh"
#include "gem5/kernel.hh"
#include "gem5/tlb.hh"
#include "mem/packet_access.hh"
#include "sim/system.hh"

namespace ptshare::g5 {

using engine::TranslationCaches;
using Found = TranslationCaches::Found;

namespace {

constexpr std::uint64_t kSetByWalks = Pte::kAccessed | Pte::kDirty;

}  // namespace

Walker::Walker(const Params& p)
    : gem5::X86ISA::Walker(p),
      kernel_(*p.kernel),
      caches_(kernel_.machine()),
      step_cycles_(kernel_.machine().count("mmu.walker.step_cycles")),
      lock_cycles_(kernel_.machine().count("mmu.walker.lock_cycles")),
      max_walks_(p.max_walks),
      places_(p.places.begin(), p.places.end()),
      requestor_(p.system->getRequestorId(this, "reads")),
      port_(name() + ".port", *this),
      statistics_(this) {
    fatal_if(max_walks_ == 0, "%s: max_walks must be at least 1", name());
    fatal_if(places_.empty(), "%s: places must name where reads are served", name());
    for (const unsigned place : places_) {
        fatal_if(place >= engine::kServedPlaces, "%s: places are 0 to 3", name());
    }
}

Walker::Statistics::Statistics(gem5::statistics::Group* parent)
    : Group(parent),
      ADD_STAT(walks, gem5::statistics::units::Count::get(), "page walks that read tables"),
      ADD_STAT(coalesced, gem5::statistics::units::Count::get(),
               "translations that waited for another one's walk"),
      ADD_STAT(squashed, gem5::statistics::units::Count::get(),
               "translations that nobody wanted any more"),
      ADD_STAT(restarted, gem5::statistics::units::Count::get(),
               "walks begun anew because the tables had changed"),
      ADD_STAT(latency, gem5::statistics::units::Cycle::get(), "cycles from request to end") {
    latency.init(0, 999, 20).flags(gem5::statistics::nozero);
}

gem5::Port& Walker::getPort(const std::string& if_name, gem5::PortID id) {
    if (if_name == "port") return port_;
    return gem5::X86ISA::Walker::getPort(if_name, id);
}

// ---- A walk, whatever carries its reads

engine::MmuContext Walker::context(const Task& task, VirtAddr address) {
    if (task.core->spared && task.core->loaded)
        kernel_.scheduler().load(*task.core, *task.core->loaded);
    engine::MmuContext context = task.mmu;
    engine::SharedTags& tags = kernel_.shootdowns().tags();
    if (tags.on()) {
        context.shared = tags.use(task.core->asids, caches_, *task.mm, address);
    }
    return context;
}

std::optional<PhysAddr> Walker::held(const Task& task, VirtAddr address, Access access) {
    const engine::MmuContext at = context(task, address);
    if (!at.suspect && at.shared.tag == 0) return std::nullopt;
    return caches_.held(address, access, at);
}

TranslationCaches::Lookup Walker::look_up(Task& task, VirtAddr address, Access access) {
    return caches_.find(address, access, context(task, address), task.counters);
}

void Walker::begin(Walk& walk) {
    ++(walk.task->counters.*walk.counter);
    ++statistics_.walks;
    descend(walk);
}

void Walker::descend(Walk& walk) {
    const auto start = caches_.start(walk.address, walk.task->mmu, walk.task->counters);
    walk.level = start.level;
    walk.table = start.table;
}

gem5::PacketPtr Walker::make_read(Walk& walk) {
    walk.at = entry_address(walk.table, walk.address, walk.level);
    const auto req = std::make_shared<gem5::Request>(walk.at.value, sizeof(Pte),
                                                     gem5::Request::Flags(0), requestor_);
    auto* pkt = new gem5::Packet(req, gem5::MemCmd::ReadReq);
    pkt->allocate();
    return pkt;
}

void Walker::count_read(Walk& walk, const gem5::PacketPtr& pkt) {
    // Caches count in the request how many of them missed.
    const auto depth = static_cast<std::size_t>(std::max(pkt->req->getAccessDepth(), 0));
    const unsigned place = places_[std::min(depth, places_.size() - 1)];
    ++walk.task->counters.pte_reads[index_of(kernel_name(walk.level, caches_.levels()))][place];
}

void Walker::count_end(Walk& walk, gem5::Tick ticks, bool hit) {
    const std::uint64_t cycles = ticksToCycles(ticks);
    statistics_.latency.sample(cycles);
    count_walk_time(walk.task->counters, cycles);
    if (hit) return;
    ++walk.task->counters.walks_faulted;
    if (walk.task->mm) caches_.page_fault(walk.address, context(*walk.task, walk.address));
}

Walker::Next Walker::step(Walk& walk, Pte entry, PhysAddr& physical) {
    Task& task = *walk.task;
    if (!task.mm) return Next::Fault;  // it left while the read was under way
    // Another CPU's kernel may have changed the tables since the read was served, or put the table
    // that was read elsewhere: what is no longer true must not get into the TLB.
    TableStore& tables = kernel_.core().tables();
    const Pte* current = task.mm->table.find(walk.address, walk.level, false);
    const bool same =
        current && tables.is_table(pfn_of(walk.at)) &&
        current == &tables.at(pfn_of(walk.at)).entries[entry_index(walk.address, walk.level)];
    const Pte now = same ? *current : Pte();
    if (!same || now.without(kSetByWalks) != entry.without(kSetByWalks)) {
        ++statistics_.restarted;
        descend(walk);
        return Next::Read;
    }
    if (!entry.present()) return Next::Fault;
    if (walk.level != Level::Pte && !entry.large()) {
        caches_.keep(walk.address, task.mmu, walk.level, entry.pfn());
        walk.table = entry.pfn();
        walk.level = below(walk.level);
        return Next::Read;
    }
    if (!entry.permits(walk.access)) return Next::Fault;
    walk.sets_bits = TranslationCaches::sets_bits(now, walk.access);
    if (walk.sets_bits) {
        ++task.counters.walk_stores;
        store(walk.at);
    }
    physical = caches_.end(walk.address, walk.access, context(task, walk.address), walk.level, now,
                           tables, walk.at);
    return Next::Hit;
}

bool Walker::translate(Task& task, VirtAddr address, Access access, PhysAddr& physical) {
    const auto lookup = look_up(task, address, access);
    if (lookup.found != Found::Walk) {
        physical = lookup.address;
        return lookup.found == Found::Here;
    }
    Walk walk(task, address, access, lookup.walk);
    begin(walk);
    Next next = Next::Read;
    gem5::Tick ticks = 0;
    while (next == Next::Read) {
        const gem5::PacketPtr pkt = make_read(walk);
        ticks += port_.sendAtomic(pkt) + cyclesToTicks(gem5::Cycles(step_cycles_));
        count_read(walk, pkt);
        const Pte entry(pkt->getLE<std::uint64_t>());
        delete pkt;
        next = step(walk, entry, physical);
    }
    if (walk.sets_bits) ticks += cyclesToTicks(gem5::Cycles(lock_cycles_));
    count_end(walk, ticks, next == Next::Hit);
    return next == Next::Hit;
}

void Walker::store(PhysAddr at) {
    const auto req =
        std::make_shared<gem5::Request>(at.value, sizeof(Pte), gem5::Request::Flags(0), requestor_);
    // Takes the line as a write does.
    req->setByteEnable(std::vector<bool>(sizeof(Pte), false));
    auto* pkt = new gem5::Packet(req, gem5::MemCmd::WriteReq);
    pkt->allocate();
    if (params().system->isAtomicMode()) {
        port_.sendAtomic(pkt);
        delete pkt;
        return;
    }
    ++unfinished_;
    send(pkt);
}

// ---- Timing

void Walker::after(gem5::Cycles cycles, std::function<void()> work) {
    if (cycles == 0) {
        work();
        return;
    }
    schedule(new gem5::EventFunctionWrapper(std::move(work), name(), true), clockEdge(cycles));
}

void Walker::delay(Waiter waiter, Task& task, const TranslationCaches::Lookup& lookup) {
    const VirtAddr address(waiter.req->getVaddr());
    const Access access = access_of(waiter.req, waiter.mode);
    ++unfinished_;
    after(gem5::Cycles(lookup.cycles), [=, this_task = &task] {
        if (lookup.found == Found::Walk) {
            request(waiter, *this_task, address, access, lookup.walk);
        } else {
            finish(waiter, true, lookup.address);
        }
    });
}

void Walker::request(Waiter waiter, Task& task, VirtAddr address, Access access,
                     std::uint64_t engine::Counters::*counter) {
    const VirtAddr page = align_down(address, kPageSize);
    for (std::list<Walk>* list : {&walks_, &waiting_}) {
        for (Walk& walk : *list) {
            if (walk.task != &task || walk.access != access ||
                align_down(walk.address, kPageSize) != page) {
                continue;
            }
            ++statistics_.coalesced;
            walk.waiters.push_back(std::move(waiter));
            return;
        }
    }
    Walk walk(task, address, access, counter);
    walk.begin = gem5::curTick();
    walk.waiters.push_back(std::move(waiter));
    if (walks_.size() >= max_walks_) {
        waiting_.push_back(std::move(walk));
        return;
    }
    walks_.push_back(std::move(walk));
    start(std::prev(walks_.end()));
}

void Walker::start(WalkRef walk) {
    begin(*walk);
    send_read(walk);
}

void Walker::start_waiting() {
    while (walks_.size() < max_walks_ && !waiting_.empty()) {
        Walk& next = waiting_.front();
        const auto wanted = [](const Waiter& w) { return !w.translation->squashed(); };
        if (std::none_of(next.waiters.begin(), next.waiters.end(), wanted)) {
            const std::vector<Waiter> gone = std::move(next.waiters);
            waiting_.pop_front();
            for (const Waiter& waiter : gone) finish(waiter, false, PhysAddr(0));
            continue;
        }
        walks_.splice(walks_.end(), waiting_, waiting_.begin());
        start(std::prev(walks_.end()));
    }
}

void Walker::send_read(WalkRef walk) {
    const gem5::PacketPtr pkt = make_read(*walk);
    pkt->pushSenderState(new WalkState(walk));
    after(gem5::Cycles(step_cycles_), [this, pkt] { send(pkt); });
}

void Walker::send(gem5::PacketPtr pkt) {
    if (!blocked_.empty() || !port_.sendTimingReq(pkt)) blocked_.push_back(pkt);
}

void Walker::retry() {
    while (!blocked_.empty() && port_.sendTimingReq(blocked_.front())) blocked_.pop_front();
}

bool Walker::received(gem5::PacketPtr pkt) {
    if (pkt->isWrite()) {  // a store's
        delete pkt;
        finished();
        return true;
    }
    auto* state = dynamic_cast<WalkState*>(pkt->popSenderState());
    panic_if(!state, "%s: a response that it did not ask for", name());
    const WalkRef walk = state->walk;
    delete state;
    count_read(*walk, pkt);
    const Pte entry(pkt->getLE<std::uint64_t>());
    delete pkt;
    PhysAddr physical;
    const Next next = step(*walk, entry, physical);
    if (next == Next::Read) {
        send_read(walk);
    } else {
        after(gem5::Cycles(walk->sets_bits ? lock_cycles_ : 0),
              [=] { end(walk, next == Next::Hit, physical); });
    }
    return true;
}

void Walker::end(WalkRef walk, bool hit, PhysAddr physical) {
    count_end(*walk, gem5::curTick() - walk->begin, hit);
    const std::vector<Waiter> waiters = std::move(walk->waiters);
    walks_.erase(walk);
    // The CPU may ask for further walks while it is told.
    for (const Waiter& waiter : waiters) {
        const PhysAddr at((physical.value & ~(kPageSize - 1)) |
                          page_offset(VirtAddr(waiter.req->getVaddr())));
        finish(waiter, hit, at);
    }
    start_waiting();
}

void Walker::finish(const Waiter& waiter, bool hit, PhysAddr physical) {
    gem5::Fault fault;
    if (waiter.translation->squashed()) {
        ++statistics_.squashed;
        fault = std::make_shared<gem5::UnimpFault>("a squashed translation");
    } else if (hit) {
        fault = waiter.tlb->finish(waiter.req, waiter.tc, waiter.mode, physical);
    } else {
        fault = std::make_shared<PageFault>(kernel_, VirtAddr(waiter.req->getVaddr()),
                                            access_of(waiter.req, waiter.mode));
    }
    waiter.translation->finish(fault, waiter.req, waiter.tc, waiter.mode);
    finished();
}

void Walker::finished() {
    if (--unfinished_ == 0 && drainState() == gem5::DrainState::Draining) signalDrainDone();
}

gem5::DrainState Walker::drain() {
    return unfinished_ == 0 ? gem5::DrainState::Drained : gem5::DrainState::Draining;
}

}  // namespace ptshare::g5
