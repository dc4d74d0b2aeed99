// Replays a recording of real processes on the machine: what they executed and accessed, and their
// calls about memory, which core answers under the policy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "accounting/params.h"
#include "machine/run.h"
#include "playback/moved.h"
#include "playback/outline.h"
#include "recordings/decoder.h"

namespace ptshare::engine {

// The pieces of a recording's streams, in whatever way they are kept. What a member throws passes
// through.
class PieceSource {
  public:
    virtual ~PieceSource() = default;
    virtual std::size_t streams() const = 0;
    virtual std::size_t pieces(std::size_t stream) const = 0;
    virtual std::string events(std::size_t stream, std::size_t piece) = 0;
    virtual std::string blocks(std::size_t stream, std::size_t piece) = 0;
};

struct PlaybackRequest {
    // A stream once more, later by so many ns: one that a fork began, whose process forks none.
    struct Copy {
        std::size_t stream = 0;
        Word later = 0;
    };
    std::vector<Copy> copies;
    // Where a mapping is to lie, and how large it is to be; 0: as recorded.
    struct Place {
        VirtAddr at;
        std::uint64_t bytes = 0;
    };
    // Mappings to ask MAP_SHARED_PT for, by stream and the stamp of the call's return.
    std::map<std::pair<std::size_t, Word>, Place> shared;
    // As under the recorder, which reads code once, when it translates it, and executes a
    // translation: for a comparison with what the kernel's tables then held.
    bool code_is_translated = false;
    // Stamps between which the region of interest lies.
    Word roi_begin = 0;
    Word roi_end = ~Word{0};
};

// Where core's answer is not what was recorded, or something is left out.
struct Deviation {
    std::string what;
    VirtAddr address;  // of the first
    std::uint64_t bytes = 0;
    std::uint64_t times = 0;
};

// What an address space maps when its program ends: runs of present pages, as in the recording's
// PTSHARE_PRESENT, by first address and number.
struct Present {
    std::size_t stream = 0;
    unsigned rank = 0;
    std::uint64_t vm_pte_bytes = 0;
    std::vector<std::pair<VirtAddr, std::uint64_t>> runs;
};

// Each recorded process is a rank of one thread, whatever threads it had: the recorder ran one at a
// time. Order between processes: what a process does after a system call has returned comes after
// all that others had done, by their own stamps, when it returned.
class Playback final : public Run {
  public:
    // What a Sample's mark is just before a process ends or executes another program.
    static constexpr std::uint64_t kMarkLeaves = 3;

    // Throws std::invalid_argument (parameters, policy, request) and std::runtime_error (the
    // recording).
    Playback(const Params& params, const std::string& policy, unsigned cores,
             std::unique_ptr<PieceSource> source, PlaybackRequest request);

    std::uint64_t instructions() const override { return instructions_; }
    // By stream.
    const std::vector<std::vector<Deviation>>& deviations() const { return deviations_; }
    // Where the request asks for a comparison: at each PTSHARE_PRESENT, in order.
    const std::vector<Present>& present() const { return present_; }
    // The stream that each rank replays first.
    std::vector<std::size_t> streams() const;

  private:
    struct Pending {
        unsigned number = 0;
        Word arguments[6] = {};
        std::shared_ptr<File> file;                              // that the call names
        std::vector<std::pair<VirtAddr, std::uint64_t>> writes;  // what the kernel wrote: bytes
    };
    struct Process : Thread {
        std::vector<std::size_t> chain;  // streams: its own, and those of the programs it executes
        std::size_t link = 0;            // index of chain
        Word later = 0;                  // added to stamps
        std::size_t stamp = 0;           // index of the link's stamps: the next to pass
        Process* parent = nullptr;       // not owned
        std::vector<Process*> children;  // by the stamps of their streams; not owned
        bool born = false;               // by a fork
        unsigned copies = 0;             // of its children, that have not ended

        // Reading; a piece's texts stay while the decoder reads them.
        std::unique_ptr<recordings::Decoder> decoder;  // null: not begun, or done with
        std::string events, blocks;
        std::size_t piece = 0;  // the next one
        recordings::Item item;
        bool has_item = false;  // that is not done with

