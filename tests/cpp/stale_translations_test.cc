// Whether TLBs ever serve what the page tables no longer say, judged from outside: after each
// access the tables are asked where it should have gone.
#include <algorithm>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "machine_world.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

constexpr VirtAddr kShared(1ULL << 40);
constexpr VirtAddr kOwn((1ULL << 40) + (1ULL << 39));
constexpr std::uint64_t kBytes = 4 << 20;
constexpr int kDontNeed = 4;  // MADV_DONTNEED
constexpr unsigned kCores = 3;
constexpr std::size_t kProcesses = 6;

enum class Sharers { Some, One };

// Processes that take turns on three cores, and what they do at random.
class World {
  public:
    World(const std::string& policy, const Values& changes, std::uint64_t seed,
          Sharers sharers = Sharers::Some)
        : params_(small_machine(changes)),
          alone_(sharers == Sharers::One),
          machine_(params_, policy, kCores, contents_),
          file_(machine_.kernel().create_file("file")),
          random_(seed) {
        file_->resize(kBytes);
        for (std::size_t i = 0; i < kProcesses; ++i) start(machine_.kernel().create_mm());
        // Not all share, so that a core may hold what nobody on it uses.
        for (std::size_t i = 0; i < kProcesses; ++i) {
            if (alone_ ? i == 0 : i % 2 == 0) map_shared(*alive_[i]);
            map_own(*alive_[i]);
        }
        machine_.kernel().take_effects();
        for (unsigned core = 0; core < kCores; ++core)
            machine_.switch_to(machine_.core(core), alive_[core]);
    }

    void step() {
        Core& core = machine_.core(static_cast<unsigned>(pick(kCores)));
        const std::uint64_t what = pick(100);
        if (what < 80) {
            access(core);
        } else if (what < 88) {
            switch_away(core);
        } else {
            call(core, pick(24));
        }
    }

    // Accesses that went where the tables no longer say, or were not permitted by them.
    std::uint64_t stale() const { return stale_; }
    std::uint64_t good() const { return good_; }
    std::uint64_t refused() const { return refused_; }
    Counters total() const {
        Counters sum;
        for (const Charged& task : tasks_) add(sum, task.counters);
        return sum;
    }

  private:
    std::uint64_t pick(std::uint64_t below) { return random_() % below; }
    Mm& mm_of(Core& core) { return *core.running->mm; }

    void start(Mm& mm) {
        tasks_.emplace_back();
        tasks_.back().mm = &mm;
        alive_.push_back(&tasks_.back());
    }
    void map_shared(Charged& task) {
        const MapRequest request = test::shared_request(kShared, kBytes, file_);
        machine_.kernel().mmap(*task.mm, request);  // which may be refused
    }
    void map_own(Charged& task) {
        MapRequest request;
        request.address = kOwn;
        request.length = kBytes;
        request.prot = kProtRead | kProtWrite;
        request.flags = kMapPrivate | kMapFixed | kMapAnonymous;
        CHECK(machine_.kernel().mmap(*task.mm, request).ok());
    }

    // Few pages, so that they are used again; they lie in two tables.
    VirtAddr page() {
        const VirtAddr base = pick(3) == 0 ? kOwn : kShared;
        return base + pick(2) * (kBytes / 2) + pick(pick(3) == 0 ? 24 : 3) * kPageSize;
    }

    void access(Core& core) {
        const VirtAddr at = page() + pick(512) * 8;
        const Access how = pick(3) == 0 ? Access::Write : Access::Read;
        PhysAddr where;
        if (!machine_.access(core, at, 8, how, &where)) {
            ++refused_;
            return;
        }
        // Shared TLB entries serve those too who have not linked the host's table yet.
        const Vma* vma = mm_of(core).find(at);
        const auto leaf = vma && vma->host ? vma->host->mm.table.leaf(vma->host->to_host(*vma, at))
                                           : mm_of(core).table.leaf(at);
        const bool right =
            leaf && leaf->pte.permits(how) &&
            where.value == address_of(leaf->frame_of(at)).value + at.value % kPageSize;
        ++(right ? good_ : stale_);
    }

    void switch_away(Core& core) {
        std::vector<Charged*> waiting;
        for (Charged* task : alive_) {
            bool runs = false;
            for (unsigned i = 0; i < kCores; ++i) runs |= machine_.core(i).running == task;
            if (!runs) waiting.push_back(task);
        }
        machine_.switch_to(core, waiting[pick(waiting.size())]);
    }

