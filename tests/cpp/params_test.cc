// Parameters: what is refused where it is read, with a line that says what would be right.
#include "accounting/params.h"

#include <stdexcept>
#include <string>

#include "accounting/kernel_config.h"
#include "check.h"
#include "parameters.h"
#include "translation/translation_caches.h"

using namespace ptshare;
using namespace ptshare::engine;

namespace {

Values with(const char* key, const Parameter& value) {
    return {{key, value}};
}

}  // namespace

TEST(share_levels_are_the_words_of_the_schema) {
    const auto level = [](const char* word) {
        return kernel_config(small_machine(with("share.level", std::string(word)))).share_level;
    };
    CHECK(level("policy") == std::nullopt);
    CHECK(level("pte") == Level::Pte);
    CHECK(level("pmd") == Level::Pmd);
    CHECK(level("pud") == Level::Pud);
    for (const char* word : {"bogus", "", "p4d", "PTE", "pte "}) {
        CHECK_THROWS(level(word), std::invalid_argument,
                     (std::string("parameter share.level must be policy, pte, pmd or pud, not '") +
                      word + "'")
                         .c_str());
    }
}

TEST(flush_strategies_are_the_words_of_the_schema) {
    const auto strategy = [](const char* word) {
        return kernel_config(small_machine(with("shootdown.strategy", std::string(word))))
            .flush_strategy;
    };
    CHECK(strategy("policy") == std::nullopt);
    CHECK(strategy("caller-only") == FlushStrategy::CallerOnly);
    CHECK(strategy("all-cpus") == FlushStrategy::AllCpus);
    CHECK(strategy("sharers") == FlushStrategy::Sharers);
    CHECK(strategy("lazy") == FlushStrategy::Lazy);
    CHECK_THROWS(strategy("bogus"), std::invalid_argument,
                 "parameter shootdown.strategy must be policy, caller-only, all-cpus, sharers or "
                 "lazy, not 'bogus'");
}

TEST(a_word_of_another_kind_is_refused) {
    CHECK_THROWS(kernel_config(small_machine(with("share.level", std::int64_t{1}))),
                 std::invalid_argument, "share.level must be policy, pte, pmd or pud, not '1'");
    CHECK_THROWS(kernel_config(small_machine(with("share.level", 0.5))), std::invalid_argument,
                 "share.level must be policy, pte, pmd or pud, not '0.5'");
    CHECK_THROWS(kernel_config(small_machine(with("shootdown.strategy", true))),
                 std::invalid_argument, "sharers or lazy, not 'true'");
}

TEST(page_tables_have_four_or_five_levels) {
    for (const std::int64_t levels : {4, 5}) {
        CHECK_EQ(kernel_config(small_machine(with("mmu.levels", levels))).levels,
                 static_cast<unsigned>(levels));
    }
    for (const std::int64_t levels : {0LL, 3LL, 6LL, (1LL << 32) + 4}) {
        const Params params = small_machine(with("mmu.levels", levels));
        const std::string told =
            "parameter mmu.levels must be 4 or 5, not " + std::to_string(levels);
        CHECK_THROWS(kernel_config(params), std::invalid_argument, told.c_str());
        CHECK_THROWS(TranslationCaches(params), std::invalid_argument, told.c_str());
    }
}

TEST(fault_around_is_a_power_of_two) {
    for (const std::int64_t bytes : {4096, 65536, 2 << 20}) {
        CHECK_EQ(kernel_config(small_machine(with("kernel.fault_around_bytes", bytes)))
                     .fault_around_bytes,
                 static_cast<std::uint64_t>(bytes));
    }
    for (const std::int64_t bytes : {0, 2048, 12288, 4 << 20}) {
        CHECK_THROWS(kernel_config(small_machine(with("kernel.fault_around_bytes", bytes))),
                     std::invalid_argument,
                     ("parameter kernel.fault_around_bytes must be a power of two from 4096 to "
                      "2097152, not " +
                      std::to_string(bytes))
                         .c_str());
    }
}

TEST(lines_are_parsed_by_what_they_hold) {
    const Params params = Params::parse(
        {"a.flag=true", "a.count=12", "a.real=0.5", "a.word=caller-only", "a.empty=", "a.sum=b=c"});
    CHECK(params.flag("a.flag"));
    CHECK_EQ(params.count("a.count"), 12u);
    CHECK_EQ(params.real("a.real"), 0.5);
    CHECK_EQ(params.text("a.word"), std::string("caller-only"));
    CHECK_EQ(params.text("a.empty"), std::string());
    CHECK_EQ(params.text("a.sum"), std::string("b=c"));
    params.refuse_unread();
}

TEST(lines_that_are_no_parameters_are_refused) {
    CHECK_THROWS(Params::parse({"share.level"}), std::invalid_argument,
                 "parameter 'share.level' is not key=value");
    CHECK_THROWS(Params::parse({"=pte"}), std::invalid_argument,
                 "parameter '=pte' is not key=value");
    CHECK_THROWS(Params::parse({"share.level=pte", "share.level=pmd"}), std::invalid_argument,
                 "parameter share.level is given twice");
}

TEST(what_nobody_reads_is_refused) {
    const Params params = Params::parse({"a.count=12", "a.other=1", "mmu.bogus=7"});
    params.count("a.count");
    CHECK_THROWS(params.refuse_unread(), std::invalid_argument,
                 "unknown parameters: a.other, mmu.bogus");
    CHECK_THROWS(params.count("a.missing"), std::invalid_argument,
                 "parameter a.missing is missing");
}
