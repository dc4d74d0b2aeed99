// Statistics that are computed when they are dumped, under the names of ptshare's vocabulary.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "accounting/vocabulary.h"
#include "base/statistics.hh"

namespace ptshare::g5 {

// A group of values. Names hold dots: "tlb.dtlb.misses" of group "process0" stands in stats.txt as
// system.kernel.process0.tlb.dtlb.misses. Units and descriptions are the vocabulary's.
class Values : public gem5::statistics::Group {
  public:
    // `name` null: the values are the parent's own. The group must be made before the simulation
    // binds its statistics (in init() at the latest).
    Values(gem5::statistics::Group* parent, const char* name) : Group(parent, name) {}

    // Panics when the vocabulary has no such metric, or gem5 no such unit.
    void add(const std::string& name, std::function<double()> value);

  private:
    // gem5 keeps pointers to all of these.
    struct Value {
        std::function<double()> function;
        gem5::statistics::Value statistic;

        Value(Group* group, const engine::MetricRow& row, std::function<double()> value);
    };
    std::deque<Value> values_;
};

}  // namespace ptshare::g5
