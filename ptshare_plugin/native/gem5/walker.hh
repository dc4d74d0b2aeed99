// One CPU's translation caches and page walker. The walker reads tables from simulated memory with
// packets through its port: at once in atomic mode, several walks side by side in timing mode.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "arch/x86/pagetable_walker.hh"
#include "base/statistics.hh"
#include "mem/port.hh"
#include "params/PtshareWalker.hh"
#include "translation/translation_caches.h"

namespace ptshare::g5 {

using gem5::PtshareWalkerParams;

class Kernel;
class Tlb;
struct Task;

// Derived from gem5's walker because gem5's TLB asks for one; nothing of it but the type is used.
class Walker : public gem5::X86ISA::Walker {
  public:
    PARAMS(PtshareWalker);
    explicit Walker(const Params& p);

    engine::TranslationCaches& caches() { return caches_; }

    // A translation of a CPU that takes time.
    struct Waiter {
        Tlb* tlb;                                 // not owned, as is tc
        gem5::BaseMMU::Translation* translation;  // finish() ends it: it deletes itself
        gem5::RequestPtr req;
        gem5::ThreadContext* tc;
        gem5::BaseMMU::Mode mode;
    };

    // Where a TLB entry leads that may be stale, or is shared; none: the tables decide.
    std::optional<PhysAddr> held(const Task& task, VirtAddr address, Access access);
    engine::TranslationCaches::Lookup look_up(Task& task, VirtAddr address, Access access);
    // Finishes a translation after the second level's time, and a walk if `lookup` asks for one.
    void delay(Waiter waiter, Task& task, const engine::TranslationCaches::Lookup& lookup);
    // Atomic mode: a look-up and a walk, no time. False: a page fault.
    bool translate(Task& task, VirtAddr address, Access access, PhysAddr& physical);

    // The CPU's kernel, or a walk, has stored to a table: the line goes through the caches as that
    // of data does. Nobody waits for it, and memory has the entry already: no byte is written.
    void store(PhysAddr at);

    gem5::Port& getPort(const std::string& name, gem5::PortID id) override;
    gem5::DrainState drain() override;

  private:
    class ReadPort : public gem5::RequestPort {
      public:
        ReadPort(const std::string& name, Walker& walker)
            : gem5::RequestPort(name), walker_(walker) {}

      protected:
        bool recvTimingResp(gem5::PacketPtr pkt) override { return walker_.received(pkt); }
        void recvReqRetry() override { walker_.retry(); }

      private:
        Walker& walker_;  // whose port this is
    };

    // One walk; several translations of a page may wait for it.
    struct Walk {
        Walk(Task& t, VirtAddr a, Access x, std::uint64_t engine::Counters::*c)
            : task(&t), address(a), access(x), counter(c) {}

        Task* task;  // not owned
        VirtAddr address;
        Access access;
        std::uint64_t engine::Counters::*counter;  // that counts it when it begins
        Level level = Level::Pte;                  // of the entry that is read next
        Pfn table;
        PhysAddr at;  // that entry
        gem5::Tick begin = 0;
        std::vector<Waiter> waiters;
        bool sets_bits = false;  // A or D, at its end
    };
    struct WalkState : gem5::Packet::SenderState {
        explicit WalkState(std::list<Walk>::iterator w) : walk(w) {}
        std::list<Walk>::iterator walk;  // in walks_ until the response has come
    };
    using WalkRef = std::list<Walk>::iterator;

    // What a walk does after an entry was read.
    enum class Next { Read, Hit, Fault };
    Next step(Walk& walk, Pte entry, PhysAddr& physical);
    // The task's, with the tag of what lies at the address.
    engine::MmuContext context(const Task& task, VirtAddr address);
    void begin(Walk& walk);
    // Sets out from where the walk caches allow; again when the tables have changed.
    void descend(Walk& walk);
    gem5::PacketPtr make_read(Walk& walk);
    void count_read(Walk& walk, const gem5::PacketPtr& pkt);
    void count_end(Walk& walk, gem5::Tick ticks, bool hit);

    void request(Waiter waiter, Task& task, VirtAddr address, Access access,
                 std::uint64_t engine::Counters::*counter);
    void start(WalkRef walk);
    void start_waiting();
    void send_read(WalkRef walk);
    void send(gem5::PacketPtr pkt);
    bool received(gem5::PacketPtr pkt);
    void retry();
    void end(WalkRef walk, bool hit, PhysAddr physical);
    // One of unfinished_ is done.
    void finished();
    // What every translation that delay() took on comes to.
    void finish(const Waiter& waiter, bool hit, PhysAddr physical);
    void after(gem5::Cycles cycles, std::function<void()> work);

    Kernel& kernel_;  // not owned; made before the walker
    engine::TranslationCaches caches_;
    std::uint64_t step_cycles_;
    std::uint64_t lock_cycles_;
    unsigned max_walks_;
    std::vector<unsigned> places_;
    gem5::RequestorID requestor_;
    ReadPort port_;
    std::uint64_t unfinished_ = 0;         // translations that delay() took on, and stores
    std::list<Walk> walks_;                // under way
    std::list<Walk> waiting_;              // until there are fewer than max_walks_
    std::deque<gem5::PacketPtr> blocked_;  // the port refused them; owned until they are sent

    struct Statistics : public gem5::statistics::Group {
        explicit Statistics(gem5::statistics::Group* parent);
        gem5::statistics::Scalar walks;
        gem5::statistics::Scalar coalesced;
        gem5::statistics::Scalar squashed;
        gem5::statistics::Scalar restarted;
        gem5::statistics::Distribution latency;
    } statistics_;
};

}  // namespace ptshare::g5
