#include "se_workloads/patterns/churn.h"

#include <algorithm>
#include <stdexcept>

#include "streams/patterns/words.h"

namespace ptshare::engine {
namespace {

class Churn final : public Pattern {
  public:
    Churn(const PatternRequest& request, const ProgramPlaces& places)
        : request_(request),
          places_(places),
          pages_(std::min(request.own, request.region_bytes >> kPageShift)),
          stride_((request.region_bytes >> kPageShift) / pages_) {}

    Then fill(Batch& batch) override {
        switch (step_) {
            case Step::Come:
                return come(batch);
            case Step::Fill:
                return fill_pages(batch);
            case Step::Verify:
                return verify_pages(batch);
            case Step::Verified:
                if (last() && churn_dies(request_.rank, request_.procs)) return Then::Killed;
                step_ = Step::Leave;
                turn_ = 0;
                return Then::More;
            case Step::Leave:
                return leave(batch);
            case Step::Left:
                return left(batch);
            case Step::Stay:
                return stay(batch);
        }
        throw std::logic_error("churn has no such step");
    }

  private:
    enum class Step { Come, Fill, Verify, Verified, Leave, Left, Stay };

    Then come(Batch& batch) {
        if (turn_ == request_.procs) {
            step_ = Step::Verify;
            page_ = 0;
            return Then::More;
        }
        if (turn_ != my_turn(0)) return end_turn();
        step_ = Step::Fill;
        page_ = request_.rank;
        return call(batch, StreamCall::Kind::Map);
    }
    Then fill_pages(Batch& batch) {
        for (; page_ < pages_; page_ += request_.procs) {
            if (batch.count >= Batch::kEnough) return Then::More;
            store(batch, places_, word(round_));
            verify(batch, places_, word(round_ + 1));
        }
        step_ = Step::Come;
        return end_turn();
    }
    Then verify_pages(Batch& batch) {
        for (; page_ < pages_; ++page_) {
            if (batch.count >= Batch::kEnough) return Then::More;
            verify(batch, places_, word(round_));
        }
        step_ = Step::Verified;
        return last() ? Then::Barrier : Then::More;
    }
    Then leave(Batch& batch) {
        if (turn_ == request_.procs) {
            if (last()) return Then::End;
            step_ = Step::Come;
            turn_ = 0;
            ++round_;
            return Then::More;
        }
        step_ = Step::Left;
        if (turn_ == my_turn(1)) return call(batch, StreamCall::Kind::Unmap);
        return Then::More;
    }
    Then left(Batch& batch) {
        batch.read(places_.options);
        if (last()) {
            step_ = Step::Leave;
            ++turn_;
            return Then::More;
        }
        step_ = Step::Stay;
        page_ = turn_;
        return Then::Barrier;
    }
    Then stay(Batch& batch) {
        for (; turn_ < my_turn(1) && page_ < pages_; page_ += request_.procs) {
            if (batch.count >= Batch::kEnough) return Then::More;
            verify(batch, places_, word(round_));
        }
        step_ = Step::Leave;
        ++turn_;
        return Then::More;
    }

    bool last() const { return round_ + 1 == request_.work; }
    u64 my_turn(u64 half) const {
        return churn_turn(request_.seed, request_.rank, request_.procs, round_, half);
    }
    VirtAddr word(u64 round) const {
        return request_.region + (page_ * stride_ << kPageShift) + churn_slot(round);
    }
    Then end_turn() {
        ++turn_;
        return Then::Barrier;
    }
    Then call(Batch& batch, StreamCall::Kind kind) {
        batch.read(places_.options);
        batch.write(places_.stack);
        batch.call.kind = kind;
        return Then::Call;
    }

    PatternRequest request_;
    ProgramPlaces places_;
    u64 pages_;
    u64 stride_;
    u64 round_ = 0;
    u64 turn_ = 0;
    u64 page_ = 0;
    Step step_ = Step::Come;
};

const RegisterPattern kRegistered({"churn", "--pages", Region::MapsItself, make_as<Churn>});

}  // namespace
}  // namespace ptshare::engine
