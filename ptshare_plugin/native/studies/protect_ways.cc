#include "studies/protect_ways.h"

#include <sys/syscall.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "machine/machine.h"

namespace ptshare::engine {

namespace {

constexpr VirtAddr kRegion(1ULL << 40);
// A page that all map privately: the published protection and the count of acknowledgements.
constexpr VirtAddr kControl(kRegion.value - kPudSize);
constexpr unsigned kWord = 8;  // bytes of an access
constexpr std::uint64_t kRw = kProtRead | kProtWrite;

// All processes and the cores that they run on, up to the moment of the change.
class Processes {
  public:
    Processes(const Params& params, const std::string& policy, const ProtectSetting& setting)
        : setting_(setting),
          machine_(params, policy, setting.cores, contents_),
          region_(machine_.kernel().create_file("region")),
          control_(machine_.kernel().create_file("control")),
          tasks_(setting.processes) {
        region_->resize(setting.region);
        control_->resize(kPageSize);
        for (Charged& task : tasks_) {
            look();
            task.mm = &machine_.create_mm();
            map(*task.mm, kRegion, setting.region, region_, kMapSharedPt | kMapPopulate);
            map(*task.mm, kControl, kPageSize, control_, 0);
            machine_.kernel().take_effects();
        }
    }

    bool share_tables() const {
        const Vma* const vma = tasks_[0].mm->find(kRegion);
        return vma->host != nullptr && vma->has(kVmSharedPt);
    }

    // Gives the piece the protection before the change, lets every process use it, and loads the
    // first process of each core.
    void prepare(std::uint64_t prot) {
        if (prot != kRw) {
            for (unsigned p = 0; p < (share_tables() ? 1 : setting_.processes); ++p) {
                load(p);
                protect(p, prot);
            }
        }
        const Access access = prot & kProtWrite ? Access::Write : Access::Read;
        for (unsigned p = setting_.processes; p-- > 0;) {
            Core& core = load(p);
            for (VirtAddr at = kRegion; at < piece_end(); at = at + kPageSize)
                use(core, at, access);
            use(core, kControl, Access::Write);
        }
        start_ = meet();
        for (const Charged& task : tasks_) add(before_, task.counters);
    }

    // ---- The change

    // The mprotect system call of the process that its core runs.
    void protect(unsigned process, std::uint64_t prot) {
        count_syscall(process, machine_.costs().memory_call(SYS_mprotect), [&] {
            const Errno error =
                machine_.kernel().mprotect(*tasks_[process].mm, kRegion, setting_.piece, prot);
            if (error != Errno::Ok) {
                throw std::invalid_argument("mprotect of the piece is refused (errno " +
                                            std::to_string(static_cast<int>(error)) +
                                            "): it must consist of whole pages of the policy");
            }
        });
    }

    void change(ProtectWay way, std::uint64_t prot) {
        prot_ = prot;
        protect(0, prot);
        held_ = core_of(0).clock;
        if (way == ProtectWay::Message) send_to_all();
        if (way == ProtectWay::Trap) use(core_of(0), kControl, Access::Write);
        cost_.caller_cycles = core_of(0).clock - start_;
    }

    // Every process accesses the piece; those that are refused adopt what was published.
    void touch(Access access, bool trap) {
        meet();
        for (unsigned p = 0; p < setting_.processes; ++p) {
            Core& core = load(p);
            if (machine_.access(core, kRegion, kWord, access)) continue;
            if (!trap) throw std::logic_error("an access is refused that was permitted to all");
            deliver_signal(p);
            use(core, kControl, Access::Read);
            protect(p, prot_);
            held_ = std::max(held_, core.clock);
            use(core, kRegion, access);
        }
    }

    // ---- What came of it

    Counters counted() const {
        Counters sum;
        for (const Charged& task : tasks_) add(sum, task.counters);
        subtract(sum, before_);
        return sum;
    }
    const ProtectCost& cost() const { return cost_; }
    std::uint64_t held() const { return held_ - start_; }

