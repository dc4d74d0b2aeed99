// A kernel saved and restored is the kernel that it was: every later call ends in the same state,
// byte by byte. Data that are no whole snapshot of such a kernel are refused.
#include "core/snapshot.h"

#include <cstdlib>
#include <sstream>

#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

namespace {

// Ends the program when it is called while it is closed.
class Guarded final : public FrameContents {
  public:
    bool closed = false;

    void zero(Pfn) override { called(); }
    void copy(Pfn, Pfn) override { called(); }
    void read_file(const File&, std::uint64_t, Pfn) override { called(); }
    void cut_file(const File&, std::uint64_t, Pfn) override { called(); }
    void released(Pfn) override { called(); }
    void zero_table(Pfn) override { called(); }
    void write_entry(PhysAddr, std::uint64_t) override { called(); }

  private:
    void called() const {
        if (closed) std::abort();
    }
};

constexpr std::uint64_t kData = 1;  // ids of files that the steps make
constexpr std::uint64_t kHeld = 2;
constexpr VirtAddr kHeap = kBase + 16 * kPmdSize;
constexpr VirtAddr kPrivateFile = kBase - 4 * kPmdSize;
constexpr VirtAddr kCarried = kBase + 8 * kPmdSize;
constexpr VirtAddr kAnonymousFile = kBase + 2 * kPudSize;

// A kernel and the files that its engine holds; everything else is named by its id.
struct Machine {
    explicit Machine(const std::string& policy, const KernelConfig& with)
        : kernel(with, make_policy(policy), contents) {}

    Mm& mm(std::uint64_t id) { return *kernel.find_mm(MmId(id)); }
    std::uint64_t map(std::uint64_t id, VirtAddr at, std::uint64_t pages, std::uint64_t prot,
                      std::uint64_t flags, std::uint64_t file = 0) {
        MapRequest request;
        request.address = at;
        request.length = pages * kPages;
        request.prot = prot;
        request.flags = flags | kMapFixed;
        if (file != 0) request.file = files.at(file);
        const MapResult result = kernel.mmap(mm(id), request);
        return result.ok() ? result.address.value : static_cast<std::uint64_t>(result.error);
    }
    // Accesses to each `stride`th page; the sum tells how the faults ended.
    std::uint64_t touch(std::uint64_t id, VirtAddr at, std::uint64_t pages, Access access,
                        std::uint64_t stride = 1) {
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < pages; i += stride) {
            const FaultResult result = kernel.fault(mm(id), at + i * kPages, access);
            sum = sum * 31 + static_cast<unsigned>(result.kind) + 16 * result.around +
                  (result.linked ? 8 : 0);
        }
        return sum;
    }
    std::uint64_t exit(std::uint64_t id) {
        kernel.exit(mm(id));
        return kernel.mms().size();
    }

    Guarded contents;
    Kernel kernel;
    FilesById files;  // go before the kernel
};

