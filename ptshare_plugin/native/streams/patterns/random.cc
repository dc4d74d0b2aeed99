#include "se_workloads/patterns/random.h"

#include <algorithm>

#include "streams/pattern.h"

namespace ptshare::engine {
namespace {

// Instructions of a round of its loop, as GCC 12 compiles the program.
constexpr std::uint64_t kRandomAccess = 11;

class Random final : public Pattern {
  public:
    Random(const PatternRequest& request, const ProgramPlaces&)
        : region_(request.region),
          words_(request.region_bytes / 8),
          limit_(random_limit(request.own)),
          state_(random_start(request.seed, request.rank)),
          left_(request.work) {}

    Then fill(Batch& batch) override {
        // A copy: the compiler cannot know that the batch is no part of this object.
        u64 state = state_;
        const u64 count = std::min<u64>(left_, Batch::kEnough);
        for (u64 i = 0; i < count; ++i) {
            state = random_next(state);
            const VirtAddr word = region_ + 8 * random_place(state, words_);
            StreamAccess& access = batch.accesses[i];
            access.address = word;
            access.size = 8;
            access.write = random_writes(state, limit_) != 0;
        }
        state_ = state;
        left_ -= count;
        batch.count = count;
        batch.instructions = count * kRandomAccess;
        return left_ != 0 ? Then::More : Then::End;
    }

  private:
    VirtAddr region_;
    u64 words_;
    u64 limit_;
    u64 state_;
    u64 left_;
};

const RegisterPattern kRegistered({"random", "--writes", Region::Mapped, make_as<Random>});

}  // namespace
}  // namespace ptshare::engine
