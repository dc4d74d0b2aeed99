// A test framework in one header: TEST(name) { CHECK(...); CHECK_EQ(got, want); }.
//
// Each *_test.cc is one program. It runs its tests in the order in which they stand, goes on after
// a failed check, and ends with the line "N passed, M failed"; exit code 1 when a test failed or
// none ran. Arguments choose tests by name.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
    const char* name;
    void (*body)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int failures_in_test = 0;

struct Registration {
    Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline void failed(const char* file, int line, const std::string& what) {
    ++failures_in_test;
    std::printf("%s:%d: %s\n", file, line, what.c_str());
}

template <class T>
std::string shown(const T& value) {
    std::ostringstream text;
    text << value;
    return text.str();
}

template <class Got, class Want>
void equal(const char* file, int line, const char* expression, const Got& got, const Want& want) {
    if (got == want) return;
    failed(file, line,
           std::string(expression) + " is " + shown(got) + ", should be " + shown(want));
}

}  // namespace check

#define TEST(name)                                                          \
    static void test_##name();                                              \
    static const check::Registration registered_##name(#name, test_##name); \
    static void test_##name()

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) check::failed(__FILE__, __LINE__, "not: " #condition); \
    } while (false)

#define CHECK_EQ(got, want) check::equal(__FILE__, __LINE__, #got, (got), (want))

// The expression throws `type`, and the message contains `text`.
#define CHECK_THROWS(expression, type, text)                                                 \
    do {                                                                                     \
        bool thrown = false;                                                                 \
        try {                                                                                \
            (void)(expression);                                                              \
        } catch (const type& error) {                                                        \
            thrown = true;                                                                   \
            if (!std::strstr(error.what(), text)) {                                          \
                check::failed(__FILE__, __LINE__, std::string("message: ") + error.what());  \
            }                                                                                \
        }                                                                                    \
        if (!thrown) check::failed(__FILE__, __LINE__, #expression " did not throw " #type); \
    } while (false)

int main(int argc, char** argv) {
    int passed = 0;
    int failed = 0;
    for (const check::Test& test : check::tests()) {
        bool chosen = argc < 2;
        for (int i = 1; i < argc; ++i) chosen = chosen || std::strcmp(argv[i], test.name) == 0;
        if (!chosen) continue;
        check::failures_in_test = 0;
        try {
            test.body();
        } catch (const std::exception& error) {
            check::failed(test.name, 0, std::string("threw: ") + error.what());
        }
        ++(check::failures_in_test == 0 ? passed : failed);
        if (check::failures_in_test != 0) std::printf("FAILED %s\n", test.name);
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
