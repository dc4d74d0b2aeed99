// Accesses of the region of interest. Those to the region are exact. Of those to the program's own
// data and stack one stands for each change of page: more of them would hit the same entry.
#include "streams/stream_patterns.h"

#include <algorithm>
#include <stdexcept>

#include "se_workloads/patterns/churn.h"
#include "se_workloads/patterns/pingpong.h"
#include "se_workloads/patterns/protect.h"
#include "se_workloads/patterns/random.h"
#include "se_workloads/patterns/scan.h"
#include "se_workloads/patterns/zipf.h"

namespace ptshare::engine {

namespace {

// Instructions of a round of each loop, as GCC 12 compiles the programs.
constexpr std::uint64_t kRandomAccess = 11;
constexpr std::uint64_t kZipfVisit = 62;
constexpr std::uint64_t kScanLine = 14;
constexpr std::uint64_t kScanPage = 480;  // without its lines: the expected hash is computed
constexpr std::uint64_t kScanWrite = 35;
constexpr std::uint64_t kStore = 35;   // of churn, pingpong, protect
constexpr std::uint64_t kVerify = 50;  // the same: 38 to 56
constexpr std::uint64_t kPiece = 30;

// A word of the region gets its datum.
void store(Batch& batch, const ProgramPlaces& places, VirtAddr word) {
    batch.read(places.options);
    batch.write(word);
    batch.read(places.stack);
    batch.instructions += kStore;
}

// A word is read, and expect() compares it with what it should hold.
void verify(Batch& batch, const ProgramPlaces& places, VirtAddr word) {
    batch.read(places.options);
    batch.read(word);
    batch.write(places.stack);
    batch.instructions += kVerify;
}

class Random final : public Pattern {
  public:
    explicit Random(const PatternRequest& request)
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

class Zipf final : public Pattern {
  public:
    Zipf(const PatternRequest& request, const ProgramPlaces& places)
        : region_(request.region),
          places_(places),
          pages_(request.region_bytes >> kPageShift),
          log_pages_(zipf_log2(pages_)),
          slot_(zipf_slot(request.rank)),
          writes_(request.own),
          state_(zipf_start(request.seed, request.rank)),
          left_(request.work) {
        zipf_fill_powers(powers_.data());
    }

    Then fill(Batch& batch) override {
        while (left_ != 0 && batch.count < Batch::kEnough) {
            state_ = zipf_next(state_);
            const u64 rank = zipf_draw(powers_.data(), state_, log_pages_, pages_);
            const VirtAddr word = region_ + (zipf_page(rank, pages_) << kPageShift) + slot_;
            batch.read(places_.powers + 4 * zipf_fraction(zipf_exponent(state_, log_pages_)), 4);
            batch.read(places_.stack);
            batch.read(places_.options);
            batch.read(word);
            if (zipf_writes(state_, writes_)) batch.write(word);
            batch.read(places_.options);
            batch.instructions += kZipfVisit;
            --left_;
        }
        return left_ != 0 ? Then::More : Then::End;
    }

  private:
    VirtAddr region_;
    ProgramPlaces places_;
    u64 pages_;
    u64 log_pages_;
    u64 slot_;
    u64 writes_;
    u64 state_;
    u64 left_;
    std::array<u32, 1 << FRACTION_BITS> powers_{};
};

class Scan final : public Pattern {
  public:
    Scan(const PatternRequest& request, const ProgramPlaces& places)
        : region_(request.region),
          places_(places),
          pages_(request.region_bytes >> kPageShift),
          rank_(request.rank),
          procs_(request.procs),
          rounds_(request.work) {}

    Then fill(Batch& batch) override {
        // The last barrier is inside the region of interest.
        if (round_ == rounds_) return Then::End;
        if (!writing_) {
            if (page_ < pages_) {
                read_page(batch);
                return Then::More;
            }
            // All have read: the pages are written.
            writing_ = true;
            page_ = rank_;
            return Then::Barrier;
        }
        for (; page_ < pages_ && batch.count < Batch::kEnough; page_ += procs_) {
            batch.read(places_.options);
            batch.write(region_ + (page_ << kPageShift));
            batch.read(places_.options);
            batch.instructions += kScanWrite;
        }
        if (page_ < pages_) return Then::More;
        writing_ = false;
        page_ = 0;
        ++round_;
        return Then::Barrier;
    }

