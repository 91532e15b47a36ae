"""The tokenizer of a text encoder: from texts to the numbers of their word pieces.

Transformers, which is slow to import, is needed for none of this.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
# The classes of Transformers that take `tokenizer.json` as it is, and those that make it agree
# with `tokenizer_config.json` first.
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
BERT = tuple(
    f"{family}Tokenizer{fast}"
    for family in ("Bert", "DistilBert", "Electra", "MPNet")
    for fast in ("", "Fast")
)


class WordPieces(NamedTuple):
    """A tokenizer, made by `word_pieces`.

    `special` has the special pieces by their names in Transformers: "cls_token" and "sep_token",
    which begin and end a segment, and often "unk_token", "pad_token" and "mask_token".
    """

    backend: Tokenizer
    special: Mapping[str, str]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the word pieces of each text, without special ones."""
        return [e.ids for e in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def special_id(self, name: str) -> int | None:
        """Returns the number of the special piece of this name, or None."""
        piece = self.special.get(name)
        return None if piece is None else self.backend.token_to_id(piece)

    @property
    def unknown_id(self) -> int | None:
        """Returns the number of the piece for unknown text, or None."""
        named = self.special_id("unk_token")
        if named is None and (piece := getattr(self.backend.model, "unk_token", None)):
            return self.backend.token_to_id(piece)
        return named

    @property
    def size(self) -> int:
        """Returns the number of pieces, special ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer where `read_word_pieces` and Transformers' AutoTokenizer read it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / FILE))
        config = {"tokenizer_class": GENERIC[0], **self.special}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def word_pieces(backend: Tokenizer, special: Mapping[str, str]) -> WordPieces:
    """Returns a tokenizer without cutting and padding, whatever its file asked for."""
    backend.no_truncation()
    backend.no_padding()
    return WordPieces(backend, dict(special))


def read_word_pieces(folder: Path) -> WordPieces | None:
    """Reads the tokenizer in a folder; None if its class is one that Transformers must interpret.

    The tokenizers library raises a bare Exception for a damaged file.
    """
    path = folder / CONFIG
    if not (path.is_file() and (folder / FILE).is_file()):
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    kind = config.get("tokenizer_class")
    if kind not in GENERIC and not (kind in BERT and _agrees_with_bert(folder, config)):
        return None
    special = {
        name: _content(piece)
        for name, piece in config.items()
        if name.endswith("_token") and isinstance(piece, str | dict)
    }
    return word_pieces(Tokenizer.from_file(str(folder / FILE)), special)


def _content(piece: Any) -> Any:
    """Returns a piece; older versions of Transformers write an object with its flags."""
    return piece["content"] if isinstance(piece, dict) else piece


def _agrees_with_bert(folder: Path, config: Mapping[str, Any]) -> bool:
    """Returns whether BERT's class in Transformers would change nothing in `tokenizer.json`."""
    written = json.loads((folder / FILE).read_text(encoding="utf-8"))
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
        "strip_accents": config.get("strip_accents"),
        "lowercase": config.get("do_lower_case", True),
    }
    model = {
        "type": "WordPiece",
        "unk_token": config.get("unk_token"),
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    own = {key: value for key, value in written["model"].items() if key != "vocab"}
    named = {str(_content(p)) for name, p in config.items() if name.endswith("_token") and p}
    known = {str(piece["id"]): piece["content"] for piece in written["added_tokens"]}
    more = folder / "special_tokens_map.json"  # of older versions of Transformers
    mapped = json.loads(more.read_text(encoding="utf-8")) if more.exists() else {}
    required = {f"{name}_token" for name in ("unk", "sep", "pad", "cls", "mask")}
    others = ("additional_special_tokens", "extra_special_tokens", "split_special_tokens")
    return (
        own == model
        and written.get("normalizer") == normalizer
        and written.get("pre_tokenizer") == {"type": "BertPreTokenizer"}
        and required <= config.keys()
        and named <= set(known.values())
        and config.get("added_tokens_decoder", {}).keys() <= known.keys()
        and not any(config.get(name) for name in (*others, "model_specific_special_tokens"))
        and all(_content(config.get(name)) == _content(piece) for name, piece in mapped.items())
        and not (folder / "added_tokens.json").exists()
    )
