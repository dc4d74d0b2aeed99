// What a recording consists of, and the processes that replay it.
#include <algorithm>
#include <stdexcept>

#include "playback/playback.h"

namespace ptshare::engine {

namespace {

constexpr std::size_t kNoStream = ~std::size_t{0};

}  // namespace

// Nobody reads bytes of its memory.
Playback::Playback(const Params& params, const std::string& policy, unsigned cores,
                   std::unique_ptr<PieceSource> source, PlaybackRequest request)
    : Run(params, policy, cores, std::make_shared<TableStores>()),
      line_bytes_(params.count("cache.line_bytes")),
      source_(std::move(source)),
      request_(std::move(request)),
      load_(machine_.cores()),
      deviations_(source_->streams()) {
    params.count("cpu.frequency_mhz");  // nothing here reads a clock
    params.refuse_unread();
    outline();
    make_processes();
}

void Playback::outline() {
    outlines_.resize(source_->streams());
    definitions_.resize(source_->streams());
    for (std::size_t stream = 0; stream < outlines_.size(); ++stream) {
        for (std::size_t piece = 0; piece < source_->pieces(stream); ++piece) {
            outlines_[stream].add(source_->events(stream, piece));
        }
    }
}

// The stream and those of the programs that its process executes one after the other.
std::vector<std::size_t> Playback::chain_from(std::size_t stream) const {
    std::vector<std::size_t> chain{stream};
    while (outlines_[chain.back()].executes) {
        const Outline& last = outlines_[chain.back()];
        std::size_t next = kNoStream;
        for (std::size_t i = 0; i < outlines_.size(); ++i) {
            const Outline& other = outlines_[i];
            if (other.parent_born != 0 || other.process != last.process) continue;
            if (other.born <= last.stamps.back()) continue;
            if (next == kNoStream || other.born < outlines_[next].born) next = i;
        }
        if (next == kNoStream) break;  // cut off there
        chain.push_back(next);
    }
    return chain;
}

void Playback::make_processes() {
    std::vector<bool> executed(outlines_.size());
    std::map<std::size_t, std::vector<std::size_t>> chains;
    for (std::size_t i = 0; i < outlines_.size(); ++i) {
        chains[i] = chain_from(i);
        for (std::size_t link = 1; link < chains[i].size(); ++link)
            executed[chains[i][link]] = true;
    }
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < outlines_.size(); ++i) {
        if (!executed[i]) order.push_back(i);
    }
    std::sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
        return outlines_[a].born < outlines_[b].born;
    });
    std::map<Word, Process*> by_born;  // of every link
    for (const std::size_t stream : order) {
        const Outline& outline = outlines_[stream];
        Process* parent = nullptr;
        if (outline.parent_born != 0) {
            const auto found = by_born.find(outline.parent_born);
            if (found == by_born.end()) {
                throw std::runtime_error("the stream of the parent of process " +
                                         std::to_string(outline.process) + " is missing");
            }
            parent = found->second;
        }
        Process& made = make_process(stream, 0, parent);
        for (const std::size_t link : made.chain) by_born[outlines_[link].born] = &made;
    }
    for (const PlaybackRequest::Copy& copy : request_.copies) {
        const auto original = std::find_if(
            processes_.begin(), processes_.end(),
            [&](const Process& process) { return process.chain.front() == copy.stream; });
        if (original == processes_.end() || !original->parent || !original->children.empty()) {
            throw std::invalid_argument("a copy of a process that is no fork, or forks itself");
        }
        make_process(copy.stream, copy.later, original->parent).is_copy = true;
    }
    for (Process& process : processes_) {
        std::stable_sort(process.children.begin(), process.children.end(),
                         [this](const Process* a, const Process* b) {
                             return outlines_[a->chain.front()].born <
                                    outlines_[b->chain.front()].born;
                         });
    }
    for (Process& process : processes_) {
        if (process.parent) continue;
        process.mm = &machine_.create_mm();
        process.decoder = decoder_of(process.stream(), nullptr);
        start(process, 0);
    }
}

Playback::Process& Playback::make_process(std::size_t stream, Word later, Process* parent) {
    Process& made = processes_.emplace_back();
    made.rank = static_cast<unsigned>(ranks_.size());
    made.chain = chain_from(stream);
    made.later = later;
    made.parent = parent;
    if (parent) parent->children.push_back(&made);
    ranks_.emplace_back().pid = outlines_[stream].process;
    return made;
}

std::vector<std::size_t> Playback::streams() const {
    std::vector<std::size_t> all;
    for (const Process& process : processes_) all.push_back(process.chain.front());
    return all;
}

}  // namespace ptshare::engine
