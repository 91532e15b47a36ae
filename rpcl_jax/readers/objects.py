"""Functions shared by the readers of JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpcl_jax.errors import InputError


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON file: a list of conversations, a single one, or one per line.

    Raises:
      InputError: the file is missing, not UTF-8 or not JSON, or a key of an object is duplicated.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    try:
        parsed = _parse(text)
        return parsed if isinstance(parsed, list) else [parsed]
    except json.JSONDecodeError as error:
        # "Extra data" means that another object follows the first: one conversation per line.
        if not (error.msg == "Extra data" and text.lstrip().startswith("{")):
            raise _not_json(path, error.lineno, error) from error
    except (ValueError, RecursionError) as error:  # duplicate key, huge number, deep nesting
        raise InputError(f"{path}: cannot be read ({error}); correct it") from error
    objects = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                objects.append(_parse(line))
            except json.JSONDecodeError as error:
                raise _not_json(path, number, error) from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}:{number}: cannot be read ({error}); fix it") from error
    return objects


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object; the json module would silently keep the last of two values."""
    keys = [key for key, _ in items]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{repeated[:40]!r} is duplicated")
    return dict(items)


def _not_json(path: Path, line: int, error: json.JSONDecodeError) -> InputError:
    return InputError(
        f"{path}: line {line}, column {error.colno} is not JSON ({error.msg}); give a list of "
        "conversations or one conversation per line"
    )


def field(item: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Returns `item[key]` after checking it.

    Args:
      item: an object of a JSON file.
      key: the field.
      kind: its type or types; bool is not accepted as int.
      where: file and place, with which the message starts.

    Raises:
      InputError: `item` is not an object, or the field is missing, blank or of another type.
    """
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected an object with {key!r} but found {str(item)[:40]!r}")
    value = item.get(key)
    if value is None:
        raise InputError(f"{where}: it has no {key!r}; add it")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: {key!r} cannot be {str(value)[:40]!r}; correct it")
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{where}: its {key!r} is blank; fill it in")
    return value
