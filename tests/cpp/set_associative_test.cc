// SetAssociative beside the same array with a time stamp for each entry, on random operations.
#include "translation/set_associative.h"

#include <array>
#include <map>
#include <random>

#include "check.h"

using namespace ptshare;

namespace {

using Array = SetAssociative<std::uint64_t>;
using Evicted = std::optional<std::pair<std::uint64_t, std::uint64_t>>;

// True LRU as it is defined: the victim is the entry whose last use is the oldest.
class Stamped {
  public:
    Stamped(std::uint64_t entries, std::uint64_t ways)
        : ways_(ways == 0 ? entries : ways), sets_(entries / ways_) {}

    std::uint64_t* find(std::uint64_t index, std::uint64_t key) {
        auto& set = sets_[index % sets_.size()];
        const auto found = set.find(key);
        if (found == set.end()) return nullptr;
        found->second.used = ++now_;
        return &found->second.value;
    }
    const std::uint64_t* peek(std::uint64_t index, std::uint64_t key) const {
        const auto& set = sets_[index % sets_.size()];
        const auto found = set.find(key);
        return found == set.end() ? nullptr : &found->second.value;
    }
    Evicted insert(std::uint64_t index, std::uint64_t key, std::uint64_t value) {
        auto& set = sets_[index % sets_.size()];
        Evicted evicted;
        if (set.count(key) == 0 && set.size() == ways_) {
            auto oldest = set.begin();
            for (auto it = set.begin(); it != set.end(); ++it) {
                if (it->second.used < oldest->second.used) oldest = it;
            }
            evicted.emplace(oldest->first, oldest->second.value);
            set.erase(oldest);
        }
        set[key] = {value, ++now_};
        return evicted;
    }
    bool erase(std::uint64_t index, std::uint64_t key) {
        return sets_[index % sets_.size()].erase(key) != 0;
    }
    template <class Predicate>
    std::uint64_t erase_if(Predicate matches) {
        std::uint64_t dropped = 0;
        for (auto& set : sets_) {
            for (auto it = set.begin(); it != set.end();) {
                const bool drop = matches(it->first);
                it = drop ? set.erase(it) : std::next(it);
                dropped += drop ? 1 : 0;
            }
        }
        return dropped;
    }
    std::map<std::uint64_t, std::uint64_t> all() const {
        std::map<std::uint64_t, std::uint64_t> held;
        for (const auto& set : sets_) {
            for (const auto& [key, entry] : set) held[key] = entry.value;
        }
        return held;
    }

  private:
    struct Entry {
        std::uint64_t value = 0;
        std::uint64_t used = 0;
    };
    std::uint64_t ways_;
    std::vector<std::map<std::uint64_t, Entry>> sets_;
    std::uint64_t now_ = 0;
};

std::map<std::uint64_t, std::uint64_t> all(const Array& array) {
    std::map<std::uint64_t, std::uint64_t> held;
    array.for_each([&](std::uint64_t key, std::uint64_t value) { held[key] = value; });
    return held;
}

// Random operations on few enough keys that sets fill up and hits are common.
void compare(std::uint64_t entries, std::uint64_t ways, std::uint64_t seed) {
    Array array("array", entries, ways);
    Stamped stamped(entries, ways);
    std::mt19937_64 random(seed);
    const std::uint64_t keys = entries + entries / 2 + 1;
    for (std::uint64_t i = 0; i < 20000; ++i) {
        const std::uint64_t index = random() % keys;
        const std::uint64_t key = index << 17 | 5;
        const std::uint64_t what = random() % 1000;
        if (what < 400) {
            std::uint64_t* got = array.find(index, key);
            std::uint64_t* want = stamped.find(index, key);
            CHECK_EQ(got != nullptr, want != nullptr);
            if (got && want) {
                CHECK_EQ(*got, *want);
                *got = *want = i;
            }
        } else if (what < 500) {
            const std::uint64_t* got = array.peek(index, key);
            const std::uint64_t* want = stamped.peek(index, key);
            CHECK_EQ(got != nullptr, want != nullptr);
            if (got && want) CHECK_EQ(*got, *want);
        } else if (what < 900) {
            CHECK(array.insert(index, key, i) == stamped.insert(index, key, i));
        } else if (what < 995) {
            CHECK_EQ(array.erase(index, key), stamped.erase(index, key));
        } else if (what < 999) {
            const auto some = [&](std::uint64_t held) { return (held >> 17) % 3 == what % 3; };
            CHECK_EQ(array.erase_if(some), stamped.erase_if(some));
        } else {
            CHECK_EQ(array.erase_if([](std::uint64_t) { return true; }),
                     stamped.erase_if([](std::uint64_t) { return true; }));
        }
        if (i % 97 == 0) CHECK(all(array) == stamped.all());
    }
    CHECK(all(array) == stamped.all());
}

}  // namespace

TEST(the_victims_are_those_of_true_lru) {
    constexpr std::array<std::array<std::uint64_t, 2>, 11> kShapes{{{1, 1},
                                                                    {4, 0},
                                                                    {16, 1},
                                                                    {12, 3},
                                                                    {96, 6},
                                                                    {64, 8},
                                                                    {36, 9},
                                                                    {128, 16},
                                                                    {32, 0},
                                                                    {300, 0},
                                                                    {1024, 512}}};
    std::uint64_t seed = 1;
    for (const auto& [entries, ways] : kShapes) compare(entries, ways, ++seed);
}

TEST(an_array_without_entries_holds_nothing) {
    Array none("none", 0, 4);
    CHECK(!none.present());
    CHECK(!none.insert(3, 7, 1));
    CHECK(none.find(3, 7) == nullptr);
    CHECK(none.peek(3, 7) == nullptr);
    CHECK(!none.erase(3, 7));
}

TEST(the_sets_are_a_power_of_two) {
    CHECK_THROWS(Array("mmu.some.entries", 12, 4), std::invalid_argument, "mmu.some.entries");
    CHECK_THROWS(Array("mmu.some.entries", 10, 4), std::invalid_argument, "mmu.some.entries");
}