        MovedAreas moved;
        std::map<unsigned, Pending> pending;              // by thread
        std::map<std::uint64_t, std::uint64_t> segments;  // System V: address as recorded, bytes
        VirtAddr brk;                                     // as recorded
        VirtAddr heap_end;  // mapped up to there, where the recorder left what brk gave back
        bool alive = false;
        bool waits = false;
        bool is_copy = false;
        bool left = false;  // noted for the program that runs

        std::size_t stream() const { return chain[link]; }
    };

    // Setting up (playback_setup.cc)
    void outline();
    void make_processes();
    std::vector<std::size_t> chain_from(std::size_t stream) const;
    Process& make_process(std::size_t stream, Word later, Process* parent);

    // Run
    bool over() const override { return alive_ == 0; }
    Core& next_core() override;
    void run_slice(Core& core, Thread& thread) override;

    // Order
    Word next_stamp(const Process& process) const;
    bool is_first(const Process& process) const;
    void pass(Core& core, Process& process);
    void wake_first(std::uint64_t now);
    void wait(Process& process);

    // Items
    bool next_item(Process& process);
    void run_block(Core& core, Process& process);
    bool handle(Core& core, Process& process);
    void look_at_roi(Process& process);
    void write(Core& core, Process& process, const Pending& call, Word result);
    void translate(Core& core, Process& process);
    void note_present(const Process& process);
    void use(Core& core, Process& process, VirtAddr at, std::uint64_t bytes, Access access,
             Loading* loading = nullptr);

    // Life
    std::unique_ptr<recordings::Decoder> decoder_of(std::size_t stream,
                                                    const recordings::Decoder* parent);
    void start(Process& process, std::uint64_t now);
    void bear(Core& core, Process& process, Word called);
    bool stream_over(Core& core, Process& process);
    bool end(Core& core, Process& process);
    void leave(Core& core, Process& process);

    // Calls (playback_calls.cc)
    void map_initial(Core& core, Process& process);
    void name_file(Process& process);
    void returned(Core& core, Process& process, const Pending& call, Word result, Word stamp);
    void mapped(Core& core, Process& process, const Pending& call, VirtAddr at, Word stamp);
    void attached(Core& core, Process& process, const Pending& call, VirtAddr at, Word stamp);
    void unmap(Core& core, Process& process, VirtAddr at, std::uint64_t bytes);
    void move(Core& core, Process& process, const Pending& call, VirtAddr to);
    void advise(Core& core, Process& process, const Pending& call);
    void move_brk(Core& core, Process& process, VirtAddr to);
    bool map(Core& core, Process& process, MapRequest request, const PlaybackRequest::Place* place);
    std::shared_ptr<File> file_of(Word device, Word inode, Word bytes, const std::string& path);
    void deviate(const Process& process, const std::string& what, VirtAddr address,
                 std::uint64_t bytes);

    // The load of an instruction that also stores.
    class Modifying final : public Loading {
        bool writes_back() override { return true; }
    };

    Modifying modifies_;
    std::uint64_t line_bytes_;
    std::unique_ptr<PieceSource> source_;
    PlaybackRequest request_;
    std::vector<Outline> outlines_;  // index: stream
    // Index: stream; of those that decoders read now, of copies the same.
    std::vector<std::weak_ptr<recordings::Definitions>> definitions_;
    std::deque<Process> processes_;  // index: rank
    std::vector<unsigned> load_;     // index: core; processes that live on it
    std::size_t alive_ = 0;
    // What each live process passes next, and its rank; not of one that waits for copies to end.
    std::set<std::pair<Word, unsigned>> next_;
    std::map<std::pair<Word, Word>, std::shared_ptr<File>> files_;  // by device and inode
    std::vector<std::vector<Deviation>> deviations_;
    std::vector<Present> present_;
    std::uint64_t instructions_ = 0;
};

}  // namespace ptshare::engine