    void call(Core& core, std::uint64_t which) {
        Kernel& kernel = machine_.kernel();
        Mm& mm = mm_of(core);
        const std::uint64_t pages =
            pick(4) == 0 ? 40 : 1 + pick(8);  // more than the ceiling, or few
        const VirtAddr at = page();
        if (which < 12) {
            kernel.mprotect(mm, at, pages * kPageSize,
                            pick(2) == 0 ? kProtRead : kProtRead | kProtWrite);
        } else if (which < 17) {
            kernel.madvise(mm, at, pages * kPageSize, kDontNeed);
        } else if (which < 19) {
            kernel.munmap(mm, kShared, kBytes);
            if (alone_ ? core.running == alive_[0] : pick(4) != 0) map_shared(*core.running);
        } else if (which < 20) {
            kernel.munmap(mm, kOwn, kBytes);
            map_own(*core.running);
        } else if (which < 21) {
            kernel.truncate(*file_, kBytes / 2 * pick(2));
            kernel.truncate(*file_, kBytes);
        } else if (which < 23) {
            if (alive_.size() < 2 * kProcesses && !alone_) start(kernel.fork(mm));
        } else if (alive_.size() > kProcesses) {
            kernel.exit(mm);
            alive_.erase(std::find(alive_.begin(), alive_.end(), core.running));
            machine_.charge_syscall(core, 0);
            switch_away(core);
            return;
        }
        machine_.charge_syscall(core, 0);
    }

    TableStores contents_;
    Params params_;
    bool alone_;  // one process shares tables with itself
    Machine machine_;
    std::shared_ptr<File> file_;
    std::mt19937_64 random_;
    std::deque<Charged> tasks_;  // also those that have left; their places do not change
    std::vector<Charged*> alive_;
    std::uint64_t stale_ = 0;
    std::uint64_t good_ = 0;
    std::uint64_t refused_ = 0;
};

// What TLBs must never do, whatever flushes whom: with and without PCIDs, few or many, with and
// without a second level.
void never_stale(const std::string& policy, const Values& changes) {
    for (const std::int64_t pcids : {0, 2, 16}) {
        Values all = changes;
        all["mmu.pcids"] = pcids;
        // Large, so that what a flush leaves is found again; a test may have none instead.
        all.insert({"mmu.stlb.entries", std::int64_t{1024}});
        World world(policy, all, static_cast<std::uint64_t>(17 + pcids));
        for (int i = 0; i < 60000; ++i) world.step();
        const Counters c = world.total();
        CHECK_EQ(world.stale(), 0U);
        CHECK_EQ(c.tlb_stale_hits, 0U);
        CHECK_EQ(c.pwc_stale_hits, 0U);
        // The run met what it is for.
        CHECK(world.good() > 10000);
        CHECK(world.refused() > 200);
        CHECK(c.dtlb_accesses - c.dtlb_misses > 2000);
        CHECK(c.shootdowns > 500);
        CHECK(c.tlb_flushed_entries > 1000);
        CHECK(c.switches > 1000);
        CHECK(c.shootdown_received > 100);
    }
}

}  // namespace

TEST(private_tables_are_never_used_stale) {
    never_stale("private", {});
}

TEST(shared_tables_are_never_used_stale) {
    never_stale("ptshare", {});
}

TEST(linked_huge_tables_are_never_used_stale) {
    never_stale("hugetlb-pmd", {});
}

TEST(without_a_second_level_and_with_pages_mapped_around) {
    never_stale("ptshare", {{"mmu.stlb.entries", std::int64_t{0}},
                            {"kernel.fault_around_bytes", std::int64_t{65536}},
                            {"kernel.dirty_tracking", true},
                            {"kernel.pt_reclaim", true}});
}

struct Setting {
    const char* strategy;
    bool batch = true;
    bool broadcast = false;
};

