// Parameters by dotted key, such as "mmu.stlb.entries". Meaning, unit and limits: machine.py.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace ptshare::engine {

using Parameter = std::variant<bool, std::int64_t, double, std::string>;

class Params {
  public:
    explicit Params(std::map<std::string, Parameter> values);

    // Each throws std::invalid_argument naming the key when it is missing or of another kind.
    std::uint64_t count(const std::string& key) const;  // a whole number, not negative
    double real(const std::string& key) const;
    bool flag(const std::string& key) const;
    std::string text(const std::string& key) const;

    // Keys that nobody has asked for.
    std::vector<std::string> unread() const;
    // Throws std::invalid_argument naming them, if there are any.
    void refuse_unread() const;

  private:
    const Parameter& get(const std::string& key) const;

    std::map<std::string, Parameter> values_;
    mutable std::set<std::string> read_;
};

}  // namespace ptshare::engine
