// Random operations of up to 64 processes under every policy: nothing wrong, nothing leaked.
//
//   stress_test                                  20,000 operations a configuration, as CI runs it
//   PTSHARE_OPERATIONS=10000000 stress_test      the long run (best under sanitizers)
//   PTSHARE_SEED=7 stress_test rfc_v2            another one, of one policy
//
// Every invariant of core that can be recounted is, on samples (audit); on each operation it is
// looked whether translations that were used before and that no flush covered still hold; when all
// processes are gone, whether anything is left.
#include <cstdlib>
#include <map>
#include <utility>

#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

constexpr unsigned kProcesses = 64;
constexpr unsigned kFiles = 6;
constexpr std::uint64_t kFileBytes = 4 * kPmdSize;
constexpr VirtAddr kHeap(0x20000000000);
constexpr int kDontNeed = 4;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// xorshift64 (Marsaglia 2003)
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
    std::uint64_t below(std::uint64_t n) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return (state_ >> 11) % n;
    }
    bool one_in(std::uint64_t n) { return below(n) == 0; }

  private:
    std::uint64_t state_;
};

class Stress {
  public:
    Stress(const std::string& policy, const KernelConfig& with, std::uint64_t seed)
        : kernel_(with, make_policy(policy), contents_), random_(seed) {
        for (unsigned i = 0; i < kFiles; ++i) {
            files_.push_back(kernel_.create_file("file"));
            files_.back()->resize(kFileBytes);
        }
        unit_ = std::max<std::uint64_t>(kernel_.policy().alignment(kernel_), kPmdSize);
    }

    void run(std::uint64_t operations) {
        const std::uint64_t sample = std::max<std::uint64_t>(operations / 100, 1);
        for (std::uint64_t i = 0; i < operations && check::failures_in_test < 5; ++i) {
            try {
                step();
            } catch (const OutOfMemory&) {
                ++out_of_memory_;
            }
            carry_out_flushes();
            if (i % sample == 0) audit_is_clean();
        }
        while (!mms_.empty()) exit(random_.below(mms_.size()));
        carry_out_flushes();
        audit_is_clean();
        nothing_is_left();
        if (kernel_.flush_strategy() != FlushStrategy::CallerOnly) CHECK_EQ(stale_, 0U);
    }

    std::uint64_t stale() const { return stale_; }
    const KernelStats& stats() const { return kernel_.stats(); }
    Kernel& kernel() { return kernel_; }

  private:
    // ---- Operations

    void step() {
        if (mms_.empty() || (mms_.size() < kProcesses && random_.one_in(40))) return spawn();
        Mm& mm = *mms_[random_.below(mms_.size())];
        switch (random_.below(20)) {
            case 0:
                return share(mm);
            case 1:
                return map(mm);
            case 2:
                if (random_.one_in(4)) exit(random_.below(mms_.size()));
                return;
            case 3:
                if (mms_.size() < kProcesses && random_.one_in(2)) {
                    mms_.push_back(&kernel_.fork(mm));
                }
                return;
            case 4:
                (void)kernel_.munmap(mm, anywhere(), length());
                return;
            case 5:
                if (random_.one_in(2)) leave(mm);
                return;
            case 6:
            case 7:
                (void)kernel_.mprotect(mm, anywhere(), length(), random_.below(8));
                return;
            case 8:
                (void)kernel_.mremap(mm, anywhere(), length(), length(), random_.below(4),
                                     anywhere());
                return;
            case 9:
                (void)kernel_.madvise(mm, anywhere(), length(), kDontNeed);
                return;
            case 10:
                if (random_.one_in(10)) {
                    const std::uint64_t bytes = random_.below(4) * kPmdSize +
                                                (random_.one_in(2) ? kPmdSize : 3 * kPageSize);
                    (void)kernel_.truncate(*files_[random_.below(kFiles)], bytes);
                }
                return;
            case 11:
                (void)kernel_.brk(mm, kHeap + random_.below(600) * kPageSize);
                return;
            case 12:
                if (random_.one_in(8)) {
                    kernel_.share_mm(mm);
                    kernel_.exit(mm);
                }
                return;
            default:
                for (std::uint64_t i = random_.below(8); i != 0; --i) touch(mm);
                return;
        }
    }

    void spawn() {
        mms_.push_back(&kernel_.create_mm());
        mms_.back()->brk_start = mms_.back()->brk = kHeap;
    }

