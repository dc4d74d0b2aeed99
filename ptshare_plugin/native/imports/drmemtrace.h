// DynamoRIO's drmemtrace: final traces, as its raw2trace writes them, for x86-64. The format is
// documented in its clients/drcachesim/common/trace_entry.h (type, size, value: 2, 2, 8 bytes).
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "imports/importer.h"

namespace ptshare::imports {

class Drmemtrace final : public Importer {
  public:
    static constexpr std::size_t kRecord = 12;

    std::size_t record_bytes() const override { return kRecord; }
    std::size_t feed(std::size_t lane, const char* bytes, std::size_t count, Word until) override;

  private:
    struct Record {
        unsigned type = 0, size = 0;
        Word value = 0;
        std::array<std::uint8_t, 8> lengths{};  // of a bundle: the value's bytes
    };
    struct Call {
        unsigned number = 0;
        std::array<Word, 6> arguments{};
        std::size_t given = 0;  // arguments
        Word result = 0, called = 0;
        bool failed = false;
    };
    struct Lane {
        bool begun = false;
        Process* process = nullptr;
        Word thread = 0;
        Word next = 0;        // behind the last instruction
        Word now = 0;         // its time, in us as the trace has it
        bool kernel = false;  // what comes is the kernel's
        Call call;            // made, and not written yet
        bool calls = false;
        Word function = 0;  // whose arguments or result come
        bool returns = false;
    };

    void begin_again() override;
    Word last_stamp() const override { return stamp(latest_); }
    Word stamp(Word microseconds) const;
    void take(Lane& lane, const Record& record);
    void instruction(Lane& lane, const Record& record);
    void bundle(Lane& lane, const Record& record);
    void marker(Lane& lane, unsigned kind, Word value);
    void function_marker(Lane& lane, unsigned kind, Word value);
    void end_call(Lane& lane);
    Process& of(Lane& lane);

    std::vector<Lane> lanes_;
    std::optional<Word> earliest_;
    Word latest_ = 0;
};

}  // namespace ptshare::imports
