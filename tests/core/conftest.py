"""Plain asserts in the helpers explain themselves like those in the tests."""

import pytest

pytest.register_assert_rewrite("checked", "machine", "oracle", "rules", "twin")