    std::uint64_t adopted() const {
        const auto has = [&](const Charged& task) {
            look();
            for (VirtAddr at = kRegion; at < piece_end(); at = at + kPageSize) {
                if (task.mm->table.leaf(at)->pte.permits(Access::Write) !=
                    ((prot_ & kProtWrite) != 0)) {
                    return false;
                }
            }
            return true;
        };
        return static_cast<std::uint64_t>(std::count_if(tasks_.begin(), tasks_.end(), has));
    }

    // Every process writes to every page, those first that run: how many writes go through though
    // the process's tables forbid them.
    std::uint64_t stale_hits() {
        std::uint64_t hits = 0;
        for (unsigned p = 0; p < setting_.processes; ++p) {
            Core& core = load(p);
            for (VirtAddr at = kRegion; at < piece_end(); at = at + kPageSize) {
                look_at_times();
                const bool permitted = tasks_[p].mm->table.leaf(at)->pte.permits(Access::Write);
                if (machine_.access(core, at, kWord, Access::Write) && !permitted) ++hits;
            }
        }
        return hits;
    }

  private:
    VirtAddr piece_end() const { return kRegion + setting_.piece; }
    Core& core_of(unsigned process) { return machine_.core(process % setting_.cores); }

    void map(Mm& mm, VirtAddr at, std::uint64_t bytes, const std::shared_ptr<File>& file,
             std::uint64_t flags) {
        MapRequest request;
        request.address = at;
        request.length = bytes;
        request.prot = kRw;
        request.flags = kMapShared | kMapFixed | flags;
        request.file = file;
        if (!machine_.kernel().mmap(mm, request).ok()) {
            throw std::invalid_argument("the policy refuses to map the region");
        }
    }

    Core& load(unsigned process) {
        look();
        Core& core = core_of(process);
        machine_.switch_to(core, &tasks_[process]);
        return core;
    }
    void look() const {
        if (setting_.look) setting_.look();
    }
    void look_at_times() {  // for each page
        if ((++used_ & 0xfff) == 0) look();
    }

    void use(Core& core, VirtAddr at, Access access) {
        look_at_times();
        if (!machine_.access(core, at, kWord, access)) {
            throw std::logic_error("an access is refused that was permitted");
        }
    }

    template <class Work>
    void count_syscall(unsigned process, std::uint64_t cycles, Work&& work) {
        ++tasks_[process].counters.syscalls;
        work();
        machine_.charge_syscall(core_of(process), machine_.costs().syscall + cycles);
    }

    void send(unsigned process) {
        ++cost_.messages;
        count_syscall(process, machine_.costs().message, [] {});
    }

    void deliver_signal(unsigned process) {
        ++cost_.signals;
        machine_.charge_syscall(core_of(process), machine_.costs().signal);
    }

    // The caller signals all and sleeps. Each handler calls mprotect and counts itself in the
    // control page; the last one wakes the caller. Cores work at the same time.
    void send_to_all() {
        const unsigned last_process = setting_.processes - 1;
        std::vector<std::uint64_t> sent(setting_.processes);
        for (unsigned p = 1; p <= last_process; ++p) {
            send(0);
            sent[p] = core_of(0).clock;
        }
        count_syscall(0, 0, [] {});  // to sleep
        unsigned last = 0;
        std::uint64_t acknowledged = 0;
        for (unsigned p = 1; p <= last_process; ++p) {
            Core& core = core_of(p);
            core.idle_until(sent[p]);
            load(p);
            deliver_signal(p);
            protect(p, prot_);
            held_ = std::max(held_, core.clock);
            use(core, kControl, Access::Write);
            if (core.clock > acknowledged) {
                acknowledged = core.clock;
                last = p;
            }
        }
        send(last);  // its core runs it still: nobody there was later
        core_of(0).idle_until(core_of(last).clock);
        load(0);
    }

