// Recordings replayed: faults and tables of known streams, order between processes, what is shared.
#include "playback/playback.h"

#include <stdexcept>

#include "check.h"
#include "core/audit.h"
#include "parameters.h"
#include "written_streams.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

constexpr Word kAnonymous = kMapPrivate | kMapAnonymous, kShared = kMapShared | kMapAnonymous;
constexpr Word kArea = 0x10000000;  // a multiple of 2 MiB

std::unique_ptr<Playback> made(const std::string& policy, std::vector<Written*> streams,
                               PlaybackRequest request = {}, Values changes = {}) {
    changes.insert({{"sched.slice_instructions", Parameter(std::int64_t{2})},
                    {"sched.quantum_cycles", Parameter(std::int64_t{100000})},
                    {"cpu.frequency_mhz", Parameter(std::int64_t{1000})}});
    return std::make_unique<Playback>(small_machine(changes), policy, 2,
                                      std::make_unique<WrittenStreams>(std::move(streams)),
                                      std::move(request));
}

std::unique_ptr<Playback> played(const std::string& policy, std::vector<Written*> streams,
                                 PlaybackRequest request = {}, Values changes = {}) {
    auto playback = made(policy, std::move(streams), std::move(request), std::move(changes));
    while (!playback->step(100)) {
    }
    CHECK_EQ(audit(playback->machine().kernel()).size(), 0u);
    return playback;
}

const Counters& counters(const Playback& playback, std::size_t rank) {
    return playback.ranks().at(rank).counters;
}

// The ranks that made a mark, in order.
std::string marks(const Playback& playback) {
    std::string text;
    for (const Sample& sample : playback.samples()) {
        text += std::to_string(sample.mark) + "@" + std::to_string(sample.rank) + " ";
    }
    return text;
}

}  // namespace

TEST(a_process_faults_as_it_did) {
    Written one(7, 10);
    one.map(kArea, 4 * kPageSize, kAnonymous, 20);
    one.load(kArea).store(kArea).modify(kArea + kPageSize).store(kArea + 2 * kPageSize);
    one.end(30);
    const auto playback = played("private", {&one});
    CHECK_EQ(playback->instructions(), 4u);
    CHECK_EQ(playback->ranks()[0].pid, 7u);
    // Read: the zero page; then a copy of it. The others are one fault each, as writes.
    CHECK_EQ(counters(*playback, 0).faults_anon, 3u);
    CHECK_EQ(counters(*playback, 0).faults_cow, 1u);
    CHECK_EQ(counters(*playback, 0).syscalls, 1u);
    CHECK(playback->deviations()[0].empty());
}

TEST(a_child_shares_its_parents_pages_until_one_writes) {
    Written parent(7, 10);
    parent.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    Written child(8, 32, parent);
    parent.fork(8, 30, 35).load(kArea).end(60);
    child.load(kArea).store(kArea).end(50);
    const auto playback = played("private", {&parent, &child});
    CHECK_EQ(playback->ranks().size(), 2u);
    CHECK_EQ(counters(*playback, 1).faults_cow, 1u);
    CHECK_EQ(counters(*playback, 0).faults_anon, 1u);
    CHECK_EQ(counters(*playback, 0).faults_cow, 0u);
}

TEST(a_calls_return_waits_for_what_came_before_it) {
    // The child has long work before its mark; the parent's wait returns after it.
    Written parent(7, 10);
    parent.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    Written child(8, 32, parent);
    parent.fork(8, 30, 35).call(SYS_wait4, {}, 40).answer(SYS_wait4, 8, 90).mark(5, 91).end(95);
    for (int i = 0; i < 1000; ++i) child.load(kArea);
    child.mark(4, 70).end(80);
    const auto playback = played("private", {&parent, &child});
    CHECK_EQ(marks(*playback), "4@1 5@0 ");
    // The other way round when the recording was.
    Written first(7, 10);
    first.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    Written second(8, 32, first);
    first.fork(8, 30, 35);
    for (int i = 0; i < 1000; ++i) first.load(kArea);
    first.mark(5, 91).end(95);
    second.call(SYS_read, {}, 92).answer(SYS_read, 0, 93).mark(4, 94).end(96);
    CHECK_EQ(marks(*played("private", {&first, &second})), "5@0 4@1 ");
}

