#include "streams/pattern.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace ptshare::engine {

namespace {

// A function's static: registration runs before main, in no known order.
std::vector<PatternInfo>& registry() {
    static std::vector<PatternInfo> list;
    return list;
}

}  // namespace

RegisterPattern::RegisterPattern(PatternInfo info) {
    registry().push_back(std::move(info));
}

std::vector<PatternInfo> patterns() {
    std::vector<PatternInfo> list = registry();
    std::sort(list.begin(), list.end(),
              [](const PatternInfo& a, const PatternInfo& b) { return a.name < b.name; });
    return list;
}

PatternInfo find_pattern(const std::string& name) {
    for (const PatternInfo& info : registry()) {
        if (info.name == name) return info;
    }
    throw std::invalid_argument("there is no pattern " + name);
}

}  // namespace ptshare::engine
