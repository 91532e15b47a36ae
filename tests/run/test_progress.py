"""How far a prediction is, without a terminal."""

import re

from rpcl_jax.run import progress


def test_a_line_from_time_to_time(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with progress.progress_bar(8, "B") as advance:
        advance(5, 2)
        advance(5, 9)
    with progress.progress_bar(3, " files") as advance:
        advance(7, 2)
    with progress.progress_bar(9, " utterances") as advance:
        advance(4, 6)
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.split(" utter")[0] for line in lines] == ["25%, 5", "100%, 10", "2 of 3 files, 7"]
    assert re.fullmatch(r"6 of 9 utterances, \d+ utterances/s", last)