// Given what a machine ran so far, one more step and its answer. The first two processes are
// guests of a host under `ptshare`; the ids are those of the mms and differ from policy to policy,
// for a host has one too.
using Step = std::function<std::uint64_t(Machine&)>;
std::vector<Step> steps(const std::string& policy) {
    const std::uint64_t host = policy == "ptshare" ? 1 : 0;
    const std::uint64_t child = 3 + host;
    const std::uint64_t other = 4 + 2 * host;
    constexpr std::uint64_t shared_pt = kMapShared | kMapSharedPt;
    return {
        [](Machine& m) {
            m.files[kData] = m.kernel.create_file("data");
            m.files[kData]->resize(8 * kPmdSize);
            return m.files[kData]->id();
        },
        [](Machine& m) {
            m.files[kHeld] = m.kernel.create_file("held by the engine alone");
            m.files[kHeld]->resize(3 * kPages + 5);
            m.kernel.create_file("gone at once");
            return m.files[kHeld]->page(2).value;
        },
        [](Machine& m) { return m.kernel.create_mm().id.value; },
        [](Machine& m) { return m.kernel.create_mm().id.value; },
        // Guests of one host; what mprotect does to a part cuts the host's VMA.
        [](Machine& m) { return m.map(1, kBase, 1024, kRw, shared_pt, kData); },
        [](Machine& m) { return m.touch(1, kBase, 1024, Access::Write, 100); },
        [](Machine& m) { return m.map(2, kBase, 1024, kRw, shared_pt, kData); },
        [](Machine& m) { return m.touch(2, kBase, 512, Access::Read, 50); },
        [](Machine& m) {
            return static_cast<std::uint64_t>(
                m.kernel.mprotect(m.mm(1), kBase + 10 * kPages, 100 * kPages, kProtRead));
        },
        [](Machine& m) { return m.map(2, kBase, 3, kRw, shared_pt, kData); },  // refused
        // Private memory, of a file and of none; a heap; threads.
        [](Machine& m) { return m.map(1, kPrivateFile, 64, kRw, kMapPrivate, kData); },
        [](Machine& m) { return m.touch(1, kPrivateFile, 64, Access::Read, 20); },
        [](Machine& m) { return m.touch(1, kPrivateFile, 64, Access::Write, 7); },
        [](Machine& m) {
            m.mm(1).brk_start = m.mm(1).brk = kHeap;
            return m.kernel.brk(m.mm(1), kHeap + 20 * kPages + 100).value;
        },
        [](Machine& m) { return m.touch(1, kHeap, 20, Access::Write, 2); },
        [](Machine& m) { return m.touch(1, kHeap, 20, Access::Read); },
        [](Machine& m) {
            m.kernel.share_mm(m.mm(2));
            return std::uint64_t{m.mm(2).users};
        },
        // Copy on write after fork, on both sides.
        [](Machine& m) { return m.kernel.fork(m.mm(1)).id.value; },
        [=](Machine& m) { return m.touch(child, kHeap, 20, Access::Write, 3); },
        [](Machine& m) { return m.touch(1, kPrivateFile, 64, Access::Write, 3); },
        [=](Machine& m) { return m.touch(child, kBase, 1024, Access::Read, 60); },
        [](Machine& m) {
            m.kernel.take_effects();
            return std::uint64_t{0};
        },
        // A file that one mapping holds, and pages that are carried into a host's table.
        [](Machine& m) {
            return m.map(2, kAnonymousFile, 600, kRw, kMapShared | kMapAnonymous | kMapPopulate);
        },
        [](Machine& m) { return m.map(2, kCarried, 512, kRw, kMapShared, kHeld); },
        [](Machine& m) { return m.touch(2, kCarried, 4, Access::Read); },
        [](Machine& m) { return m.map(2, kCarried, 512, kRw, shared_pt, kHeld); },
        // Frames that are free again, in an order of their own, and taken again.
        [](Machine& m) { return m.kernel.create_mm().id.value; },
        [=](Machine& m) {
            return m.map(other, kHeap, 700, kRw, kMapPrivate | kMapAnonymous | kMapPopulate);
        },
        [=](Machine& m) {
            return static_cast<std::uint64_t>(
                m.kernel.munmap(m.mm(other), kHeap + 40 * kPages, 500 * kPages));
        },
        [](Machine& m) {
            return static_cast<std::uint64_t>(
                m.kernel.madvise(m.mm(1), kPrivateFile, 20 * kPages, 4));
        },
        [=](Machine& m) { return m.touch(other, kHeap, 40, Access::Write); },
        [](Machine& m) {
            m.kernel.truncate(*m.files.at(kData), kPmdSize + 3 * kPages + 7);
            return m.kernel.frames().in_use(FrameUse::FilePage);
        },
        [](Machine& m) {
            return static_cast<std::uint64_t>(m.kernel.mprotect(m.mm(1), kHeap, 4 * kPages, 0));
        },
        [=](Machine& m) { return m.exit(other); },
        [](Machine& m) { return m.kernel.fork(m.mm(2)).id.value; },
        [](Machine& m) { return m.kernel.take_effects().tables_freed; },  // some were seen
        [](Machine& m) { return m.touch(2, kBase, 600, Access::Write, 9); },
        [=](Machine& m) { return m.exit(child); },
        [](Machine& m) { return m.exit(2) + m.exit(2); },
        [](Machine& m) { return std::uint64_t{m.files.erase(kData)}; },
        [](Machine& m) { return m.exit(1); },
        [](Machine& m) { return m.kernel.create_file("after all").use_count() + 0ULL; },
    };
}

