"""A generated corpus of labelled conversations with audio and vision features.

A conversation consists of threads. A thread has one topic: something happens (the cause), somebody
reacts to it (the emotion), and bystanders make neutral statements about the same topic. Part of the
evidence is missing from the text. Some reactions are worded like neutral remarks, so that only the
audio features reveal the emotion; some causes are worded like bystanders ("Look at the dog."), so
that only the vision features reveal that something happens. Some events cause no reaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rpcl_jax.data.dialogue import EMOTIONS, NEUTRAL, Dialogue, Utterance
from rpcl_jax.data.features import FeatureTable

SIZES = {"train": 600, "dev": 100, "test": 150}

AUDIO_DIM = 32
VISION_DIM = 48


class Topic(NamedTuple):
    """The words and sentences of a topic."""

    nouns: list[str]  # two synonyms
    events: list[str]  # one per non-neutral emotion, in the order of EMOTIONS
    facts: list[str]  # neutral


_TEXTS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
TOPICS = [Topic(**topic) for topic in _TEXTS["topics"]]
REACTIONS = _TEXTS["reactions"]  # whose words express the emotion
TAILS = _TEXTS["tails"]  # appended to an event that is its own reaction
REMARKS = _TEXTS["remarks"]  # made with or without emotion, which only the audio features show
LOOKS = _TEXTS["looks"]  # said whether something happens or not, which only the vision shows
SMALL_TALK, NAMES = _TEXTS["small_talk"], _TEXTS["names"]

EMOTION_RATES = (0.2, 0.1, 0.1, 0.25, 0.15, 0.2)  # in the order of EMOTIONS, without neutral
MIN_LENGTH, MAX_LENGTH = 5, 14
VOICE_ONLY = 0.4  # fraction of the reactions
PICTURE_ONLY = 0.35  # fraction of the causes
SELF_CAUSED, CAUSED_LATER, TWO_CAUSES = 0.2, 0.05, 0.2  # fractions of the reactions
MISLEADING = 0.04  # fraction of the audio and of the vision features
SIGNAL = 0.4  # standard deviation of a prototype; with the noise, features have unit variance


@dataclass(eq=False)
class _Turn:
    """A mutable utterance, compared by identity, so that causes survive reordering."""

    text: str
    emotion: str = NEUTRAL
    happens: bool = False
    causes: list["_Turn"] = field(default_factory=list)


def _pick(rng: np.random.Generator, options: Sequence) -> Any:
    return options[int(rng.integers(len(options)))]


def _thread(rng: np.random.Generator, topic: Topic, reacts: bool) -> list[_Turn]:
    """Returns the turns of one topic in order: causes, reaction and one to three bystanders."""
    decks = {
        name: [lines[k] for k in rng.permutation(len(lines))]
        for name, lines in (("facts", topic.facts), ("looks", LOOKS), ("remarks", REMARKS))
    }

    def say(name: str) -> str:  # each line at most once per thread
        text = decks[name].pop().format(_pick(rng, topic.nouns))
        return text if text[-1] in ".?!" else text + "."

    emotion = EMOTIONS[1 + rng.choice(6, p=EMOTION_RATES)]
    event = topic.events[EMOTIONS.index(emotion) - 1].format(_pick(rng, topic.nouns))
    voice_only = rng.random() < VOICE_ONLY
    kind = rng.random()
    if not reacts:
        turns = [_Turn(f"{event}.", happens=True), _Turn(say("remarks"))]
    elif kind < SELF_CAUSED:
        text = f"{event}." if voice_only else f"{event}, {TAILS[emotion]}!"
        reaction = _Turn(text, emotion, happens=True)
        reaction.causes.append(reaction)
        turns = [reaction]
    else:
        told = say("looks") if rng.random() < PICTURE_ONLY else f"{event}."
        turns = [_Turn(told, happens=True)]
        if rng.random() < TWO_CAUSES:
            told = f"{event}." if told != f"{event}." else say("looks")
            turns.insert(rng.integers(2), _Turn(told, happens=True))
        worded = _pick(rng, REACTIONS[emotion]).format(_pick(rng, topic.nouns))
        reaction = _Turn(say("remarks") if voice_only else worded, emotion, causes=turns.copy())
        later = kind < SELF_CAUSED + CAUSED_LATER
        turns.insert(0 if later else len(turns), reaction)
    for _ in range(rng.integers(1, 4)):
        bystander = _Turn(say(_pick(rng, ("facts", "looks", "looks", "remarks"))))
        place = rng.choice(["before", "inside", "after"], p=[0.4, 0.2, 0.4])
        inside = rng.integers(1, len(turns)) if len(turns) > 1 else 0
        turns.insert({"before": 0, "inside": inside, "after": len(turns)}[str(place)], bystander)
    return turns


def _conversation(rng: np.random.Generator) -> list[_Turn]:
    """Returns one to three threads with a reaction, up to two without, and small talk."""
    topics = [TOPICS[k] for k in rng.permutation(len(TOPICS))]
    reacting = [True] * rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])
    silent = [False] * rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])
    threads: list[list[_Turn]] = []
    for reacts in reacting + silent:
        thread = _thread(rng, topics.pop(), reacts)
        if sum(map(len, threads)) + len(thread) <= MAX_LENGTH:
            threads.append(thread)
    turns: list[_Turn] = []
    for k in rng.permutation(len(threads)):
        # Some topics overlap: the last turn of one then follows the first turn of the next.
        cut = len(turns) - 1 if turns and rng.random() < 0.3 else len(turns)
        turns = [*turns[:cut], threads[k][0], *turns[cut:], *threads[k][1:]]
    small_talk = [SMALL_TALK[k] for k in rng.permutation(len(SMALL_TALK))]
    wanted = max(MIN_LENGTH, min(MAX_LENGTH, len(turns) + int(rng.integers(3))))
    while len(turns) < wanted:
        turns.insert(rng.choice([0, len(turns)]), _Turn(small_talk.pop()))
    return turns


def _speakers(rng: np.random.Generator, n: int) -> list[str]:
    """Returns n names of two to four speakers, all of whom speak, rarely twice in a row."""
    names = rng.permutation(NAMES)[: rng.integers(2, 5)].tolist()
    order = names.copy()
    while len(order) < n:
        others = [name for name in names if name != order[-1]]
        order.append(order[-1] if rng.random() < 0.1 else _pick(rng, others))
    return order


def _features(rng: np.random.Generator, turns: Sequence[_Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Returns audio [n, AUDIO_DIM] and vision [n, VISION_DIM], prototypes plus noise."""
    # Audio has a prototype per emotion; vision has two, of whether something happens in the turn.
    # The prototypes do not depend on the corpus seed, so that models transfer between corpora.
    world = np.random.default_rng(0)
    rows = []
    for labels, classes, dim in (
        ([EMOTIONS.index(turn.emotion) for turn in turns], len(EMOTIONS), AUDIO_DIM),
        ([int(turn.happens) for turn in turns], 2, VISION_DIM),
    ):
        prototypes = world.normal(0.0, SIGNAL, (classes, dim))
        misled = rng.random(len(turns)) < MISLEADING
        shown = np.where(misled, rng.integers(classes, size=len(turns)), labels)
        noise = rng.normal(0.0, np.sqrt(1.0 - SIGNAL**2), (len(turns), dim))
        rows.append((prototypes[shown] + noise).astype(np.float32))
    return rows[0], rows[1]