    void exit(std::uint64_t index) {
        Mm* mm = mms_[index];
        const auto first = tlb_.lower_bound({mm->id, VirtAddr(0)});
        tlb_.erase(first, tlb_.lower_bound({mm->id + 1, VirtAddr(0)}));
        mms_.erase(mms_.begin() + static_cast<std::ptrdiff_t>(index));
        kernel_.exit(*mm);
    }

    void share(Mm& mm) {
        MapRequest request;
        const std::uint64_t which = random_.below(kFiles);
        request.file = random_.one_in(12) ? nullptr : files_[which];
        // Mostly one place and one shape a file, so that ranges meet.
        request.address = place(random_.one_in(6) ? random_.below(8) : which);
        request.length = random_.one_in(6) ? (1 + random_.below(3)) * kPmdSize : 2 * kPmdSize;
        request.prot = random_.one_in(6) ? random_.below(4) : kRw;
        request.flags = (random_.one_in(12) ? kMapPrivate : kMapShared) | kMapSharedPt;
        if (!random_.one_in(6)) request.flags |= kMapFixed;
        if (random_.one_in(6)) request.flags |= kMapPopulate;
        if (random_.one_in(8)) request.offset = kPmdSize;
        if (random_.one_in(12)) request.file_writable = false;
        if (random_.one_in(8)) {  // pages that were touched before
            MapRequest before = request;
            before.flags = kMapShared | kMapFixed | kMapPopulate;
            (void)kernel_.mmap(mm, before);
        }
        (void)kernel_.mmap(mm, request);
    }

    void map(Mm& mm) {
        MapRequest request;
        request.file = random_.one_in(2) ? nullptr : files_[random_.below(kFiles)];
        request.address = anywhere();
        request.length = length();
        request.prot = random_.below(8);
        request.flags = random_.one_in(2) ? kMapPrivate : kMapShared;
        if (!random_.one_in(3)) request.flags |= kMapFixed;
        if (random_.one_in(6)) request.flags |= kMapPopulate;
        (void)kernel_.mmap(mm, request);
    }

    // A whole VMA goes.
    void leave(Mm& mm) {
        if (mm.vmas.empty()) return;
        auto it = mm.vmas.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random_.below(mm.vmas.size())));
        (void)kernel_.munmap(mm, it->second.start, it->second.bytes());
    }

    void touch(Mm& mm) {
        if (mm.vmas.empty()) return;
        auto it = mm.vmas.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random_.below(mm.vmas.size())));
        const std::uint64_t pages = it->second.bytes() >> kPageShift;
        const VirtAddr at = it->second.start + random_.below(pages) * kPageSize;
        const auto access = static_cast<Access>(random_.below(3));
        for (int tries = 0; tries < 4; ++tries) {
            const auto leaf = mm.table.leaf(at);
            if (leaf && leaf->pte.permits(access)) {
                tlb_[{mm.id, at}] = {leaf->frame_of(at), leaf->pte};
                return;
            }
            if (kernel_.fault(mm, at, access).is_fatal()) return;
        }
        CHECK(!"a fault that is served lets the access through");
    }

    VirtAddr place(std::uint64_t number) const {
        return kBase + number * std::max(unit_, kPmdSize);
    }
    VirtAddr anywhere() {
        return place(random_.below(8)) + random_.below(3) * kPmdSize +
               random_.below(8) * (random_.one_in(2) ? kPageSize : 64 * kPageSize);
    }
    std::uint64_t length() {
        static constexpr std::uint64_t kPagesOf[] = {1, 1, 2, 16, 100, 512, 512, 513, 1024};
        return kPagesOf[random_.below(std::size(kPagesOf))] * kPageSize;
    }

    // ---- Checks

    // The model of a TLB that loses nothing: what a flush does not cover stays in it.
    void carry_out_flushes() {
        for (const FlushRequest& request : kernel_.take_effects().flushes) {
            for (const FlushTarget& target : request.targets) {
                if (target.generation == 0) continue;
                const auto first =
                    tlb_.lower_bound({target.mm, align_down(target.start, kPageSize)});
                tlb_.erase(first, tlb_.lower_bound({target.mm, target.end}));
            }
        }
        // Some of what is left, from a place that moves.
        auto it = tlb_.lower_bound(looked_at_);
        for (int n = 0; n < 16 && !tlb_.empty(); ++n) {
            if (it == tlb_.end()) it = tlb_.begin();
            const auto& [mm, at] = it->first;
            const auto leaf = kernel_.find_mm(mm)->table.leaf(at);
            bool holds = leaf && leaf->frame_of(at) == it->second.frame;
            for (const Access access : {Access::Read, Access::Write, Access::Fetch}) {
                holds = holds && (leaf->pte.permits(access) || !it->second.pte.permits(access));
            }
            looked_at_ = it->first;
            if (holds) {
                ++it;
                continue;
            }
            ++stale_;
            it = tlb_.erase(it);
        }
        if (it != tlb_.end()) looked_at_ = it->first;
    }

    void audit_is_clean() {
        const auto problems = audit(kernel_);
        for (const std::string& problem : problems) CHECK_EQ(problem, "");
    }

    void nothing_is_left() {
        const FrameAllocator& frames = kernel_.frames();
        CHECK_EQ(frames.in_use(FrameUse::AnonPage), 0U);
        std::uint64_t leaked = 0;
        for (const auto& host : kernel_.hosts()) {
            CHECK(host->references != 0 && host->guests.empty());  // as rfc-v2 leaks them
            for (unsigned level = 0; level < kLevels; ++level) {
                leaked += host->mm.table.tables(static_cast<Level>(level));
            }
        }
        CHECK_EQ(frames.in_use(FrameUse::Table), leaked);
        if (kernel_.policy().name() != "rfc-v2") {
            CHECK_EQ(leaked, 0U);
            files_.clear();
            CHECK_EQ(frames.in_use(FrameUse::FilePage), 0U);
        }
    }

    struct Cached {
        Pfn frame;
        Pte pte;
    };

    FrameContents contents_;
    Kernel kernel_;
    Random random_;
    std::uint64_t unit_ = 0;
    std::vector<std::shared_ptr<File>> files_;
    std::vector<Mm*> mms_;  // alive; the kernel's
    std::map<std::pair<MmId, VirtAddr>, Cached> tlb_;
    std::pair<MmId, VirtAddr> looked_at_;
    std::uint64_t stale_ = 0;
    std::uint64_t out_of_memory_ = 0;
};