TEST(what_is_chosen_is_shared_and_what_cannot_be_says_why) {
    const auto streams = [](Written& parent, Written& child) {
        parent.fork(8, 30, 35).store(kArea).end(60);
        child.load(kArea).load(kArea + kPmdSize).end(50);
    };
    PlaybackRequest request;
    request.shared[{0, 21}] = {};
    {
        Written parent(7, 10);
        parent.map(kArea, 2 * kPmdSize, kShared, 20);
        Written child(8, 32, parent);
        streams(parent, child);
        const auto playback =
            played("ptshare", {&parent, &child}, request, {{"share.anonymous", true}});
        CHECK(playback->deviations()[0].empty());
        CHECK_EQ(playback->machine().kernel().stats().peak_hosts, 1u);
        CHECK_EQ(counters(*playback, 1).faults_anon, 0u);
    }
    {
        Written parent(7, 10);
        parent.map(kArea, 2 * kPmdSize, kShared, 20);
        Written child(8, 32, parent);
        streams(parent, child);
        const auto playback = played("ptshare", {&parent, &child}, request);
        CHECK_EQ(playback->machine().kernel().stats().peak_hosts, 0u);
        CHECK_EQ(playback->deviations()[0].size(), 1u);
        CHECK(playback->deviations()[0][0].what.find("share.anonymous") != std::string::npos);
        CHECK_EQ(playback->deviations()[0][0].address.value, kArea);
    }
}

TEST(a_chosen_area_moves_to_the_place_that_it_is_given) {
    constexpr Word kOdd = kArea + 5 * kPageSize;
    constexpr Word kPlace = 0x40000000;
    const auto run = [&](PlaybackRequest request) {
        Written parent(7, 10);
        parent.map_file(kOdd, kPmdSize, kMapShared, 3, 20).store(kOdd);
        Written child(8, 32, parent);
        parent.fork(8, 30, 35);
        parent.call(SYS_mprotect, {kOdd, kPageSize, 1}, 40).answer(SYS_mprotect, 0, 41);
        parent.call(SYS_munmap, {kOdd, kPmdSize}, 60).answer(SYS_munmap, 0, 61).end(70);
        child.load(kOdd).load(kOdd + kPmdSize - 8).end(50);
        return played("ptshare", {&parent, &child}, std::move(request));
    };
    PlaybackRequest request;
    request.shared[{0, 21}] = {};
    const auto refused = run(request);
    CHECK_EQ(refused->machine().kernel().stats().peak_hosts, 0u);
    CHECK_EQ(refused->deviations()[0].size(), 1u);
    request.shared[{0, 21}] = {VirtAddr(kPlace), 0};
    const auto moved = run(request);
    CHECK_EQ(moved->machine().kernel().stats().peak_hosts, 1u);
    CHECK(moved->deviations()[0].empty());
    CHECK(moved->deviations()[1].empty());
}

TEST(anonymous_memory_gets_2_mib_pages) {
    Written parent(7, 10);
    parent.map(kArea, 2 * kPmdSize, kShared, 20);
    Written child(8, 32, parent);
    parent.fork(8, 30, 35).store(kArea).end(60);
    child.load(kArea).load(kArea + kPmdSize).load(kArea + 5 * kPageSize).end(50);
    PlaybackRequest request;
    request.shared[{0, 21}] = {};
    const auto playback = played("huge-2m", {&parent, &child}, request);
    CHECK(playback->deviations()[0].empty());
    CHECK_EQ(counters(*playback, 1).faults_file, 3u);  // its code, too
    CHECK_EQ(playback->machine().kernel().stats().peak_rss_huge, 3 * kEntries);
}

TEST(a_moved_area_may_be_larger_and_goes_whole) {
    constexpr Word kPlace = 0x40000000;
    Written one(7, 10);
    one.map(kArea + kPageSize, 3 * kPageSize, kShared, 20).store(kArea + 3 * kPageSize);
    one.call(SYS_munmap, {kArea + kPageSize, 3 * kPageSize}, 30).answer(SYS_munmap, 0, 31);
    one.map(kPlace, kPageSize, kAnonymous, 40).store(kPlace).end(50);
    PlaybackRequest request;
    request.shared[{0, 21}] = {VirtAddr(kPlace), kPmdSize};
    const auto playback = played("ptshare", {&one}, request, {{"share.anonymous", true}});
    CHECK_EQ(playback->machine().kernel().stats().peak_hosts, 1u);
    CHECK(playback->deviations()[0].empty());
}

