// Accesses of the region of interest. Those to the region are exact. Of those to the program's own
// data and stack one stands for each change of page: more of them would hit the same entry.
#include "engine/stream_patterns.h"

#include <algorithm>
#include <stdexcept>

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

class Random final : public Pattern {
  public:
    explicit Random(const PatternRequest& request)
        : region_(request.region),
          words_(request.region_bytes / 8),
          limit_(random_limit(request.writes)),
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
          writes_(request.writes),
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

}  // namespace

std::vector<std::string> pattern_names() {
    return {"random", "scan", "zipf"};
}

std::unique_ptr<Pattern> make_pattern(const PatternRequest& request, const ProgramPlaces& places) {
    if (request.name == "random") return std::make_unique<Random>(request);
    if (request.name == "scan") return std::make_unique<Scan>(request, places);
    if (request.name == "zipf") return std::make_unique<Zipf>(request, places);
    throw std::invalid_argument("there is no pattern " + request.name);
}

}  // namespace ptshare::engine