// The plain machine, and one where everything is different.
void under(const std::string& policy, const std::function<void(KernelConfig&)>& change = {},
           const std::function<void(Stress&)>& then = {}) {
    const std::uint64_t operations = from_environment("PTSHARE_OPERATIONS", 20'000);
    for (const bool other : {false, true}) {
        KernelConfig with = config(other ? 64 << 10 : kPageSize);
        with.memory_bytes = 512ULL << 20;
        with.levels = other ? 5 : 4;
        with.dirty_tracking = with.pt_reclaim = other;
        if (change) change(with);
        Stress stress(policy, with, from_environment("PTSHARE_SEED", 1) + (other ? 1000 : 0));
        stress.run(operations / 2);
        if (then) then(stress);
    }
}

}  // namespace

TEST(private_tables) {
    under("private", {}, [](Stress& run) { CHECK_EQ(run.stats().links, 0U); });
}

TEST(ptshare) {
    under("ptshare", {}, [](Stress& run) {
        CHECK(run.stats().links != 0);
        for (const Refusal reason : {Refusal::Private, Refusal::Address, Refusal::Protection}) {
            CHECK(run.stats().refusals[static_cast<unsigned>(reason)] != 0);
        }
    });
}

TEST(ptshare_with_pmd_tables) {
    under(
        "ptshare", [](KernelConfig& with) { with.share_level = Level::Pmd; },
        [](Stress& run) { CHECK(run.stats().links != 0); });
}

TEST(ptshare_with_pud_tables) {
    under(
        "ptshare", [](KernelConfig& with) { with.share_level = Level::Pud; },
        [](Stress& run) { CHECK(run.stats().links != 0); });
}

TEST(ptshare_at_any_address_and_anonymous) {
    under(
        "ptshare", [](KernelConfig& with) { with.share_any_address = with.share_anonymous = true; },
        [](Stress& run) { CHECK(run.stats().links != 0); });
}

TEST(mshare) {
    under("mshare", {}, [](Stress& run) { CHECK(run.stats().links != 0); });
}

TEST(rfc_v2) {
    under("rfc-v2", {}, [](Stress& run) {
        CHECK(run.stats().links != 0);
        CHECK(run.stats().fell_back != 0);
        CHECK(run.stale() != 0);
        CHECK(!run.kernel().hosts().empty());
    });
}

TEST(rfc_v2_with_flushes_that_reach_all) {
    under("rfc-v2", [](KernelConfig& with) { with.flush_strategy = FlushStrategy::Lazy; });
}

TEST(hugetlb_pmd) {
    under("hugetlb-pmd");
}

TEST(huge_2m) {
    under("huge-2m");
}
