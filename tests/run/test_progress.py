"""How far a prediction is, without a terminal."""

from rpcl_jax.run import progress


def test_a_line_from_time_to_time(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with progress.progress(8, "B") as advance:
        advance(5, 2)
        advance(5, 9)
    with progress.progress(3, " files") as advance:
        advance(7, 2)
    assert [line.split(" utter")[0] for line in capsys.readouterr().err.splitlines()] == [
        "25%, 5", "100%, 10", "2 of 3 files, 7"
    ]  # fmt: skip
