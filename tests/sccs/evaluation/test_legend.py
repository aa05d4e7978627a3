"""Codes of classes in files."""

import pytest

from sccs.evaluation.legend import taught_codes

DATA = {0: "rest", 2: "nucleus"}


@pytest.mark.parametrize(
    ("names", "taught", "codes"),
    [
        (["dark", "bright"], {7: "dark", 4: "bright"}, [7, 4]),  # not in the order of letters
        (["Dark", "nucleus"], {9: "dark", 5: "nucleus"}, [9, 2]),  # a class of the data keeps its code
        (["dark"], {2: "dark"}, [3]),  # the code is one of the data's
        (["dark"], {6: "dark"}, [7]),  # 6 is ignored in the data; so is what follows the data's codes
        (["axon", "dark"], {3: "dark"}, [4, 3]),  # one without a code follows
        (["dark"], {3: "gone", 8: "dark"}, [8]),  # a name that is no class any more holds no code
        (["dark", "axon"], None, [4, 3]),
    ],
)
def test_a_class_has_the_code_that_it_was_painted_with(names, taught, codes):
    ignore = 6 if taught == {6: "dark"} else None
    data = {**DATA, 5: "glia"} if ignore else DATA
    found, legend = taught_codes(names, [None] * len(names), data, ignore, taught)
    assert found.tolist() == codes
    assert {code: legend.names[code].lower() for code in codes} == dict(zip(codes, map(str.lower, names)))
