// Parameters by dotted key, such as "mmu.stlb.entries". Meaning, unit and limits: machine.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace ptshare::engine {

using Parameter = std::variant<bool, std::int64_t, double, std::string>;

// A word that a parameter may be, and what it stands for.
template <class T>
struct Choice {
    const char* word;
    T value;
};

// Throws std::invalid_argument that names the key, what it is and what it may be.
[[noreturn]] void refuse_word(const std::string& key, const std::string& word,
                              const std::vector<std::string>& words);

// What a word stands for, of all that there are; refuses others.
template <class T, std::size_t n>
T chosen(const std::string& key, const std::string& word, const Choice<T> (&choices)[n]) {
    std::vector<std::string> words;
    for (const Choice<T>& choice : choices) {
        if (word == choice.word) return choice.value;
        words.emplace_back(choice.word);
    }
    refuse_word(key, word, words);
}

class Params {
  public:
    explicit Params(std::map<std::string, Parameter> values);
    // Of lines "key=value"; throws std::invalid_argument for a line that is none, and for a key
    // that is given twice.
    static Params parse(const std::vector<std::string>& lines);

    // Each throws std::invalid_argument naming the key when it is missing or of another kind.
    std::uint64_t count(const std::string& key) const;  // a whole number, not negative
    double real(const std::string& key) const;
    bool flag(const std::string& key) const;
    std::string text(const std::string& key) const;
    template <class T, std::size_t n>
    T choice(const std::string& key, const Choice<T> (&choices)[n]) const {
        return chosen("parameter " + key, shown(key), choices);
    }

    // Keys that nobody has asked for.
    std::vector<std::string> unread() const;
    // Throws std::invalid_argument naming them, if there are any.
    void refuse_unread() const;

  private:
    const Parameter& get(const std::string& key) const;
    // The value as a user wrote it, whatever its kind.
    std::string shown(const std::string& key) const;

    std::map<std::string, Parameter> values_;
    mutable std::set<std::string> read_;  // keys of values_ that were asked for
};

}  // namespace ptshare::engine
