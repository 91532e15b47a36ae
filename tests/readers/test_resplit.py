"""New splits: every dialogue once, in the proportions asked for, the same every time."""

import pytest

from rpcl_jax.data.dialogue import Dialogue
from rpcl_jax.errors import InputError
from rpcl_jax.readers.resplit import cut_anew

DIALOGUES = [Dialogue(str(number), ()) for number in range(20)]


def test_cut():
    splits = cut_anew(DIALOGUES, ["6", "2.0", "2"])
    assert {name: len(of) for name, of in splits.items()} == {"train": 12, "dev": 4, "test": 4}
    numbers = [[int(d.id) for d in of] for of in splits.values()]
    assert sorted(number for of in numbers for number in of) == list(range(20))
    assert all(of == sorted(of) for of in numbers), "each split keeps the order of the corpus"
    assert numbers[0] != list(range(12)), "shuffled"
    assert cut_anew(DIALOGUES, ["60", "20", "20"]) == splits


def test_train_and_dev_alone():
    splits = cut_anew(DIALOGUES, ["90", "10"])
    assert {name: len(of) for name, of in splits.items()} == {"train": 18, "dev": 2}
    assert sorted((d for of in splits.values() for d in of), key=DIALOGUES.index) == DIALOGUES


@pytest.mark.parametrize("given", ["1", "1,1,1,1", "1,1,x", "1,1,0", "1,nan,1", "99,1,1"])
def test_bad_proportions(given):
    with pytest.raises(InputError, match=f"--cut={given}: "):
        cut_anew(DIALOGUES[:3], given.split(","))
