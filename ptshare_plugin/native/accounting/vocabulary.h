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

// Whether the vocabulary has a metric of that name. Compares no pointer: GCC takes none for a
// constant under -fsanitize=undefined.
constexpr bool is_metric(std::string_view name) {
    for (const MetricRow& row : kMetricRows) {
        if (name == row.name) return true;
    }
    return false;
}

// Null when the vocabulary has no metric of that name.
inline const MetricRow* find_metric(std::string_view name) {
    for (const MetricRow& row : kMetricRows) {
        if (name == row.name) return &row;
    }
    return nullptr;
}

// Whether each of `metrics`, which have a `name`, has its row.
template <class Metrics>
constexpr bool all_known(const Metrics& metrics) {
    for (const auto& metric : metrics) {
        if (!is_metric(metric.name)) return false;
    }
    return true;
}

}  // namespace ptshare::engine
