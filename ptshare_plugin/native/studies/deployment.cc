#include "studies/deployment.h"

#include <sys/syscall.h>

#include <algorithm>
#include <stdexcept>

#include "accounting/kernel_config.h"
#include "streams/pattern.h"
#include "streams/refusal.h"

namespace ptshare::engine {

namespace {

// Databases map their shared memory at one address in all processes. Aligned for every level that
// can be shared, far below what mmap gives out.
constexpr VirtAddr kAddress(1ULL << 46);
// Touched between two looks at whether to stop; a multiple of what any table translates at once.
constexpr std::uint64_t kPiece = 64ULL << 30;

}  // namespace

Deployment::Deployment(const Params& params, const std::string& policy, std::uint64_t region_bytes)
    : costs_(params),
      shootdowns_(params, costs_),
      caches_(params),
      region_bytes_(region_bytes),
      kernel_(kernel_config(params), make_policy(policy), contents_),
      file_(kernel_.create_file("region")) {
    file_->resize(region_bytes);
}

void Deployment::make_resident() {
    file_->read_ahead(file_->pages());
}

void Deployment::attach(std::uint64_t own_pages) {
    Mm& mm = kernel_.create_mm();
    MapRequest request;
    request.address = kAddress;
    request.length = region_bytes_;
    request.prot = kProtRead | kProtWrite;
    request.flags = kMapShared | kMapSharedPt;
    request.file = file_;
    const VirtAddr region = map_or_say(kernel_, mm, request, "the region");
    kernel_.frames().allocate_many(FrameUse::Reserved, own_pages);
    clients_.push_back({mm.id, region});
}

void Deployment::go_on() const {
    if (stopped_) throw std::runtime_error("stopped");
}

void Deployment::access(std::size_t client, std::uint64_t offset, std::uint64_t length,
                        bool write) {
    const Client& who = clients_.at(client);
    if (offset > region_bytes_ || length > region_bytes_ - offset) {
        throw std::invalid_argument("an access beyond the region");
    }
    for (std::uint64_t done = 0; done < length; done += kPiece) {
        go_on();
        const VirtAddr from = who.region + (offset + done);
        const std::uint64_t piece = std::min(kPiece, length - done);
        count(kernel_.touch(mm_of(who), from, piece, write ? Access::Write : Access::Read),
              from + piece);
    }
}

void Deployment::count(const TouchResult& result, VirtAddr end) {
    faults_.add(result);
    for (const FaultKind kind : kFaultKinds) {
        const std::uint64_t times = result.faults[static_cast<unsigned>(kind)];
        if (times != 0) fault_cycles_ += times * costs_.fault(FaultResult{kind});
    }
    fault_cycles_ += result.linked * costs_.fault_link + result.around * costs_.fault_around;
    if (result.reached < end) throw std::runtime_error("an access of a client ends in a signal");
}

void Deployment::charge_tables() {
    fault_cycles_ += costs_.effects(kernel_.take_effects());
}

void Deployment::touch(std::size_t client, std::uint64_t offset, std::uint64_t length, bool write) {
    access(client, offset, length, write);
    charge_tables();
}

void Deployment::touch_spread(std::size_t client, std::uint64_t pages, bool write) {
    const std::uint64_t all = region_bytes_ >> kPageShift;
    if (pages > all) throw std::invalid_argument("more pages than the region has");
    go_on();
    if (!spread_ || spread_pages_ != pages) {
        spread_.emplace(all);
        spread_pages_ = pages;
        // page i lies at floor(i * all / pages), without a product that overflows.
        const std::uint64_t whole = pages == 0 ? 0 : all / pages;
        const std::uint64_t part = pages == 0 ? 0 : all % pages;
        std::uint64_t page = 0, remainder = 0;
        for (std::uint64_t i = 0; i < pages; ++i) {
            spread_->add(page);
            page += whole;
            remainder += part;
            if (remainder >= pages) {
                remainder -= pages;
                ++page;
            }
        }
    }
    const Client& who = clients_.at(client);
    const Access access = write ? Access::Write : Access::Read;
    count(kernel_.touch(mm_of(who), who.region, *spread_, access), who.region + region_bytes_);
    kernel_.compact(mm_of(who));
    charge_tables();
}

void Deployment::visit(std::size_t client, std::uint64_t visits, std::uint64_t seed, bool write) {
    PatternRequest request;
    request.region_bytes = region_bytes_;
    // The program's own places lie beyond, and are no part of this.
    ProgramPlaces beyond;
    beyond.options = beyond.powers = beyond.stack = VirtAddr(region_bytes_);
    request.rank = client;
    request.seed = seed;
    request.work = visits;
    const auto pattern = find_pattern("zipf").make(request, beyond);
    for (auto then = Pattern::Then::More; then != Pattern::Then::End;) {
        Batch batch;
        then = pattern->fill(batch);
        for (std::size_t i = 0; i < batch.count; ++i) {
            const std::uint64_t offset = batch.accesses[i].address.value;
            if (offset < region_bytes_) {
                access(client, offset & ~(kPageSize - 1), kPageSize, write);
            }
        }
    }
    kernel_.compact(mm_of(clients_.at(client)));
    charge_tables();
}

Protection Deployment::protect(std::size_t client, std::uint64_t prot, std::uint64_t cpus) {
    go_on();
    const Client& who = clients_.at(client);
    charge_tables();
    const Errno error = kernel_.mprotect(mm_of(who), who.region, region_bytes_, prot);
    if (error != Errno::Ok) {
        throw std::runtime_error("mprotect of the region fails with error " +
                                 std::to_string(static_cast<int>(error)));
    }
    const Effects effects = kernel_.take_effects();
    Protection done;
    done.calls = 1;
    done.ptes_changed = effects.ptes_changed;
    done.flushes = effects.flushes.size();
    done.cycles = costs_.syscall + costs_.memory_call(SYS_mprotect) + costs_.effects(effects);
    for (const FlushRequest& request : effects.flushes) shoot_down(client, request, cpus, done);
    return done;
}

void Deployment::shoot_down(std::size_t client, const FlushRequest& request, std::uint64_t cpus,
                            Protection& done) {
    std::vector<Asids> asids(cpus, Asids(1));
    std::vector<Counters> counters(cpus);
    std::vector<Shootdowns::Cpu> all(cpus);
    for (std::size_t i = 0; i < cpus; ++i) {
        const bool busy = i < clients_.size();
        if (busy) asids[i].load(clients_[(client + i) % clients_.size()].mm, 0);
        all[i] = {&asids[i], &caches_, busy ? &counters[i] : nullptr, false};
    }
    done.cycles += shootdowns_.carry_out(request, counters[0], all, kernel_, 0) + all[0].cycles;
    done.interrupts += counters[0].shootdown_ipis;
    for (std::size_t i = 1; i < cpus; ++i) done.cycles_other += all[i].cycles;
}

std::uint64_t Deployment::write_protected() const {
    std::uint64_t found = 0;
    for (const Client& client : clients_) {
        const auto leaf = kernel_.mms().at(client.mm)->table.leaf(client.region);
        if (leaf && !leaf->pte.writable()) ++found;
    }
    return found;
}

std::array<std::array<std::uint64_t, kLevels>, 2> Deployment::tables() const {
    std::array<std::array<std::uint64_t, kLevels>, 2> sums{};
    const auto add = [&](const Mm& mm, Owner owner) {
        for (unsigned i = 0; i < kLevels; ++i) {
            const auto level = static_cast<Level>(i);
            const Level name = kernel_name(level, mm.table.levels());
            sums[static_cast<unsigned>(owner)][index_of(name)] += mm.table.tables(level);
        }
    };
    for (const auto& [id, mm] : kernel_.mms()) add(*mm, Owner::Guest);
    for (const auto& host : kernel_.hosts()) add(host->mm, Owner::Host);
    return sums;
}

}  // namespace ptshare::engine
