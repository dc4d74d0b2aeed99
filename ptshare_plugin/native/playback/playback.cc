// What processes do, and in which order.
#include "playback/playback.h"

#include <algorithm>
#include <stdexcept>

namespace ptshare::engine {

namespace {

// MAX_RW_COUNT of Linux, in bytes: whatever a call is given, no more is read or written.
constexpr Word kMostOfACall = 0x7ffff000;

}  // namespace

// ---- Order

// Of what it passes next; of a process that is cut off, nothing that others wait for.
Word Playback::next_stamp(const Process& process) const {
    std::size_t link = process.link, stamp = process.stamp;
    while (link < process.chain.size()) {
        const std::vector<Word>& stamps = outlines_[process.chain[link]].stamps;
        if (stamp < stamps.size()) return stamps[stamp] + process.later;
        ++link;
        stamp = 0;
    }
    return ~Word{0};
}

bool Playback::is_first(const Process& process) const {
    return next_.begin()->second == process.rank;
}

// It has done what its next stamp stands for.
void Playback::pass(Core& core, Process& process) {
    next_.erase({next_stamp(process), process.rank});
    ++process.stamp;
    next_.insert({next_stamp(process), process.rank});
    look_at_roi(process);
    wake_first(core.clock);
}

void Playback::wake_first(std::uint64_t now) {
    if (next_.empty()) return;
    Process& first = processes_[next_.begin()->second];
    if (!first.waits) return;
    first.waits = false;
    queues_.add(first, now);
}

void Playback::wait(Process& process) {
    process.waits = true;
    queues_.remove(process);
}

Core& Playback::next_core() {
    if (Core* const next = queues_.earliest()) return *next;
    throw std::logic_error("every process waits for another");
}

// ---- Items

void Playback::run_slice(Core& core, Thread& thread) {
    auto& process = static_cast<Process&>(thread);
    const std::uint64_t target = progress_ + slice_;
    while (progress_ < target) {
        if (!process.has_item && !next_item(process)) {
            if (stream_over(core, process)) continue;
            return;
        }
        if (process.item.definition) {
            run_block(core, process);
        } else if (!handle(core, process)) {
            return;  // later, or never
        }
        process.has_item = false;
    }
    queues_.end_slice(core);
}

bool Playback::next_item(Process& process) {
    while (!process.decoder->next(process.item)) {
        if (process.piece == source_->pieces(process.stream())) return false;
        process.events = source_->events(process.stream(), process.piece);
        process.blocks = source_->blocks(process.stream(), process.piece);
        ++process.piece;
        process.decoder->load(process.events.data(), process.events.size(), process.blocks.data(),
                              process.blocks.size());
    }
    process.has_item = true;
    return true;
}

void Playback::run_block(Core& core, Process& process) {
    const recordings::Item& item = process.item;
    const recordings::Definition& block = *item.definition;
    const unsigned executed = item.done->instructions;
    instructions_ += executed;
    progress_ += 1 + item.done->accesses;
    unsigned done = 0;
    for (const recordings::Definition::Span& span : block.spans) {
        if (done >= executed) break;
        const unsigned count = std::min<unsigned>(span.instructions, executed - done);
        const recordings::Instruction& last = block.instructions[done + count - 1];
        const auto bytes = static_cast<unsigned>(last.address + last.bytes - span.address);
        // Code that Valgrind put in the program's place lies nowhere.
        const bool fetched = !block.foreign && !request_.code_is_translated;
        if (!machine_.block(core, process.moved.now(VirtAddr(span.address)), fetched ? bytes : 0,
                            count)) {
            deviate(process, "code is fetched where nothing is mapped", VirtAddr(span.address),
                    bytes);
        }
        done += count;
    }
    for (unsigned i = 0; i < item.done->accesses; ++i) {
        const recordings::Access& access = block.accesses[i];
        if (!access.happens(item.words)) continue;
        const VirtAddr at(access.address(item.words));
        switch (access.kind) {
            case recordings::AccessKind::Load:
                use(core, process, at, access.bytes, Access::Read);
                break;
            case recordings::AccessKind::Store:
                use(core, process, at, access.bytes, Access::Write);
                break;
            case recordings::AccessKind::Modify:
                use(core, process, at, access.bytes, Access::Read, &modifies_);
                use(core, process, at, access.bytes, Access::Write);
                break;
        }
    }
}

// In pieces that each lie in one page and are no longer than a cache line.
void Playback::use(Core& core, Process& process, VirtAddr at, std::uint64_t bytes, Access access,
                   Loading* loading) {
    if (!process.moved.empty()) at = process.moved.now(at);
    while (bytes != 0) {
        const std::uint64_t piece = std::min({bytes, line_bytes_, kPageSize - page_offset(at)});
        if (!machine_.access(core, at, static_cast<unsigned>(piece), access, nullptr, loading)) {
            deviate(process,
                    access == Access::Write ? "a store is fatal here" : "a load is fatal here", at,
                    piece);
        }
        at = at + piece;
        bytes -= piece;
    }
}

// A block's code is read, to be translated.
void Playback::translate(Core& core, Process& process) {
    const recordings::Definition block(process.item.words, process.item.count);
    if (block.foreign) return;
    for (const recordings::Instruction& each : block.instructions) {
        use(core, process, VirtAddr(each.address), each.bytes, Access::Read);
    }
}

void Playback::note_present(const Process& process) {
    Present& present = present_.emplace_back();
    present.stream = process.stream();
    present.rank = process.rank;
    present.vm_pte_bytes = process.mm->vm_pte_bytes();
    const auto note = [&](VirtAddr at, Pte, Level level) {
        const std::uint64_t pages = entry_span(level) >> kPageShift;
        auto& runs = present.runs;
        if (!runs.empty() && runs.back().first + runs.back().second * kPageSize == at) {
            runs.back().second += pages;
        } else {
            runs.emplace_back(at, pages);
        }
    };
    process.mm->table.for_each_leaf(VirtAddr(0), machine_.kernel().task_size(), note);
}

// An event; false: the process does not go on with its next item.
bool Playback::handle(Core& core, Process& process) {
    const recordings::Item& item = process.item;
    const unsigned thread = call_thread(item.small);
    switch (item.kind) {
        case PTSHARE_BORN:
            if (!is_first(process)) {
                wait(process);
                return false;
            }
            pass(core, process);
            return true;
        case PTSHARE_DEFINE:
            if (request_.code_is_translated) translate(core, process);
            return true;
        case PTSHARE_MAP:
            map_initial(core, process);
            return true;
        case PTSHARE_FILE:
            name_file(process);
            return true;
        case PTSHARE_CALL: {
            Pending& call = process.pending[thread];
            call = {};
            call.number = call_number(item.small);
            std::copy_n(item.words, 6, call.arguments);
            if (is_fork(call.number)) bear(core, process, item.words[6]);
            pass(core, process);
            return true;
        }
        case PTSHARE_RETURN: {
            if (!is_first(process)) {
                wait(process);
                return false;
            }
            process.left = false;  // if it was to execute another program, that failed
            ++process.counters.syscalls;
            machine_.charge_syscall(core, machine_.costs().syscall);
            const auto found = process.pending.find(thread);
            if (found != process.pending.end()) {
                returned(core, process, found->second, item.words[0], item.words[1]);
                write(core, process, found->second, item.words[0]);
                process.pending.erase(found);
            }
            pass(core, process);
            return true;
        }
        case PTSHARE_READS:
            use(core, process, VirtAddr(item.words[0]), std::min(item.words[1], kMostOfACall),
                Access::Read);
            return true;
        case PTSHARE_WRITES: {
            const VirtAddr at(item.words[0]);
            const Word bytes = std::min(item.words[1], kMostOfACall);
            const auto found = process.pending.find(static_cast<unsigned>(item.small));
            if (found != process.pending.end()) {
                found->second.writes.emplace_back(at, bytes);
            } else {  // of a signal
                use(core, process, at, bytes, Access::Write);
            }
            return true;
        }
        case PTSHARE_SIGNAL:
            machine_.charge_syscall(core, machine_.costs().signal);
            pass(core, process);
            return true;
        case PTSHARE_MARK:
            mark(process, item.small);
            pass(core, process);
            return true;
        case PTSHARE_STAMP:
            pass(core, process);
            return true;
        case PTSHARE_PRESENT:
        case PTSHARE_FAULTS:
            if (!process.left) {
                mark(process, kMarkLeaves);
                if (request_.code_is_translated) note_present(process);
            }
            process.left = true;
            return true;
        case PTSHARE_END:
            return end(core, process);
        default:
            return true;
    }
}

void Playback::look_at_roi(Process& process) {
    if (request_.roi_begin == 0 && request_.roi_end == ~Word{0}) return;
    const Word next = next_stamp(process) - process.later;
    if (!process.in_roi && next > request_.roi_begin && next <= request_.roi_end) {
        mark(process, kMarkBegin);
    } else if (process.in_roi && next > request_.roi_end) {
        mark(process, kMarkEnd);
    }
}

// ---- Life

// A stream's, whose definitions begin with those that its parent's has come to.
std::unique_ptr<recordings::Decoder> Playback::decoder_of(std::size_t stream,
                                                          const recordings::Decoder* parent) {
    const std::size_t known = parent ? outlines_[stream].definitions : 0;
    std::shared_ptr<recordings::Definitions> shared = definitions_[stream].lock();
    if (!shared) {
        shared = parent ? std::make_shared<recordings::Definitions>(*parent->definitions(), known)
                        : std::make_shared<recordings::Definitions>();
        definitions_[stream] = shared;
    }
    return std::make_unique<recordings::Decoder>(std::move(shared), known);
}

void Playback::start(Process& process, std::uint64_t now) {
    process.core =
        static_cast<unsigned>(std::min_element(load_.begin(), load_.end()) - load_.begin());
    ++load_[process.core];
    ++alive_;
    process.alive = true;
    next_.insert({next_stamp(process), process.rank});
    queues_.add(process, now);
}

// The children of a fork called at that stamp: one, and its copies.
void Playback::bear(Core& core, Process& process, Word called) {
    const Outline& outline = outlines_[process.stream()];
    const auto fork =
        std::find_if(outline.forks.begin(), outline.forks.end(),
                     [&](const Outline::Fork& each) { return each.called == called; });
    if (fork == outline.forks.end() || fork->child == 0) return;
    const auto forked = [&](const Process* child) {
        const Outline& its = outlines_[child->chain.front()];
        return !child->born && its.process == fork->child && its.parent_born == outline.born;
    };
    const std::vector<Process*>& all = process.children;
    const auto first = std::find_if(all.begin(), all.end(), forked);
    for (auto each = first; each != all.end(); ++each) {
        Process& child = **each;
        // Numbers are used again: copies are of the same stream.
        if (!forked(&child) || child.chain.front() != (*first)->chain.front()) continue;
        child.born = true;
        child.mm = &machine_.kernel().fork(*process.mm);
        machine_.charge_syscall(core, machine_.costs().fork);
        child.decoder = decoder_of(child.chain.front(), process.decoder.get());
        child.moved = process.moved;
        child.segments = process.segments;
        child.brk = process.brk;
        child.heap_end = process.heap_end;
        if (child.is_copy) ++process.copies;
        start(child, core.clock);
    }
}

// All that the stream has is done: false when that was the process's end.
bool Playback::stream_over(Core& core, Process& process) {
    if (process.link + 1 == process.chain.size()) {
        if (!outlines_[process.stream()].ended) {
            deviate(process, "the recording is cut off here", VirtAddr(0), 0);
        }
        leave(core, process);
        return false;
    }
    // Another program in its place.
    ++process.link;
    process.stamp = 0;
    process.decoder = decoder_of(process.stream(), nullptr);
    process.piece = 0;
    process.moved = MovedAreas();
    process.pending.clear();
    process.segments.clear();
    process.brk = VirtAddr(0);
    process.heap_end = VirtAddr(0);
    process.left = false;
    machine_.kernel().exit(*process.mm);
    process.mm = &machine_.kernel().create_mm();
    machine_.charge_syscall(core, machine_.costs().exec);
    machine_.reload(core);
    return true;
}

bool Playback::end(Core& core, Process& process) {
    // What it shares with copies of its children may go with it.
    if (process.copies != 0) {
        next_.erase({next_stamp(process), process.rank});
        wait(process);
        wake_first(core.clock);
        return false;
    }
    if (!is_first(process)) {
        wait(process);
        return false;
    }
    const auto status = static_cast<int>(process.item.words[0]);
    engine::Rank& rank = ranks_[process.rank];
    (process.item.small == 1 ? rank.exit_code : rank.signal) = status;
    leave(core, process);
    return false;
}

void Playback::leave(Core& core, Process& process) {
    end_roi(process);
    machine_.kernel().exit(*process.mm);
    process.mm = nullptr;
    machine_.charge_syscall(core, machine_.costs().exit);
    core.running = nullptr;
    engine::add(ranks_[process.rank].counters, process.counters);
    queues_.remove(process);
    next_.erase({next_stamp(process), process.rank});
    process.alive = false;
    process.decoder.reset();
    process.events = {};
    process.blocks = {};
    --load_[process.core];
    --alive_;
    if (process.is_copy && --process.parent->copies == 0 && process.parent->waits) {
        Process& parent = *process.parent;
        parent.waits = false;
        next_.insert({next_stamp(parent), parent.rank});
        queues_.add(parent, core.clock);
    }
    wake_first(core.clock);
}

}  // namespace ptshare::engine