    // All cores wait for the last one; returns its clock.
    std::uint64_t meet() {
        std::uint64_t latest = 0;
        for (unsigned i = 0; i < machine_.cores(); ++i) {
            latest = std::max(latest, machine_.core(i).clock);
        }
        for (unsigned i = 0; i < machine_.cores(); ++i) machine_.core(i).idle_until(latest);
        return latest;
    }

    const ProtectSetting setting_;
    std::uint64_t used_ = 0;  // accesses
    TableStores contents_;
    Machine machine_;
    std::shared_ptr<File> region_;
    std::shared_ptr<File> control_;
    std::vector<Charged> tasks_;  // never resized: cores point at its elements
    Counters before_;             // summed over tasks, at the moment of the change
    std::uint64_t start_ = 0;     // every core's clock at that moment
    std::uint64_t held_ = 0;      // clock at which the last one so far had the new protection
    std::uint64_t prot_ = kRw;
    ProtectCost cost_;
};

void check(const ProtectSetting& setting) {
    if (setting.processes < 2) throw std::invalid_argument("processes must be 2 or more");
    if (setting.cores == 0) throw std::invalid_argument("cores must be 1 or more");
    if (setting.region == 0 || !is_aligned(setting.region, kPmdSize)) {
        throw std::invalid_argument("the region must be a multiple of 2 MiB");
    }
    if (setting.piece == 0 || !is_aligned(setting.piece, kPageSize) ||
        setting.piece > setting.region) {
        throw std::invalid_argument("the piece must be a multiple of 4 KiB, within the region");
    }
}

std::int64_t difference(std::uint64_t a, std::uint64_t b) {
    return static_cast<std::int64_t>(a) - static_cast<std::int64_t>(b);
}

std::uint64_t walks_of(const Counters& c) {
    return c.walks_data + c.walks_fetch;
}

}  // namespace

bool policy_shares_tables(const Params& params, const std::string& policy) {
    return Processes(params, policy, {1, 1, kPmdSize, kPageSize}).share_tables();
}

ProtectCost measure_protect(const Params& params, const std::string& policy,
                            const ProtectSetting& setting, ProtectWay way,
                            ProtectDirection direction) {
    check(setting);
    const bool write = direction == ProtectDirection::ReadWrite;
    const std::uint64_t after = write ? kRw : kProtRead;
    const Access access = write ? Access::Write : Access::Read;

    Processes changed(params, policy, setting);
    if (changed.share_tables() != (way == ProtectWay::Shared)) {
        throw std::invalid_argument(
            "policy " + policy +
            (way == ProtectWay::Shared ? " shares no tables: one mprotect reaches the caller alone"
                                       : " shares tables: one mprotect reaches all"));
    }
    changed.prepare(write ? kProtRead : kRw);
    changed.change(way, after);
    ProtectCost cost = changed.cost();
    cost.change_cycles = all_cycles(changed.counted());
    changed.touch(access, way == ProtectWay::Trap);
    const Counters sum = changed.counted();
    cost.touch_cycles = all_cycles(sum) - cost.change_cycles;
    cost.messages = changed.cost().messages;
    cost.signals = changed.cost().signals;
    cost.adopted = changed.adopted();

    Processes unchanged(params, policy, setting);
    unchanged.prepare(kRw);
    unchanged.touch(access, false);
    const Counters base = unchanged.counted();
    cost.baseline_cycles = all_cycles(base);
    cost.syscalls = sum.syscalls - base.syscalls;
    cost.faults = difference(all_faults(sum), all_faults(base));
    cost.switches = difference(sum.switches, base.switches);
    cost.walks = difference(walks_of(sum), walks_of(base));
    cost.ipis = sum.shootdown_ipis;

    if (!write) {
        // Again, as the writes that look for stale translations would disturb the touches.
        Processes tried(params, policy, setting);
        tried.prepare(kRw);
        tried.change(way, after);
        cost.stale_hits = tried.stale_hits();
    }
    if (cost.adopted == setting.processes && cost.stale_hits == 0) {
        cost.hold_cycles = changed.held();
    }
    return cost;
}

}  // namespace ptshare::engine
