// What a finished run hands to Python, whatever front-end it had.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "accounting/counters.h"
#include "accounting/marks.h"
#include "machine/machine_metrics.h"
#include "programs/task.h"

namespace ptshare::bindings {

namespace nb = nanobind;

using Row = std::tuple<int, std::string, std::uint64_t>;

template <class Simulated>
std::vector<Row> statistics(const Simulated& simulation) {
    std::vector<Row> rows;
    int index = 0;
    for (const engine::Rank& rank : simulation.ranks()) {
        engine::for_each_counter(rank.counters, [&](const std::string& name, std::uint64_t value) {
            rows.emplace_back(index, name, value);
        });
        if (rank.marked) {
            engine::for_each_counter(rank.roi, [&](const std::string& name, std::uint64_t value) {
                rows.emplace_back(index, "roi." + name, value);
            });
        }
        ++index;
    }
    for (const auto& [name, value] : engine::machine_metrics(simulation.machine()))
        rows.emplace_back(-1, name, value);
    return rows;
}

template <class Simulated>
std::vector<std::vector<std::uint64_t>> samples(const Simulated& simulation) {
    std::vector<std::vector<std::uint64_t>> rows;
    for (const engine::Sample& sample : simulation.samples()) rows.push_back(sample.row());
    return rows;
}

template <class Simulated>
nb::list results(const Simulated& simulation) {
    nb::list list;
    for (const engine::Rank& rank : simulation.ranks()) {
        list.append(nb::make_tuple(rank.pid, rank.exit_code, rank.signal,
                                   nb::bytes(rank.output.data(), rank.output.size()),
                                   nb::bytes(rank.errors.data(), rank.errors.size()), rank.note));
    }
    return list;
}

}  // namespace ptshare::bindings
