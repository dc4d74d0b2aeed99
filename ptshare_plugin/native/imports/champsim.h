// ChampSim's traces: one process each, of records that have an instruction's address, whether it is
// a branch, registers, and addresses that it stores to and loads from.
#pragma once

#include <vector>

#include "imports/importer.h"

namespace ptshare::imports {

class Champsim final : public Importer {
  public:
    // `cloudsuite`: the longer records, with four addresses to store to and an address space.
    explicit Champsim(bool cloudsuite) : cloudsuite_(cloudsuite) {}

    std::size_t record_bytes() const override;
    std::size_t feed(std::size_t lane, const char* bytes, std::size_t count, Word until) override;

  private:
    struct Instruction {
        Word address = 0;
        std::vector<Word> stores, loads;
    };

    void begin_again() override { lanes_.clear(); }
    // Nothing tells a time.
    Word last_stamp() const override { return kEnd; }
    Instruction read(const char* record) const;
    // With the address of the instruction behind, which says how long it is.
    static void write(Process& process, const Instruction& instruction, Word behind);

    static constexpr Word kEnd = 1'000'000;
    bool cloudsuite_;
    std::vector<Instruction> lanes_;  // the last instruction of each, not yet written
};

}  // namespace ptshare::imports
