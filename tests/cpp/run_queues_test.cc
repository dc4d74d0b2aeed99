// Turns of threads on cores: who is next, for how long, and when a core idles.
#include "machine/run_queues.h"

#include "machine_world.h"

using namespace ptshare;
using namespace ptshare::engine;
using namespace ptshare::engine::test;

namespace {

constexpr std::uint64_t kQuantum = 1000;

struct Queues {
    explicit Queues(unsigned cores) : world("private", 0, cores), queues(world.machine, kQuantum) {}
    Thread thread(unsigned core) {
        Thread made;
        made.mm = &world.machine.kernel().create_mm();
        made.core = core;
        return made;
    }
    Core& core(unsigned id) { return world.machine.core(id); }

    World world;
    RunQueues queues;
};

}  // namespace

TEST(the_earliest_core_with_a_thread_is_next_and_the_lowest_of_equal_ones) {
    Queues q(3);
    Thread a = q.thread(1);
    Thread b = q.thread(2);
    CHECK(!q.queues.earliest());
    q.queues.add(b, 0);
    CHECK(q.queues.earliest() == &q.core(2));
    q.queues.add(a, 0);
    CHECK(q.queues.earliest() == &q.core(1));
    q.core(1).clock = 1;
    CHECK(q.queues.earliest() == &q.core(2));
    q.queues.remove(b);
    CHECK(q.queues.earliest() == &q.core(1));
    CHECK(!q.queues.front(q.core(2)));
}

TEST(a_core_with_nothing_to_run_idles_until_a_thread_is_added) {
    Queues q(1);
    Thread a = q.thread(0);
    Thread b = q.thread(0);
    q.queues.add(a, 70);
    CHECK_EQ(q.core(0).clock, 70U);
    CHECK_EQ(q.core(0).idle, 70U);
    q.queues.add(b, 500);  // it had the other one to run
    CHECK_EQ(q.core(0).clock, 70U);
    q.queues.remove(a);
    q.queues.remove(b);
    q.queues.add(a, 60);  // no time goes backwards
    CHECK_EQ(q.core(0).clock, 70U);
    CHECK_EQ(q.core(0).idle, 70U);
}

TEST(a_thread_gives_way_when_its_quantum_is_used_up) {
    Queues q(1);
    Core& core = q.core(0);
    Thread a = q.thread(0);
    Thread b = q.thread(0);
    q.queues.add(a, 0);
    q.queues.add(b, 0);
    CHECK(&q.queues.load(core) == &a);
    core.clock += kQuantum - 1;
    q.queues.end_slice(core);
    CHECK(&q.queues.load(core) == &a);
    CHECK_EQ(b.counters.switches, 0U);
    core.clock += 1;
    q.queues.end_slice(core);
    CHECK(&q.queues.load(core) == &b);
    // Its quantum begins behind the switch that it pays for.
    CHECK_EQ(b.counters.switches, 1U);
    CHECK_EQ(b.quantum_start, kQuantum + q.world.cost("switch"));
    q.queues.yield(core);
    CHECK(&q.queues.load(core) == &a);
}