// Calls check(world after so many steps) for each policy that shares ranges, with and without
// shared tags, and with PCIDs of which there are none, few or enough.
template <class Check>
void in_each_world(const Setting& setting, Sharers sharers, int steps, Check&& check) {
    for (const char* policy : {"ptshare", "mshare", "rfc-v2"}) {
        for (const bool tags : {false, true}) {
            for (const std::int64_t pcids : {0, 2, 16}) {
                World world(policy,
                            {{"shootdown.strategy", std::string(setting.strategy)},
                             {"shootdown.batch", setting.batch},
                             {"shootdown.broadcast", setting.broadcast},
                             {"mmu.shared_tags", tags},
                             {"mmu.pcids", pcids},
                             {"mmu.stlb.entries", std::int64_t{1024}}},
                            static_cast<std::uint64_t>(pcids) + 5, sharers);
                for (int i = 0; i < steps; ++i) world.step();
                check(world);
            }
        }
    }
}

void nothing_is_stale(const World& world) {
    const Counters c = world.total();
    CHECK_EQ(world.stale(), 0U);
    CHECK_EQ(c.tlb_stale_hits, 0U);
    CHECK_EQ(c.pwc_stale_hits, 0U);
    CHECK(world.good() > 1000);
    CHECK(c.shootdowns > 50);
    CHECK(c.tlb_flushed_entries > 100);
}

TEST(no_strategy_that_tells_all_leaves_a_stale_translation) {
    for (const char* strategy : {"all-cpus", "sharers", "lazy"}) {
        for (const bool batch : {true, false}) {
            for (const bool broadcast : {false, true}) {
                in_each_world({strategy, batch, broadcast}, Sharers::Some, 6000, nothing_is_stale);
            }
        }
    }
}

TEST(telling_the_caller_alone_leaves_stale_translations_which_are_counted) {
    in_each_world({"caller-only"}, Sharers::Some, 60000, [](const World& world) {
        CHECK(world.stale() > 5);
        // Also those count that had a right too many and did not need it.
        CHECK(world.total().tlb_stale_hits >= world.stale());
    });
}

TEST(telling_the_caller_alone_is_enough_when_nobody_else_shares) {
    in_each_world({"caller-only"}, Sharers::One, 60000, nothing_is_stale);
}

// Sharing tables does not share translations: each process misses as often as with its own tables.
TEST(sharing_tables_changes_no_tlb_miss) {
    for (const std::int64_t pcids : {0, 2, 6}) {
        std::vector<Counters> found;
        for (const char* policy : {"private", "ptshare"}) {
            const Params params = small_machine({{"mmu.pcids", pcids}});
            TableStores contents;
            Machine machine(params, policy, 2, contents);
            const auto file = machine.kernel().create_file("file");
            file->resize(kBytes);
            std::deque<Charged> tasks(4);
            for (Charged& task : tasks) {
                task.mm = &machine.kernel().create_mm();
                const MapRequest request = test::shared_request(kShared, kBytes, file);
                CHECK(machine.kernel().mmap(*task.mm, request).ok());
                for (VirtAddr at = kShared; at < kShared + kBytes; at = at + kPageSize) {
                    CHECK(!machine.kernel().fault(*task.mm, at, Access::Write).is_fatal());
                }
            }
            machine.kernel().take_effects();
            std::mt19937_64 random(23);
            for (int turn = 0; turn < 400; ++turn) {
                Core& core = machine.core(static_cast<unsigned>(turn % 2));
                machine.switch_to(core, &tasks[random() % 2 * 2 + core.id]);
                for (int i = 0; i < 100; ++i) {
                    const VirtAddr at = kShared + random() % 40 * kPageSize;
                    const Access how = random() % 3 == 0 ? Access::Write : Access::Read;
                    CHECK(machine.access(core, at, 8, how));
                }
            }
            Counters sum;
            for (const Charged& task : tasks) add(sum, task.counters);
            CHECK_EQ(minor_faults(sum), 0U);
            found.push_back(sum);
        }
        CHECK_EQ(found[0].dtlb_accesses, found[1].dtlb_accesses);
        CHECK_EQ(found[0].dtlb_misses, found[1].dtlb_misses);
        CHECK_EQ(found[0].stlb_misses, found[1].stlb_misses);
        CHECK(found[0].dtlb_misses > 10000 && found[0].stlb_misses > 1000);
        // It is the walks that change: lines of one table instead of four.
        const auto& own = found[0].pte_reads[index_of(Level::Pte)];
        const auto& shared = found[1].pte_reads[index_of(Level::Pte)];
        CHECK_EQ(own[3], 4U * 5);
        CHECK_EQ(shared[3], 5U);
    }
}
