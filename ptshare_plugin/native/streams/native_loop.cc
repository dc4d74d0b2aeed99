#include "streams/native_loop.h"

#include <ctime>
#include <vector>

namespace ptshare::engine {

namespace {

double thread_seconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

NativeLoop native_loop(const std::string& name, const PatternRequest& request) {
    // Nothing lies at the program's places here: such accesses are left out below.
    const std::unique_ptr<Pattern> pattern = find_pattern(name).make(request, ProgramPlaces{});
    std::vector<std::uint64_t> memory(request.region_bytes / 8, 1);
    NativeLoop loop;
    Batch batch;
    const double begin = thread_seconds();
    for (auto then = Pattern::Then::More; then != Pattern::Then::End;) {
        batch.count = 0;
        batch.instructions = 0;
        then = pattern->fill(batch);
        for (std::size_t i = 0; i < batch.count; ++i) {
            const StreamAccess& access = batch.accesses[i];
            if (access.address < request.region) continue;
            std::uint64_t& word = memory[(access.address - request.region) / 8];
            if (access.write) {
                word = i;
            } else {
                loop.sum += word;
            }
            ++loop.accesses;
        }
    }
    loop.seconds = thread_seconds() - begin;
    return loop;
}

}  // namespace ptshare::engine
