#include "accounting/params.h"

#include <sstream>
#include <stdexcept>
#include <utility>

namespace ptshare::engine {

namespace {

Parameter parse_value(const std::string& text) {
    if (text == "true" || text == "false") return text == "true";
    std::istringstream whole(text);
    std::int64_t count = 0;
    if (whole >> count && whole.eof()) return count;
    std::istringstream fraction(text);
    double real = 0;
    if (fraction >> real && fraction.eof()) return real;
    return text;
}

}  // namespace

void refuse_word(const std::string& key, const std::string& word,
                 const std::vector<std::string>& words) {
    std::string all;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i != 0) all += i + 1 == words.size() ? " or " : ", ";
        all += words[i];
    }
    throw std::invalid_argument(key + " must be " + all + ", not '" + word + "'");
}

Params::Params(std::map<std::string, Parameter> values) : values_(std::move(values)) {
}

Params Params::parse(const std::vector<std::string>& lines) {
    std::map<std::string, Parameter> values;
    for (const std::string& line : lines) {
        const auto equals = line.find('=');
        if (equals == std::string::npos || equals == 0) {
            throw std::invalid_argument("parameter '" + line + "' is not key=value");
        }
        const std::string key = line.substr(0, equals);
        if (!values.emplace(key, parse_value(line.substr(equals + 1))).second) {
            throw std::invalid_argument("parameter " + key + " is given twice");
        }
    }
    return Params(std::move(values));
}

const Parameter& Params::get(const std::string& key) const {
    const auto it = values_.find(key);
    if (it == values_.end()) throw std::invalid_argument("parameter " + key + " is missing");
    read_.insert(key);
    return it->second;
}

std::uint64_t Params::count(const std::string& key) const {
    const auto* value = std::get_if<std::int64_t>(&get(key));
    if (!value || *value < 0) {
        throw std::invalid_argument("parameter " + key + " must be a whole number, 0 or more");
    }
    return static_cast<std::uint64_t>(*value);
}

double Params::real(const std::string& key) const {
    const Parameter& value = get(key);
    if (const auto* whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    if (const auto* number = std::get_if<double>(&value)) return *number;
    throw std::invalid_argument("parameter " + key + " must be a number");
}

bool Params::flag(const std::string& key) const {
    if (const auto* value = std::get_if<bool>(&get(key))) return *value;
    throw std::invalid_argument("parameter " + key + " must be true or false");
}

std::string Params::text(const std::string& key) const {
    if (const auto* value = std::get_if<std::string>(&get(key))) return *value;
    throw std::invalid_argument("parameter " + key + " must be text");
}

std::string Params::shown(const std::string& key) const {
    std::ostringstream to;
    to << std::boolalpha;
    std::visit([&to](const auto& value) { to << value; }, get(key));
    return to.str();
}

std::vector<std::string> Params::unread() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : values_) {
        if (read_.count(key) == 0) keys.push_back(key);
    }
    return keys;
}

void Params::refuse_unread() const {
    std::string names;
    for (const std::string& key : unread()) names += (names.empty() ? "" : ", ") + key;
    if (!names.empty()) throw std::invalid_argument("unknown parameters: " + names);
}

}  // namespace ptshare::engine
