#include "se_workloads/patterns/pingpong.h"

#include <algorithm>

#include "streams/patterns/words.h"

namespace ptshare::engine {
namespace {

class Pingpong final : public Pattern {
  public:
    Pingpong(const PatternRequest& request, const ProgramPlaces& places)
        : request_(request),
          places_(places),
          pages_(std::min(request.own, request.region_bytes >> kPageShift)) {}

    Then fill(Batch& batch) override {
        if (turn_ == request_.work) return Then::End;
        const bool mine = pingpong_writer(turn_, request_.procs) == request_.rank;
        for (; writing_ && mine && page_ < pages_; ++page_) {
            if (batch.count >= Batch::kEnough) return Then::More;
            store(batch, places_, word());
        }
        if (writing_) {
            writing_ = false;
            page_ = 0;
            return Then::Barrier;
        }
        for (; page_ < pages_; ++page_) {
            if (batch.count >= Batch::kEnough) return Then::More;
            verify(batch, places_, word());
        }
        writing_ = true;
        page_ = 0;
        ++turn_;
        return Then::Barrier;
    }

  private:
    VirtAddr word() const { return request_.region + (page_ << kPageShift) + pingpong_slot(turn_); }

    PatternRequest request_;
    ProgramPlaces places_;
    u64 pages_;
    u64 turn_ = 0;
    u64 page_ = 0;
    bool writing_ = true;
};

const RegisterPattern kRegistered({"pingpong", "--pages", Region::Mapped, make_as<Pingpong>});

}  // namespace
}  // namespace ptshare::engine