// What a kernel tells of itself: save() cannot vouch for what it forgets.
std::string told(Kernel& kernel) {
    std::ostringstream text;
    const auto counts = [&](const TableCounts& of) {
        for (const std::uint64_t n : of.by_level) text << n << ' ';
        text << of.by_owner[0] << ' ' << of.by_owner[1] << ' ' << of.region_pte << '\n';
    };
    const auto space = [&](const Mm& mm) {
        text << "mm " << mm.id.value << ' ' << mm.rss_file << ' ' << mm.rss_anon << ' '
             << mm.brk_start.value << ' ' << mm.brk.value << ' ' << mm.users << ' '
             << mm.tlb_generation << ' ' << mm.table.root().value;
        for (unsigned i = 0; i < kLevels; ++i) text << ' ' << mm.table.tables(Level(i));
        for (const auto& [start, vma] : mm.vmas) {
            text << "\n  " << start.value << ' ' << vma.end.value << ' ' << vma.flags << ' '
                 << (vma.file ? vma.file->name() : "none") << ' ' << vma.file_page << ' '
                 << (vma.host ? vma.host->mm.id.value : 0) << ' ' << vma.share_requested << ' '
                 << vma.anon_vma << vma.anon_inherited;
        }
        text << '\n';
    };
    for (const auto& [id, mm] : kernel.mms()) space(*mm);
    for (const auto& host : kernel.hosts()) {
        space(host->mm);
        text << host->start.value << ' ' << host->end.value << ' ' << host->flags << ' '
             << host->file->id() << ' ' << host->file_page;
        for (const Guest& guest : host->guests) {
            text << ", " << guest.mm.value << ' ' << guest.start.value;
        }
        text << '\n';
    }
    kernel.tables().for_each([&](Pfn pfn, const TablePage& page) {
        text << pfn.value << ' ' << page.frame.value << ' ' << page.owner->root().value << ' '
             << page.base.value << ' ' << index_of(page.level) << ' ' << page.occupied << ' '
             << page.region;
        for (const Pte entry : page.entries) text << ' ' << entry.bits();
        text << '\n';
    });
    counts(kernel.tables().counts());
    counts(kernel.tables().peak());
    text << kernel.tables().peak_region_pte() << ' ' << kernel.tables().allocated() << ' '
         << kernel.tables().freed() << '\n';
    const FrameAllocator& frames = kernel.frames();
    for (std::uint64_t i = 0; i < frames.high_water(); ++i) {
        text << static_cast<unsigned>(frames.use(Pfn(i))) << ' ' << frames.references(Pfn(i))
             << ' ';
    }
    for (unsigned i = 0; i < kFrameUses; ++i) text << frames.in_use(FrameUse(i)) << ' ';
    const KernelStats& stats = kernel.stats();
    for (const std::uint64_t n : stats.refusals) text << n << ' ';
    text << stats.links << ' ' << stats.carried_pages << ' ' << stats.peak_hosts << ' '
         << stats.peak_rss_file << ' ' << stats.peak_rss_anon << ' ' << kernel.zero_page().value;
    return text.str();
}
std::string told(const Effects& effects) {
    std::ostringstream text;
    text << effects.tables_allocated << ' ' << effects.tables_freed << ' ' << effects.ptes_changed
         << ' ' << effects.ptes_copied;
    for (const FlushRequest& request : effects.flushes) {
        text << '\n'
             << request.tables_freed << ' ' << request.host.value << ' ' << request.caller.value
             << ' ' << name_of(request.strategy) << ' ' << request.host_start.value << ' '
             << request.host_generation;
        for (const FlushTarget& target : request.targets) {
            text << ' ' << target.mm.value << ' ' << target.start.value << ' ' << target.end.value
                 << ' ' << target.generation;
        }
    }
    return text.str();
}