def generate_corpus(
    seed: int, *, sizes: Mapping[str, int] = SIZES
) -> tuple[dict[str, list[Dialogue]], dict[str, FeatureTable]]:
    """Generates labelled conversations and their audio and vision features.

    The same seed gives the same corpus. The content of a split depends only on the seed and the
    split's name: a larger split starts with the conversations of a smaller one, and the sizes of
    other splits change only its ids, which are numbered across splits.

    Returns:
      The conversations by split, of 5 to 14 utterances each; and the tables `"audio"`
      [utterances, AUDIO_DIM] and `"vision"` [utterances, VISION_DIM] over all splits, float32, of
      about unit variance. Utterance ids are `dia<D>utt<U>`, both numbered from 1.
    """
    corpus: dict[str, list[Dialogue]] = {}
    ids: list[str] = []
    audio: list[np.ndarray] = []
    vision: list[np.ndarray] = []
    for split, size in sizes.items():
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(split.encode())))
        corpus[split] = []
        for _ in range(size):
            number = len(audio) + 1
            turns = _conversation(rng)
            speakers = _speakers(rng, len(turns))
            utterances = tuple(
                Utterance(f"dia{number}utt{t}", speaker, turn.text, turn.emotion)
                for t, (turn, speaker) in enumerate(zip(turns, speakers, strict=True), 1)
            )
            pairs = sorted(
                (i, turns.index(cause)) for i, turn in enumerate(turns) for cause in turn.causes
            )
            corpus[split].append(Dialogue(str(number), utterances, tuple(pairs)))
            ids.extend(utterance.id for utterance in utterances)
            heard, seen = _features(rng, turns)
            audio.append(heard)
            vision.append(seen)
    row_of_id = {utterance_id: row for row, utterance_id in enumerate(ids)}
    return corpus, {
        name: FeatureTable(np.concatenate(rows), row_of_id, {"extractor": "generated"}, name)
        for name, rows in (("audio", audio), ("vision", vision))
    }