TEST(copies_run_later_and_their_parent_waits_for_them) {
    Written parent(7, 10);
    parent.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    Written child(8, 32, parent);
    parent.fork(8, 30, 35).mark(5, 60).end(61);
    child.store(kArea).mark(4, 40).end(50);
    PlaybackRequest request;
    request.copies = {{1, 100}, {1, 200}};
    const auto playback = played("private", {&parent, &child}, request);
    CHECK_EQ(marks(*playback), "4@1 5@0 4@2 4@3 ");
    CHECK_EQ(counters(*playback, 2).faults_cow, 1u);
    CHECK_EQ(counters(*playback, 3).faults_cow, 1u);
    CHECK_EQ(playback->streams()[3], 1u);
    // Nobody forks a process that starts by itself.
    Written alone(7, 10);
    alone.end(20);
    request.copies = {{0, 100}};
    CHECK_THROWS(made("private", {&alone}, request), std::invalid_argument, "no fork");
}

TEST(children_are_told_apart_though_the_later_one_began_first) {
    Written parent(7, 10);
    parent.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    Written first(8, 50, parent);
    Written second(9, 45, parent);
    parent.fork(8, 30, 35).fork(9, 40, 44).end(90);
    first.call(SYS_getpid, {}, 55).answer(SYS_getpid, 8, 56).mark(4, 60).end(61);
    second.call(SYS_getpid, {}, 65).answer(SYS_getpid, 9, 66).mark(5, 70).end(71);
    const auto playback = played("private", {&parent, &first, &second});
    CHECK_EQ(marks(*playback), "4@2 5@1 ");  // ranks are in the order of the streams' stamps
    CHECK_EQ(playback->ranks()[2].pid, 8u);
}

TEST(exec_begins_with_an_empty_address_space) {
    Written first(7, 10);
    first.map(kArea, kPageSize, kAnonymous, 20).store(kArea);
    first.call(SYS_execve, {}, 30);
    Written second(7, 40);
    second.map(kArea, kPageSize, kAnonymous, 50).store(kArea).end(60);
    const auto playback = played("private", {&first, &second});
    CHECK_EQ(playback->ranks().size(), 1u);
    CHECK_EQ(counters(*playback, 0).faults_anon, 2u);
    CHECK(playback->deviations()[0].empty());
    CHECK(playback->deviations()[1].empty());
}

TEST(what_differs_or_is_missing_is_told) {
    Written one(7, 10);
    one.map(kArea, kPageSize, kAnonymous, 20);
    one.store(kArea + kPageSize).store(kArea + 9 * kPageSize);
    const auto playback = played("private", {&one});
    const auto& told = playback->deviations()[0];
    CHECK_EQ(told.size(), 2u);
    CHECK_EQ(told[0].what, std::string("a store is fatal here"));
    CHECK_EQ(told[0].times, 2u);
    CHECK_EQ(told[0].address.value, kArea + kPageSize);
    CHECK_EQ(told[1].what, std::string("the recording is cut off here"));
    Written parent(7, 10);
    Written orphan(8, 32, parent);
    orphan.end(40);
    CHECK_THROWS(made("private", {&orphan}), std::runtime_error, "parent of process 8");
}

TEST(the_kernel_writes_what_came_when_the_call_returns) {
    Written one(7, 10);
    one.map(kArea, 4 * kPageSize, kAnonymous, 20);
    one.call(SYS_recvfrom, {3, kArea, 3 * kPageSize}, 30);
    one.event(PTSHARE_WRITES, 1, {kArea, 3 * kPageSize});
    one.answer(SYS_recvfrom, kPageSize + 1, 31);
    one.call(SYS_read, {3, kArea + 3 * kPageSize, 8}, 40);
    one.event(PTSHARE_WRITES, 1, {kArea + 3 * kPageSize, 8});
    one.answer(SYS_read, 8, 41).end(50);
    const auto playback = played("private", {&one});
    CHECK_EQ(counters(*playback, 0).faults_anon, 3u);
}

TEST(brk_and_attached_segments_are_mapped) {
    Written one(7, 10);
    one.event(PTSHARE_MAP, 3 | PTSHARE_MAP_HEAP, {0x800000, kPageSize, 0, 0, 0});
    one.call(SYS_brk, {0x803000}, 20).answer(SYS_brk, 0x803000, 21);
    one.store(0x802000);
    one.call(SYS_brk, {0x801000}, 22).answer(SYS_brk, 0x801000, 23);
    one.call(SYS_shmat, {5, 0, 0}, 30);
    one.event(PTSHARE_FILE, 1, {PTSHARE_SYSTEM_V, 5, 3 * kPageSize, 0});
    one.answer(SYS_shmat, kArea, 31).store(kArea + 2 * kPageSize);
    one.call(SYS_shmdt, {kArea}, 32).answer(SYS_shmdt, 0, 33);
    one.store(kArea).store(0x802000).end(40);
    const auto playback = played("private", {&one});
    const auto& told = playback->deviations()[0];
    CHECK_EQ(told.size(), 1u);
    CHECK_EQ(told[0].times, 2u);
}