  private:
    void read_page(Batch& batch) {
        batch.read(places_.options);
        for (u64 i = 0; i < LINES_READ; ++i) {
            batch.read(region_ + (page_ << kPageShift) + scan_offset(i));
        }
        batch.write(places_.stack);
        batch.read(places_.options);
        batch.instructions += LINES_READ * kScanLine + kScanPage;
        ++page_;
    }

    VirtAddr region_;
    ProgramPlaces places_;
    u64 pages_;
    u64 rank_;
    u64 procs_;
    u64 rounds_;
    u64 round_ = 0;
    u64 page_ = 0;
    bool writing_ = false;
};

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

class Churn final : public Pattern {
  public:
    Churn(const PatternRequest& request, const ProgramPlaces& places)
        : request_(request),
          places_(places),
          pages_(std::min(request.own, request.region_bytes >> kPageShift)),
          stride_((request.region_bytes >> kPageShift) / pages_) {}

    Then fill(Batch& batch) override {
        const bool last = round_ + 1 == request_.work;
        switch (step_) {
            case Step::Come:
                if (turn_ == request_.procs) {
                    step_ = Step::Verify;
                    page_ = 0;
                    return Then::More;
                }
                if (turn_ != my_turn(0)) return end_turn();
                step_ = Step::Fill;
                page_ = request_.rank;
                return call(batch, StreamCall::Kind::Map);
            case Step::Fill:
                for (; page_ < pages_; page_ += request_.procs) {
                    if (batch.count >= Batch::kEnough) return Then::More;
                    store(batch, places_, word(round_));
                    verify(batch, places_, word(round_ + 1));
                }
                step_ = Step::Come;
                return end_turn();
            case Step::Verify:
                for (; page_ < pages_; ++page_) {
                    if (batch.count >= Batch::kEnough) return Then::More;
                    verify(batch, places_, word(round_));
                }
                step_ = Step::Verified;
                return last ? Then::Barrier : Then::More;
            case Step::Verified:
                if (last && churn_dies(request_.rank, request_.procs)) return Then::Killed;
                step_ = Step::Leave;
                turn_ = 0;
                return Then::More;
            case Step::Leave:
                if (turn_ == request_.procs) {
                    if (last) return Then::End;
                    step_ = Step::Come;
                    turn_ = 0;
                    ++round_;
                    return Then::More;
                }
                step_ = Step::Left;
                if (turn_ == my_turn(1)) return call(batch, StreamCall::Kind::Unmap);
                return Then::More;
            case Step::Left:
                batch.read(places_.options);
                if (last) {
                    step_ = Step::Leave;
                    ++turn_;
                    return Then::More;
                }
                step_ = Step::Stay;
                page_ = turn_;
                return Then::Barrier;
            case Step::Stay:
                for (; turn_ < my_turn(1) && page_ < pages_; page_ += request_.procs) {
                    if (batch.count >= Batch::kEnough) return Then::More;
                    verify(batch, places_, word(round_));
                }
                step_ = Step::Leave;
                ++turn_;
                return Then::More;
        }
        throw std::logic_error("churn has no such step");
    }

  private:
    enum class Step { Come, Fill, Verify, Verified, Leave, Left, Stay };

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

}  // namespace

std::vector<std::string> pattern_names() {
    return {"churn", "pingpong", "protect", "random", "scan", "zipf"};
}

std::unique_ptr<Pattern> make_pattern(const PatternRequest& request, const ProgramPlaces& places) {
    if (request.name == "churn") return std::make_unique<Churn>(request, places);
    if (request.name == "pingpong") return std::make_unique<Pingpong>(request, places);
    if (request.name == "protect") return std::make_unique<Protect>(request, places);
    if (request.name == "random") return std::make_unique<Random>(request);
    if (request.name == "scan") return std::make_unique<Scan>(request, places);
    if (request.name == "zipf") return std::make_unique<Zipf>(request, places);
    throw std::invalid_argument("there is no pattern " + request.name);
}

}  // namespace ptshare::engine
