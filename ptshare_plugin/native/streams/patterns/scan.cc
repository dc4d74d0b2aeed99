#include "se_workloads/patterns/scan.h"

#include "streams/pattern.h"

namespace ptshare::engine {
namespace {

// Instructions of a round of each of its loops, as GCC 12 compiles the program.
constexpr std::uint64_t kScanLine = 14;
constexpr std::uint64_t kScanPage = 480;  // without its lines: the expected hash is computed
constexpr std::uint64_t kScanWrite = 35;

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

const RegisterPattern kRegistered({"scan", "", Region::Mapped, make_as<Scan>});

}  // namespace
}  // namespace ptshare::engine
