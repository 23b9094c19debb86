"""Naming a class of ImageNet."""

from __future__ import annotations

import pytest
from diptych_autoregressive.imagenet import CLASSES, class_name, find

from diptych.errors import InvalidInput


@pytest.mark.parametrize(
    ("label", "number"),
    [
        (0, 0),
        ("999", 999),
        ("golden retriever", 207),
        ("Golden Retriever", 207),
        ("a golden_retriever", 207),
        ("tench", 0),
        ("Carassius auratus", 1),
        ("toilet paper", 999),
        ("giant panda", 388),
        ("missile", 657),
        ("construction crane", 517),
    ],
)
def test_numbers_and_names(label, number):
    assert find(label) == number


def test_all_but_three_names_that_two_classes_share_lead_to_their_class():
    shared: dict[str, list[int]] = {}
    for number in range(CLASSES):
        try:
            found = find(class_name(number))
        except InvalidInput:
            shared.setdefault(class_name(number).lower(), []).append(number)
        else:
            assert found == number
    assert shared == {"crane": [134, 517], "cardigan": [264, 474], "maillot": [638, 639]}


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (1000, "0 to 999"),
        (-1, "0 to 999"),
        (True, "number of a class"),
        (2.5, "number of a class"),
        (None, "number of a class"),
        ("golden retreiver", "'golden retriever' (207)"),
        ("fox", "'red fox' (277)"),
        ("crane", "134 is crane, crane bird; 517 is"),
        ("panda", "388 is giant panda"),
        ("a fox reading a book", "near it: 'red fox' (277), 'comic book' (917)"),
        ("zzz", 'try "golden retriever" or 207'),
    ],
)
def test_what_is_no_class_is_refused_with_a_hint(label, said):
    with pytest.raises(InvalidInput) as raised:
        find(label)
    assert said in str(raised.value)


def test_a_model_of_other_classes_takes_numbers_alone():
    assert find(9, classes=10) == 9
    with pytest.raises(InvalidInput, match="0 to 9"):
        find(10, classes=10)
    with pytest.raises(InvalidInput, match="no names here"):
        find("tench", classes=10)
