#include "imports/importer.h"

#include <stdexcept>

namespace ptshare::imports {

Process& Importer::process(std::uint32_t number) {
    Process*& found = by_number_[number];
    if (found == nullptr) found = &processes_.emplace_back(number);
    return *found;
}

void Importer::write(const std::vector<std::string>& names, const std::vector<Area>& shared) {
    for (const Area& area : shared) {
        bool touched = false;
        for (const Process& each : processes_) {
            touched = touched || each.touched().any(area.start, area.end);
        }
        if (!touched) throw std::invalid_argument("nothing is touched in a range to be shared");
    }
    for (std::size_t i = 0; i < processes_.size(); ++i) {
        processes_[i].write(names.at(i), i + 1, shared);
    }
    left_out_.clear();
    begin_again();
}

void Importer::finish() {
    for (Process& each : processes_) each.finish(last_stamp());
}

std::map<std::string, std::uint64_t> Importer::left_out() const {
    std::map<std::string, std::uint64_t> all = left_out_;
    for (const Process& each : processes_) {
        if (each.beyond != 0) all["of the kernel, or of no address"] += each.beyond;
    }
    return all;
}

}  // namespace ptshare::imports
