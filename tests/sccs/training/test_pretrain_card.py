"""What the model card says of a loss that nobody measured."""

from sccs.training.pretrain_card import encoder_card
from tests.sccs.training.tiny_pretraining import TINY, block


def test_the_card_says_what_was_not_measured():
    facts = {
        "architecture": TINY,
        "data": ["a"],
        "steps": 1,
        "crops": 8,
        "minutes": 0.1,
        "held_out_loss": None,
        "seed": 0,
        "sha256": "0",
    }
    assert "| loss on held-out crops | none" in encoder_card(facts, block())
