"""`ProviderSuite`: an outside plug-in passes it, and for each of its tests there is one that fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from diptych.cards import ModelCard, Option, Paradigm
from diptych.plan import Call, Plan
from diptych.provider import Provider
from diptych.sizes import Sizes
from diptych.testing import ProviderSuite

PLUGINS = Path(__file__).parent / "plugins"

BREAKS = {
    "TestKeyHostWithScheme": ("test_class_facts", "key_hosts has 'https://example.com'"),
    "TestLoadsTheSDK": ("test_planning_imports_no_sdk", "planning imported httpx"),
    "TestForgetsItsCard": ("test_cards_are_found_by_name", "differs from the one in cards"),
    "TestMaskWithoutInpainting": ("test_cards_make_sense", "takes a mask but edits has no INPAINT"),
    "TestSuccessorOfNobody": ("test_retired_models", "successor 'next' is not in cards"),
    "TestKnowsEverything": ("test_unknown_model", "claims to know a model that nobody described"),
    "TestDrawsASeed": ("test_a_plan_is_pure", "two plans of one request differ"),
    "TestAsksTheServer": ("test_a_plan_is_pure", "127.0.0.1 was to be reached; plan"),
    "TestSaysAnotherMode": ("test_a_plan_says_what_it_is", "Plan.mode is 'generate'"),
    "TestDropsSteps": ("test_no_option_is_dropped", r"steps=\d+ is dropped in silence"),
    "TestAlwaysTwentySteps": ("test_no_option_is_dropped", r"steps=\d+ is dropped in silence"),
    "TestNoticesTheMask": ("test_no_option_is_dropped", "a notice alone is not enough"),
    "TestDropsTheSecondOption": ("test_no_option_is_dropped", r"guidance=\S+ is dropped"),
    "TestRefusesWithoutAName": ("test_no_option_is_dropped", "without naming one of the options"),
    "TestDropsThePrompt": ("test_prompt_and_picture_are_sent", "the prompt is dropped"),
    "TestDropsThePicture": ("test_prompt_and_picture_are_sent", "the picture to edit is dropped"),
    "TestSendsItsDefault": ("test_no_default_is_sent", "without steps= the payload says steps=20"),
    "TestOneSeedForAll": ("test_seeds_count_up", r"picture k must have seed \+ k"),
    "TestSeedsDependOnTheBatch": ("test_seeds_count_up", "not the same among"),
    "TestOneIsEnough": ("test_seeds_count_up", "plans 1 pictures"),
    "TestFreeLunch": ("test_estimates_are_honest", "the estimate is 0"),
    "TestKeyInRepr": ("test_key_stays_out_of_plans", r"the key is in .*WebUI\("),
    "TestKeyInPayload": ("test_key_stays_out_of_plans", "the key is in"),
    "TestKeyInAnAttribute": ("test_key_stays_out_of_plans", "the key is in .*_password"),
    "TestContinuesWithoutAState": ("test_continuing_needs_a_state", r"override state\(card\)"),
    "TestGoesOnAfterTheOutcome": ("test_a_run_ends_with_its_outcome", "ended with Progress"),
    "TestTakesAPictureBack": ("test_a_run_ends_with_its_outcome", "that the last one lacks"),
    "TestPaysTwice": ("test_every_call_is_paid_once", "1 paid requests were planned and 2 were"),
    "TestRunsOn": ("test_a_cancelled_run_ends", "a cancelled run leaves its connection"),
    "TestSwallowsTheDeadline": ("test_the_deadline_holds", "outlives the deadline"),
    "TestDoesNotSayItWasSent": ("test_the_deadline_holds", r"call context.sent\(\) just before"),
    "TestSendsAgain": ("test_failures_are_known_errors", "the request was sent 2 times"),
    "TestLetsTheVendorSpeak": ("test_failures_are_known_errors", "HTTPStatusError escaped"),
    "TestKeyInAnError": ("test_failures_are_known_errors", "the key is in the error"),
    "TestNobodyIsNotAnError": ("test_nobody_listens", "expected Unavailable, not OutcomeUnknown"),
    "TestPaysForResuming": ("test_a_job_is_resumed", "1 paid requests were planned and 2 were"),
    "TestForgetsTheConversation": ("test_a_conversation_goes_on", "Outcome.state is empty"),
    "TestOneDiceForTheBatch": (
        "test_seeds_mean_the_same_in_any_batch",
        "is not the picture of seed=8",
    ),
}
"""Every plug-in of plugins/broken.py: the test that it fails, and what that says."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the plug-in's tests and those that break it, and the site it is installed in."""
    home = tmp_path_factory.mktemp("outside")
    folder = home / "webui"
    shutil.copytree(PLUGINS / "webui", folder)
    shutil.copy(PLUGINS / "broken.py", folder)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    ran = _ran([*pip, *offline, "--target", str(home / "site"), str(folder)], folder)
    assert ran.returncode == 0, ran.stderr
    (folder / "diptych_webui.py").unlink()  # what is tested is what was installed
    return folder


