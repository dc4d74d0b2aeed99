"""Does one new file in ``native/core/policies/`` make a policy: known, listed, and usable?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NATIVE = Path("ptshare_plugin", "native")
POLICY = """
#include "ranges.h"

namespace ptshare {
namespace {

class Slots final : public SharedRanges {
  public:
    ShareDecision decide(const Kernel& kernel, const MapRequest& request, VirtAddr start,
                         std::uint64_t vm_flags) const override {
        const bool fits = is_aligned(start.value | request.length, unit(kernel));
        if (!(vm_flags & kVmShared) || !request.file || !fits) {
            return ShareDecision::to_fall_back();
        }
        return ShareDecision::to_share(unit(kernel));
    }

  protected:
    Level level(const Kernel&) const override { return Level::Pmd; }
};

const RegisterPolicy kRegistered(
    {"slots", "guests link PMD tables", 9, kSharesTables | kCandidate,
     []() -> std::unique_ptr<SharingPolicy> { return std::make_unique<Slots>(); }});

}  // namespace
}  // namespace ptshare
"""
# Takes the place of tests/cpp: core alone is built.
BUILD = """
add_executable(new_policy new_policy.cc)
target_link_libraries(new_policy PRIVATE ptshare_core)
"""
TEST = """
#include "world.h"

using namespace ptshare;
using namespace ptshare::test;

TEST(it_is_listed_with_its_traits) {
    const PolicyInfo info = policies().back();
    CHECK_EQ(info.name, "slots");
    CHECK_EQ(info.description, "guests link PMD tables");
    CHECK(info.has(kSharesTables) && info.has(kCandidate));
    CHECK(!info.has(kStrictAlignment) && !info.has(kPageByPage));
    CHECK_THROWS(make_policy("slot"), std::invalid_argument, "huge-2m, slots");
}

TEST(processes_share_a_table_by_it) {
    in_world("slots", [](World& w) {
        CHECK_EQ(w.kernel.policy().name(), "slots");
        w.file->resize(kPudSize);
        Mm& one = w.guest(kPudSize);
        Mm& two = w.guest(kPudSize);
        CHECK(w.write(one, kBase) == FaultKind::Host);
        CHECK(w.write(two, kBase) == FaultKind::Link);
        CHECK(w.leaf(one, kBase).pfn() == w.leaf(two, kBase).pfn());
        CHECK_EQ(w.own_tables(two), 2U);  // PGD, PUD
        CHECK_EQ(w.kernel.stats().links, 2U);
    });
}
"""


@pytest.mark.long
def test_one_file_is_all_that_it_takes(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake")
    for part in (NATIVE, Path("se_workloads")):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    shutil.copy(REPOSITORY / "CMakeLists.txt", tmp_path)
    (tmp_path / NATIVE / "core" / "policies" / "slots.cc").write_text(POLICY)
    tests = tmp_path / "tests" / "cpp"
    tests.mkdir(parents=True)
    for header in ("check.h", "world.h"):
        shutil.copy(REPOSITORY / "tests" / "cpp" / header, tests)
    (tests / "CMakeLists.txt").write_text(BUILD)
    (tests / "new_policy.cc").write_text(TEST)
    build = tmp_path / "build"
    kind = ("-DPTSHARE_PYTHON=OFF", "-DPTSHARE_CPP_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug")
    for command in (
        (cmake, "-S", tmp_path, "-B", build, *kind),
        (cmake, "--build", build, "--target", "new_policy", "--parallel", "2"),
        (build / "tests" / "cpp" / "new_policy",),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "2 passed, 0 failed\n"