std::string saved(const Kernel& kernel) {
    std::ostringstream to;
    save(kernel, to);
    return to.str();
}
// With the files that the engine of the other machine held.
void restore_to(Machine& machine, const std::string& data, const FilesById& held = {}) {
    std::istringstream from(data);
    machine.contents.closed = true;
    const FilesById files = restore(machine.kernel, from);
    machine.contents.closed = false;
    for (const auto& [id, file] : held) machine.files[id] = files.at(id);
}

// A kernel in the midst of everything.
std::string example(const std::string& policy, std::size_t count = 34) {
    Machine machine(policy, config(64 << 10));
    const std::vector<Step> all = steps(policy);
    for (std::size_t i = 0; i < count; ++i) all[i](machine);
    return saved(machine.kernel);
}

constexpr std::size_t kHead = 28;  // magic, version, length, checksum
void put(std::string& data, std::size_t at, std::uint64_t value) {
    for (unsigned i = 0; i < 8; ++i) data[at + i] = static_cast<char>(value >> (8 * i));
}
// Given a body, data whose length and checksum are right.
std::string sealed(std::string data) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (std::size_t i = kHead; i < data.size(); ++i) {
        hash = (hash ^ static_cast<unsigned char>(data[i])) * 0x100000001b3ULL;
    }
    put(data, 12, data.size() - kHead);
    put(data, 20, hash);
    return data;
}
// "" when it could be restored, else the message; either way the kernel is destroyed afterwards.
std::string refusal(const std::string& data, const std::string& policy = "ptshare",
                    const KernelConfig& with = config(64 << 10)) {
    Machine machine(policy, with);
    try {
        restore_to(machine, data);
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    CHECK_EQ(audit(machine.kernel).size(), 0U);
    return "";
}
bool contains(const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST(a_restored_kernel_goes_on_as_the_saved_one_from_any_point) {
    for (const char* policy : {"private", "ptshare"}) {
        for (const unsigned levels : {4U, 5U}) {
            KernelConfig with = config(64 << 10);
            with.levels = levels;
            with.dirty_tracking = levels == 5;
            const std::vector<Step> all = steps(policy);
            for (std::size_t cut = 0; cut <= all.size(); ++cut) {
                // Given a kernel after some steps,
                Machine original(policy, with);
                for (std::size_t i = 0; i < cut; ++i) all[i](original);
                // when it is saved and restored
                const std::string data = saved(original.kernel);
                Machine copy(policy, with);
                restore_to(copy, data, original.files);
                // then the copy is the same, and stays so.
                CHECK_EQ(audit(copy.kernel).size(), 0U);
                CHECK(saved(copy.kernel) == data);
                CHECK(saved(original.kernel) == data);
                CHECK(told(copy.kernel) == told(original.kernel));
                for (std::size_t i = cut; i < all.size(); ++i) {
                    CHECK_EQ(all[i](copy), all[i](original));
                    CHECK_EQ(audit(copy.kernel).size(), 0U);
                    CHECK(saved(copy.kernel) == saved(original.kernel));
                }
                CHECK(told(copy.kernel) == told(original.kernel));
                CHECK_EQ(told(copy.kernel.take_effects()), told(original.kernel.take_effects()));
                for (Machine* machine : {&original, &copy}) {
                    while (!machine->kernel.mms().empty()) {
                        machine->kernel.exit(*machine->kernel.mms().begin()->second);
                    }
                    CHECK_EQ(machine->kernel.frames().in_use(FrameUse::Table), 0U);
                    CHECK_EQ(machine->kernel.frames().in_use(FrameUse::AnonPage), 0U);
                }
            }
        }
    }
}

TEST(the_steps_lead_where_snapshots_are_hard) {
    Machine m("ptshare", config(64 << 10));
    const std::vector<Step> all = steps("ptshare");
    for (std::size_t i = 0; i < 34; ++i) all[i](m);
    const Kernel& kernel = m.kernel;
    CHECK_EQ(kernel.mms().size(), 3U);
    CHECK_EQ(kernel.hosts().size(), 2U);
    CHECK_EQ(kernel.hosts()[0]->guests.size(), 3U);
    CHECK(kernel.hosts()[0]->mm.vmas.size() > 1);
    CHECK_EQ(kernel.stats().carried_pages, 4U);
    CHECK(kernel.stats().links > 0);
    CHECK_EQ(kernel.mms().at(MmId(2))->users, 2U);
    CHECK(m.mm(1).rss_anon > 0 && m.mm(1).rss_file > 0);
    std::uint64_t shared = 0;
    std::uint64_t free = 0;
    for (std::uint64_t i = 0; i < kernel.frames().high_water(); ++i) {
        shared += kernel.frames().references(Pfn(i)) > 1 ? 1 : 0;
        free += kernel.frames().use(Pfn(i)) == FrameUse::Free ? 1 : 0;
    }
    CHECK(shared > 0);
    CHECK(free > 100);
    CHECK_EQ(kernel.files().size(), 4U);
    CHECK(kernel.files()[2].expired());
    CHECK(m.kernel.take_effects().flushes.size() > 1);
}

TEST(files_live_on_with_those_who_hold_them) {
    // Given a file that its engine holds, one that a mapping holds and one that is gone,
    Machine original("ptshare", config());
    const std::vector<Step> all = steps("ptshare");
    for (std::size_t i = 0; i < 5; ++i) all[i](original);
    const std::string data = saved(original.kernel);
    // when the kernel is restored
    Machine copy("ptshare", config());
    std::istringstream from(data + "what follows");
    {
        FilesById files = restore(copy.kernel, from);
        // then the answer has the first two, with names, sizes and pages,
        CHECK_EQ(files.size(), 2U);
        CHECK_EQ(files.at(kHeld)->name(), "held by the engine alone");
        CHECK_EQ(files.at(kHeld)->size(), 3 * kPages + 5);
        CHECK(files.at(kHeld)->cached(2) == original.files.at(kHeld)->cached(2));
        CHECK(copy.kernel.frames().in_use(FrameUse::FilePage) > 0);
    }
    // and what nobody took is gone, but not the mapping's.
    CHECK_EQ(copy.kernel.frames().in_use(FrameUse::FilePage), 0U);
    CHECK_EQ(audit(copy.kernel).size(), 0U);
    CHECK(copy.mm(1).vmas.begin()->second.file->id() == kData);
    CHECK_EQ(copy.kernel.create_file("next")->id(), 4U);
    // What stands behind the snapshot is left alone.
    std::string rest;
    std::getline(from, rest);
    CHECK_EQ(rest, "what follows");
}

TEST(snapshots_of_another_machine_name_both_sides) {
    const std::string data = example("ptshare");
    CHECK_EQ(refusal(data), "");
    CHECK_EQ(refusal(data, "private"),
             "snapshot: made with policy ptshare, but this kernel has private");
    const auto with = [&](void (*change)(KernelConfig&)) {
        KernelConfig changed = config(64 << 10);
        change(changed);
        return refusal(data, "ptshare", changed);
    };
    CHECK_EQ(with([](KernelConfig& c) { c.memory_bytes = 128ULL << 20; }),
             "snapshot: made with memory_bytes 268435456, but this kernel has 134217728");
    CHECK_EQ(with([](KernelConfig& c) { c.levels = 5; }),
             "snapshot: made with levels 4, but this kernel has 5");
    CHECK_EQ(with([](KernelConfig& c) { c.fault_around_bytes = kPages; }),
             "snapshot: made with fault_around_bytes 65536, but this kernel has 4096");
    CHECK_EQ(with([](KernelConfig& c) { c.dirty_tracking = true; }),
             "snapshot: made with dirty_tracking 0, but this kernel has 1");
    CHECK_EQ(with([](KernelConfig& c) { c.first_frame = 7; }),
             "snapshot: made with first_frame 1, but this kernel has 7");
    std::string newer = data;
    newer[8] = 9;
    CHECK_EQ(refusal(newer), "snapshot: its format is version 9, this program reads version 6");
    CHECK_EQ(refusal("#!/bin/sh\necho hello\n"),
             "snapshot: these data are none of a ptshare kernel");
}

TEST(only_a_new_kernel_can_be_restored) {
    const std::string data = example("ptshare");
    Machine used("ptshare", config(64 << 10));
    used.kernel.exit(used.kernel.create_mm());
    std::istringstream from(data);
    CHECK_THROWS(restore(used.kernel, from), std::logic_error, "has run");
}

TEST(data_that_are_cut_short_are_refused) {
    const std::string data = example("ptshare");
    for (std::size_t n = 0; n < data.size(); n += n < 200 ? 1 : 211) {
        CHECK_EQ(refusal(data.substr(0, n)), "snapshot: truncated");
    }
    // Also when length and checksum are those of what is left.
    for (std::size_t n = kHead; n < data.size(); n += n < 1000 ? 1 : 211) {
        CHECK(contains(refusal(sealed(data.substr(0, n))), "snapshot: damaged"));
    }
    CHECK_EQ(refusal(sealed(data + '\0')), "snapshot: damaged: it goes on after its end");
}

TEST(a_flipped_bit_is_found) {
    const std::string data = example("ptshare");
    for (std::size_t at = 0; at < data.size(); at += at < 200 ? 1 : 97) {
        std::string flipped = data;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
        CHECK(contains(refusal(flipped), "snapshot: "));
    }
}

TEST(wrong_contents_under_a_right_checksum_break_nothing) {
    // Some change nothing that a recount could find (a peak): those are restored, soundly.
    std::size_t refused = 0;
    std::size_t tried = 0;
    for (const std::size_t count : {8U, 20U, 34U}) {
        const std::string data = example("ptshare", count);
        for (std::size_t at = kHead; at < data.size(); at += 1 + data.size() / 3000, ++tried) {
            std::string wrong = data;
            wrong[at] = static_cast<char>(wrong[at] ^ (1 << (at % 8)));
            if (refusal(sealed(wrong)) != "") ++refused;
        }
    }
    CHECK(refused > tried / 2);
    CHECK(refused < tried);
}

TEST(wrong_contents_of_shared_pmd_tables_break_nothing) {
    Machine machine("hugetlb-pmd", config(64 << 10));
    machine.files[kData] = machine.kernel.create_file("data");
    CHECK(machine.kernel.truncate(*machine.files[kData], kPudSize) == Errno::Ok);
    for (int i = 0; i < 3; ++i) machine.kernel.create_mm();
    for (std::uint64_t id = 1; id <= 3; ++id) {
        machine.map(id, kBase, kPudSize / kPages, kRw, kPtFile, kData);
        machine.touch(id, kBase, 3 * kEntries, Access::Write, kEntries);
    }
    CHECK(machine.kernel.mprotect(machine.mm(3), kBase, kPmdSize, kProtRead) == Errno::Ok);
    machine.touch(3, kBase, kEntries, Access::Read, kEntries);
    CHECK(machine.kernel.truncate(*machine.files[kData], 2 * kPmdSize) == Errno::Ok);
    machine.touch(1, kBase, kEntries, Access::Read, kEntries);
    const std::string data = saved(machine.kernel);
    CHECK_EQ(refusal(data, "hugetlb-pmd"), "");
    std::size_t refused = 0;
    std::size_t tried = 0;
    for (std::size_t at = kHead; at < data.size(); at += 1 + data.size() / 3000, ++tried) {
        std::string wrong = data;
        wrong[at] = static_cast<char>(wrong[at] ^ (1 << (at % 8)));
        if (refusal(sealed(wrong), "hugetlb-pmd") != "") ++refused;
    }
    // Everything after the frames and the page cache, densely.
    for (std::size_t at = data.size() - 1500; at < data.size(); ++at, ++tried) {
        std::string wrong = data;
        wrong[at] = static_cast<char>(wrong[at] ^ (1 << (at % 8)));
        if (refusal(sealed(wrong), "hugetlb-pmd") != "") ++refused;
    }
    CHECK(refused > tried / 2);
    CHECK(refused < tried);
}

TEST(a_stream_that_takes_nothing_is_an_error) {
    Machine machine("ptshare", config());
    std::ostringstream full;
    full.setstate(std::ios::badbit);
    CHECK_THROWS(save(machine.kernel, full), std::runtime_error, "cannot be written");
}