def _ran(command, folder):
    path = os.pathsep.join([str(folder.parent / "site"), str(folder)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def _pytest(folder, *what):
    return _ran([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what], folder)


def test_an_outside_plugin_passes(installed):
    ran = _pytest(installed, "test_webui.py")
    assert ran.returncode == 0, ran.stdout
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) > 50


def test_an_outside_plugin_is_listed(installed):
    command = (
        "import diptych; print([each for each in diptych.providers() if each.name == 'webui'])"
    )
    ran = _ran([sys.executable, "-c", command], installed)
    assert "distribution='diptych-webui', version='0.1.0', problem=None" in ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def verdicts(installed):
    """For each broken plug-in the complaints of the test that it must fail."""
    report = installed / "report.xml"
    chosen = [f"broken.py::{name}::{test}" for name, (test, _) in BREAKS.items()]
    ran = _pytest(installed, f"--junitxml={report}", *chosen)
    assert report.exists(), ran.stderr + ran.stdout
    complaints: dict[str, list[str]] = {name: [] for name in BREAKS}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname").rpartition(".")[2]
        complaints[name] += [each.get("message") for each in case.iter("failure")]
    return complaints


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_plugin_fails(verdicts, name):
    """The complaint is short enough to be read, and says what is wrong."""
    test, said = BREAKS[name]
    assert verdicts[name], f"{test} lets {name} pass"
    assert any(re.search(said, each) for each in verdicts[name]), verdicts[name]


def test_an_outcome_may_say_what_came_so_far(installed):
    ran = _pytest(installed, "broken.py::TestSaysWhatCameSoFar", "-k", "its_outcome or paid_once")
    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


def test_every_test_of_the_suite_can_fail():
    standard = {name for name in dir(ProviderSuite) if name.startswith("test_")}
    assert {test for test, _ in BREAKS.values()} == standard


class Stripes(Provider):
    """A model of this machine that paints stripes; all that the suite needs is the class."""

    name = "stripes"
    local = True

    def cards(self):
        options = {"n": Option(), "size": Option(), "aspect": Option(), "seed": Option()}
        plain = ModelCard(
            ref="stripes/plain",
            paradigm=Paradigm.UNKNOWN,
            options=options,
            sizes=Sizes(kind="free", max_edge=64),
            source="this file",
        )
        return [plain]

    def card(self, model):
        from diptych.errors import UnknownModel

        if model != "plain":
            raise UnknownModel(f"there is no model {model!r}")
        return self.cards()[0]

    def plan(self, request, card, state):
        payload = {"prompt": request.prompt, "n": request.n}
        seeds: tuple[int, ...] = ()
        if request.seed is not None:
            payload["seed"] = request.seed
            seeds = tuple(range(request.seed, request.seed + request.n))
        if request.geometry.size is not None:
            payload["size"] = list(request.geometry.size)
        if request.extra:
            from diptych.errors import UnsupportedOption

            raise UnsupportedOption("stripes have no parameters of their own", option="extra")
        call = Call(
            operation="paint",
            method="local",
            target="stripes",
            payload=payload,
            images=request.n,
            seeds=seeds,
        )
        return Plan(model=card.ref, mode="generate", calls=(call,), request=request)

    async def run(self, call, context):
        from diptych.provider import Outcome

        first = call.payload.get("seed", 0)
        size = tuple(call.payload.get("size", (32, 32)))
        yield Outcome(images=tuple(_stripes(size, first + k) for k in range(call.images)))


def _stripes(size, seed):
    import io

    import PIL.Image

    from diptych import Image

    colours = [(seed * 37 % 256, 90, 200), (240, seed * 91 % 256, 60)]
    pattern = PIL.Image.new("RGB", (1, 2))
    pattern.putdata(colours)
    file = io.BytesIO()
    pattern.resize(size, PIL.Image.Resampling.NEAREST).save(file, "PNG")
    return Image.of(file.getvalue())


class TestStripes(ProviderSuite):
    provider = Stripes
    run_models = ("stripes/plain",)


def test_a_standard_test_is_not_replaced_in_silence():
    with pytest.raises(TypeError, match=r"test_no_option_is_dropped replaces a standard test"):

        class TestLenient(ProviderSuite):
            provider = Stripes
            test_no_option_is_dropped = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"mark the replacement @pytest.mark.xfail\(reason="):

        class TestSkipping(ProviderSuite):
            provider = Stripes

            @pytest.mark.xfail
            def test_seeds_count_up(self, case):
                raise NotImplementedError


def test_a_standard_test_is_replaced_with_a_reason():
    class TestHonest(ProviderSuite):
        provider = Stripes

        @pytest.mark.xfail(reason="stripes know no seeds")
        def test_seeds_count_up(self):
            raise NotImplementedError

    assert TestHonest.cases()
