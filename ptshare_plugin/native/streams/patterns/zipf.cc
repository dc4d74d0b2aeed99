#include "se_workloads/patterns/zipf.h"

#include <array>

#include "streams/pattern.h"

namespace ptshare::engine {
namespace {

// Instructions of a round of its loop, as GCC 12 compiles the program.
constexpr std::uint64_t kZipfVisit = 62;

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

const RegisterPattern kRegistered({"zipf", "--writes", Region::Mapped, make_as<Zipf>});

}  // namespace
}  // namespace ptshare::engine
