#include "gem5/values.hh"

#include <string_view>
#include <utility>

#include "base/logging.hh"

namespace ptshare::g5 {

namespace units = gem5::statistics::units;

namespace {

const units::Base* unit_of(const engine::MetricRow& row) {
    const std::string_view unit = row.unit;
    if (unit == "cycles") return units::Cycle::get();
    if (unit == "bytes") return units::Byte::get();
    if (unit == "count" || unit == "pages" || unit == "tables") return units::Count::get();
    panic("ptshare: %s is in %s, for which gem5's unit is not stated", row.name, row.unit);
}

}  // namespace

Values::Value::Value(Group* group, const engine::MetricRow& row, std::function<double()> value)
    : function(std::move(value)), statistic(group, row.name, unit_of(row), row.meaning) {
    statistic.functor(function);
}

void Values::add(const std::string& name, std::function<double()> value) {
    const engine::MetricRow* row = engine::find_metric(name);
    panic_if(!row, "ptshare: %s has no row in the vocabulary", name);
    values_.emplace_back(this, *row, std::move(value));
}

}  // namespace ptshare::g5
