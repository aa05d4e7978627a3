"""Wrong `pretrain` blocks are refused by their dotted path."""

import pytest

from registry.base import UserError
from tests.sccs.training.tiny_pretraining import TINY, block


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"step": 5}, "pretrain.step: Extra inputs"),
        ({"architecture": {**TINY, "window": 21}}, "pretrain.architecture: .*window 21 is not a multiple of patch 5"),
        (
            {"architecture": {**TINY, "decoder_width": 18}},
            "decoder_width 18 must be a multiple of 4 and of decoder_heads",
        ),
        ({"scale": [1.5, 1.0]}, "scale: .* is not .smallest, largest"),
        ({"data": []}, "pretrain.data: "),
        ({"mask": 1.0}, "pretrain.mask: "),
    ],
)
def test_wrong_blocks_are_the_users_mistake(wrong, words):
    with pytest.raises(UserError, match=words):
        block(**wrong)
