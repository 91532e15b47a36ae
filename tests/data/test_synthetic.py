"""The generated corpus: its form, and which evidence each modality has."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from rpcl_jax.data.dialogue import (
    EMOTIONS,
    NEUTRAL,
    check_dialogue,
    check_unique,
)
from rpcl_jax.data.synthetic import (
    AUDIO_DIM,
    LOOKS,
    REMARKS,
    TOPICS,
    VISION_DIM,
    generate_corpus,
)


@pytest.fixture(scope="module")
def generated():
    return generate_corpus(0, sizes={"train": 400, "dev": 20, "test": 150})


def _contents(dialogues):
    """Returns everything but the ids, which are numbered across splits."""
    return [
        ([(u.speaker, u.text, u.emotion) for u in dialogue.utterances], dialogue.pairs)
        for dialogue in dialogues
    ]


def _features(table, dialogues):
    return table.rows([u.id for dialogue in dialogues for u in dialogue.utterances]).values


def _topic(text):
    words = set(text.lower().replace(",", " ").strip(".?!").split())
    topics = [k for k, topic in enumerate(TOPICS) if words & set(topic.nouns)]
    assert len(topics) <= 1, text
    return topics[0] if topics else None


def _said_by(text, templates):
    nouns = [noun for topic in TOPICS for noun in topic.nouns]
    return text in {template.format(noun) for template in templates for noun in nouns}


def test_a_corpus_depends_on_its_seed_only():
    sizes = {"train": 5, "test": 3}
    first, first_tables = generate_corpus(3, sizes=sizes)
    again, again_tables = generate_corpus(3, sizes=sizes)
    other, other_tables = generate_corpus(4, sizes=sizes)
    assert first == again
    assert _contents(first["train"]) != _contents(other["train"])
    assert _contents(first["train"])[:3] != _contents(first["test"])
    for modality in ("audio", "vision"):
        values = first_tables[modality].values
        assert np.array_equal(values, again_tables[modality].values)
        assert not np.array_equal(values[:5], other_tables[modality].values[:5])


def test_splits_are_independent_and_larger_ones_extend_smaller_ones():
    small, small_tables = generate_corpus(3, sizes={"train": 4, "dev": 6})
    large, large_tables = generate_corpus(3, sizes={"dev": 9, "test": 2, "train": 11})
    for split in small:
        n = len(small[split])
        assert _contents(small[split]) == _contents(large[split][:n])
        for modality in ("audio", "vision"):
            assert np.array_equal(
                _features(small_tables[modality], small[split]),
                _features(large_tables[modality], large[split][:n]),
            )


def test_conversations_are_valid_and_as_documented(generated):
    corpus, _ = generated
    everything = [dialogue for split in corpus.values() for dialogue in split]
    check_unique(everything, "generated")
    assert [len(split) for split in corpus.values()] == [400, 20, 150]
    for number, dialogue in enumerate(everything, 1):
        check_dialogue(dialogue, "generated")
        assert dialogue.id == str(number)
        assert [u.id for u in dialogue.utterances] == [
            f"dia{number}utt{t}" for t in range(1, len(dialogue.utterances) + 1)
        ]
        assert 5 <= len(dialogue.utterances) <= 14
        assert 2 <= len({u.speaker for u in dialogue.utterances}) <= 4
        assert list(dialogue.pairs) == sorted(set(dialogue.pairs))
        emotional = {t for t, u in enumerate(dialogue.utterances) if u.emotion != NEUTRAL}
        assert 1 <= len(emotional) <= 3
        assert {i for i, _ in dialogue.pairs} == emotional
        assert all("{" not in u.text and u.text[-1] in ".?!" for u in dialogue.utterances)
    assert {u.emotion for d in everything for u in d.utterances} == set(EMOTIONS)


def test_distances_between_emotion_and_cause(generated):
    corpus, _ = generated
    distances = np.array([i - j for dialogue in corpus["train"] for i, j in dialogue.pairs])
    assert 0.8 < distances.mean() < 1.6
    assert 0.02 < (distances < 0).mean() < 0.07
    assert 0.1 < (distances == 0).mean() < 0.25
    per_emotion = [
        sum(i == row for i, _ in dialogue.pairs)
        for dialogue in corpus["train"]
        for row in {i for i, _ in dialogue.pairs}
    ]
    assert set(per_emotion) == {1, 2}


def test_every_cause_has_the_topic_of_its_emotion_and_distractors_beside_it(generated):
    corpus, _ = generated
    beside = []
    for dialogue in corpus["train"]:
        topics = [_topic(u.text) for u in dialogue.utterances]
        in_pairs = {t for pair in dialogue.pairs for t in pair}
        for i, j in dialogue.pairs:
            assert topics[i] is not None
            assert topics[i] == topics[j]
            distractors = [
                t for t in range(len(topics)) if topics[t] == topics[j] and t not in in_pairs
            ]
            assert distractors
            beside.append(min(abs(t - j) for t in distractors))
    assert np.mean(np.array(beside) == 1) > 0.6


def test_some_events_have_no_reaction(generated):
    corpus, _ = generated
    stems = {event.split("{}")[0] for topic in TOPICS for event in topic.events}
    stems -= {fact.split("{}")[0] for topic in TOPICS for fact in topic.facts}
    causes = [
        any(j == t for _, j in dialogue.pairs)
        for dialogue in corpus["train"]
        for t, u in enumerate(dialogue.utterances)
        if u.text.startswith(tuple(stems))
    ]
    assert 0.1 < 1 - np.mean(causes) < 0.5


@pytest.mark.parametrize(("templates", "column"), [(REMARKS, 0), (LOOKS, 1)])
def test_text_alone_does_not_determine_all_emotions_and_causes(generated, templates, column):
    corpus, _ = generated
    told = [
        t in {pair[column] for pair in dialogue.pairs}
        for dialogue in corpus["train"]
        for t, u in enumerate(dialogue.utterances)
        if _said_by(u.text, templates)
    ]
    assert len(told) > 200
    assert 0.1 < np.mean(told) < 0.5


def test_feature_tables(generated):
    corpus, tables = generated
    n = sum(len(dialogue.utterances) for split in corpus.values() for dialogue in split)
    for modality, dimension in (("audio", AUDIO_DIM), ("vision", VISION_DIM)):
        table = tables[modality]
        assert table.values.shape == (n, dimension)
        assert table.values.dtype == np.float32
        assert 0.8 < table.values.std() < 1.2
        assert sorted(table.row_of_id.values()) == list(range(n))
        for split, dialogues in corpus.items():
            table.check_covers(dialogues, split)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "modality", "useless"), [(0, "audio", "vision"), (1, "vision", "audio")]
)
def test_audio_reveals_emotions_and_vision_reveals_causes(generated, column, modality, useless):
    corpus, tables = generated
    words = CountVectorizer(ngram_range=(1, 2)).fit(
        u.text for dialogue in corpus["train"] for u in dialogue.utterances
    )

    def average_precision(with_modality):
        inputs, labels = {}, {}
        for split in ("train", "test"):
            inputs[split] = words.transform(
                u.text for dialogue in corpus[split] for u in dialogue.utterances
            )
            if with_modality:
                features = _features(tables[with_modality], corpus[split])
                inputs[split] = scipy.sparse.hstack([inputs[split], features]).tocsr()
            labels[split] = [
                t in {pair[column] for pair in dialogue.pairs}
                for dialogue in corpus[split]
                for t in range(len(dialogue.utterances))
            ]
        model = LogisticRegression(C=0.3, max_iter=1000).fit(inputs["train"], labels["train"])
        scores = model.predict_proba(inputs["test"])[:, 1]
        return average_precision_score(labels["test"], scores)

    text = average_precision(None)
    assert average_precision(modality) > text + 0.05
    assert average_precision(modality) > average_precision(useless) + 0.05


def test_audio_prototypes_do_not_depend_on_the_seed():
    def means(seed):
        corpus, tables = generate_corpus(seed, sizes={"train": 150})
        emotions = np.array([u.emotion for d in corpus["train"] for u in d.utterances])
        audio = _features(tables["audio"], corpus["train"])
        return np.array([audio[emotions == emotion].mean(0) for emotion in EMOTIONS])

    distances = np.linalg.norm(means(1)[:, None] - means(2)[None], axis=-1)
    assert distances.argmin(1).tolist() == list(range(len(EMOTIONS)))
