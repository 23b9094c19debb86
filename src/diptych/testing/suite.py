"""The suite that a plug-in inherits: facts, planning and running, and a guard for its own tests."""

from __future__ import annotations

from typing import Any

import pytest

from .facts import FactsSuite
from .planning import PlanningSuite
from .running import RunningSuite

__all__ = ["ProviderSuite"]


class ProviderSuite(FactsSuite, PlanningSuite, RunningSuite):
    """The compliance tests of a provider.

        class TestStripes(ProviderSuite):
            provider = StripesProvider

    That is all that is needed; `Subject` says what else can be set. A standard test that a plug-in
    cannot pass stays in the report: it is overridden with a body that fails, marked
    `@pytest.mark.xfail(reason=...)`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _STANDARD:
            found = getattr(cls, name, None)
            if found is getattr(ProviderSuite, name) or _explained(found):
                continue
            raise TypeError(
                f"{cls.__name__}.{name} replaces a standard test of ProviderSuite. If the plug-in cannot "
                "pass it, mark the replacement @pytest.mark.xfail(reason=...), so that it shows in "
                "every report"
            )

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """One test per model and mode."""
        suite = metafunc.cls
        assert suite is not None
        for name, cases in (("case", suite.cases), ("run_case", suite.run_cases)):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, cases(), ids=str)


def _explained(test: Any) -> bool:
    marks = getattr(test, "pytestmark", ())
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)


_STANDARD = tuple(name for name in dir(ProviderSuite) if name.startswith("test_"))
