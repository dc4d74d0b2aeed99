#include "se_workloads/patterns/protect.h"

#include <stdexcept>

#include "streams/patterns/words.h"

namespace ptshare::engine {
namespace {

// Instructions of a round of its loop, as GCC 12 compiles the program.
constexpr std::uint64_t kPiece = 30;

class Protect final : public Pattern {
  public:
    Protect(const PatternRequest& request, const ProgramPlaces& places)
        : request_(request),
          places_(places),
          pages_(request.region_bytes >> kPageShift),
          page_(request.rank) {}

    Then fill(Batch& batch) override {
        const bool writing = protect_writes(round_);
        switch (step_) {
            case Step::Change:
                if (round_ == request_.work) return Then::End;
                if (writing) return write(batch);
                return protect(batch, false);
            case Step::Store:
                batch.read(places_.options);
                batch.write(places_.stack);
                batch.call.kind = StreamCall::Kind::RefusedStore;
                batch.call.address = request_.region;
                step_ = Step::Changed;
                return Then::Call;
            case Step::Changed:
                step_ = Step::Read;
                page_ = 0;
                return Then::Barrier;
            case Step::Read:
                for (; page_ < pages_; ++page_) {
                    if (batch.count >= Batch::kEnough) return Then::More;
                    verify(batch, places_, request_.region + (page_ << kPageShift));
                }
                step_ = Step::Back;
                return Then::Barrier;
            case Step::Back:
                if (!writing) return protect(batch, true);
                return next_round();
        }
        throw std::logic_error("protect has no such step");
    }

  private:
    enum class Step { Change, Store, Changed, Read, Back };

    Then write(Batch& batch) {
        for (; page_ < pages_; page_ += request_.procs) {
            if (batch.count >= Batch::kEnough) return Then::More;
            store(batch, places_, request_.region + (page_ << kPageShift));
        }
        step_ = Step::Changed;
        return Then::More;
    }
    // Rank 0, one piece after the other; the others go on.
    Then protect(Batch& batch, bool writable) {
        if (request_.rank == 0 && at_ < request_.region_bytes) {
            batch.read(places_.options);
            batch.write(places_.stack);
            batch.instructions += kPiece;
            batch.call.kind = StreamCall::Kind::Protect;
            batch.call.address = request_.region + at_;
            batch.call.length = protect_length(at_, request_.own, request_.region_bytes);
            batch.call.writable = writable;
            at_ = protect_next(at_, request_.own);
            return Then::Call;
        }
        at_ = 0;
        if (writable) return next_round();
        step_ = request_.rank == 0 ? Step::Store : Step::Changed;
        return Then::More;
    }
    Then next_round() {
        step_ = Step::Change;
        page_ = request_.rank;
        ++round_;
        return Then::Barrier;
    }

    PatternRequest request_;
    ProgramPlaces places_;
    u64 pages_;
    u64 round_ = 0;
    u64 page_;
    u64 at_ = 0;  // of the next piece
    Step step_ = Step::Change;
};

const RegisterPattern kRegistered({"protect", "--piece", Region::Mapped, make_as<Protect>});

}  // namespace
}  // namespace ptshare::engine
