#include "gem5/values.hh"

#include <utility>

namespace ptshare::g5 {

namespace units = gem5::statistics::units;

namespace {

const units::Base* unit_of(const std::string& metric) {
    if (metric.find("cycles") != std::string::npos) return units::Cycle::get();
    if (metric.find("bytes") != std::string::npos) return units::Byte::get();
    return units::Count::get();
}

}  // namespace

Values::Value::Value(Group* group, const std::string& metric, std::function<double()> value)
    : name(metric),
      meaning("metric " + metric),
      function(std::move(value)),
      statistic(group, name.c_str(), unit_of(metric), meaning.c_str()) {
    statistic.functor(function);
}

void Values::add(const std::string& name, std::function<double()> value) {
    values_.emplace_back(this, name, std::move(value));
}

}  // namespace ptshare::g5
