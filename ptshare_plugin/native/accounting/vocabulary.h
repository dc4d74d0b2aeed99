// Units and meanings of the raw metrics that C++ counts. They are stated once, in
// ptshare_plugin/metrics/vocabulary.py; metric_rows.inc is written from it by
// `python -m ptshare_plugin.metrics.native`, and a test fails when it is behind.
#pragma once

#include <string_view>

namespace ptshare::engine {

struct MetricRow {
    const char* name;
    const char* unit;
    const char* meaning;
};

inline constexpr MetricRow kMetricRows[] = {
#include "accounting/metric_rows.inc"
};

// Null when the vocabulary has no metric of that name.
constexpr const MetricRow* find_metric(std::string_view name) {
    for (const MetricRow& row : kMetricRows) {
        if (name == row.name) return &row;
    }
    return nullptr;
}

// Not by find_metric(): under GCC's sanitizers an address compared with null is no constant.
constexpr bool is_known(std::string_view name) {
    for (const MetricRow& row : kMetricRows) {
        if (name == row.name) return true;
    }
    return false;
}

// Whether each of `metrics`, which have a `name`, has its row.
template <class Metrics>
constexpr bool all_known(const Metrics& metrics) {
    for (const auto& metric : metrics) {
        if (!is_known(metric.name)) return false;
    }
    return true;
}

}  // namespace ptshare::engine
