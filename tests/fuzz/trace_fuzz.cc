// libFuzzer's target for traces: what targets.py states of them, below Python. run.py builds it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/audit.h"
#include "parameters.h"
#include "streams/replay.h"
#include "streams/trace.h"

namespace {

using namespace ptshare;
using namespace ptshare::engine;

constexpr std::uint64_t kMostRecords = 20'000;
constexpr std::uint64_t kStep = 1 << 16;

void must(bool holds, const std::string& what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what.c_str());
    std::abort();
}

// A file in memory that has a path.
class Memory {
  public:
    Memory() : fd_(::memfd_create("trace", 0)) { must(fd_ >= 0, "no memfd"); }
    std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
    void hold(const std::uint8_t* data, std::size_t size) const {
        must(::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size),
             "memfd cannot be written");
    }

  private:
    int fd_;
};

// Whether `run` ended well; otherwise it threw what Python makes a UserError of one line of.
template <class Fn>
bool taken(const Fn& run) {
    try {
        run();
        return true;
    } catch (const std::runtime_error& error) {
        const std::string what = error.what();
        must(!what.empty(), "an error without words");
        for (const char c : what) must(c >= ' ' && c <= '~', "not one line of text: " + what);
        return false;
    }
}

struct Surveyed {
    std::uint64_t records = 0;
    std::uint64_t shared = 0;
    std::vector<AddressRange> ranges;

    bool operator==(const Surveyed& other) const {
        return records == other.records && shared == other.shared && ranges == other.ranges;
    }
};

Surveyed surveyed(const std::string& path, AddressRange share) {
    TraceSurvey survey(path, share);
    while (!survey.step(kStep)) {
    }
    return {survey.records(), survey.shared(), survey.ranges()};
}

void replay(const std::string& path, const Surveyed& found, AddressRange share) {
    const Parameter slice(std::int64_t{10'000});
    const Parameter quantum(std::int64_t{1'000'000});
    const Params machine = small_machine({{"cpu.frequency_mhz", slice},
                                          {"sched.slice_instructions", slice},
                                          {"sched.quantum_cycles", quantum}});
    Replay run(machine, "ptshare", 2, {path, found.ranges, share, true, 2, true});
    while (!run.step(kStep)) {
    }
    for (const std::string& wrong : audit(run.machine().kernel())) must(false, wrong);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Memory text;
    static const Memory binary;
    text.hold(data, size);
    const std::string path = text.path();
    Surveyed found;
    if (!taken([&] { found = surveyed(path, {}); })) return 0;
    const bool converted = taken([&] {
        TraceConversion conversion(path, binary.path());
        while (!conversion.step(kStep)) {
        }
    });
    if (converted) must(surveyed(binary.path(), {}) == found, "the binary form says other things");
    if (found.records == 0 || found.records > kMostRecords) return 0;
    taken([&] { replay(path, found, {}); });
    const VirtAddr first = align_down(found.ranges.back().first, kPmdSize);
    const AddressRange share{first, first + kPmdSize};
    if (first.value == 0) return 0;
    Surveyed with;
    if (taken([&] { with = surveyed(path, share); })) {
        must(with.records == found.records && with.shared != 0, "another trace with a share");
        taken([&] { replay(path, with, share); });
    }
    return 0;
}
