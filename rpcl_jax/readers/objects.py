"""What the readers of JSON share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpcl_jax.errors import InputError


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON file: a list of conversations, or one conversation per line.

    Raises:
      InputError: it is not there, not UTF-8 or not JSON, or an object says something twice.
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
        # "Extra data": the first object is whole and another one follows it.
        if not (error.msg == "Extra data" and text.lstrip().startswith("{")):
            raise _not_json(path, error.lineno, error) from error
    except (ValueError, RecursionError) as error:  # a number too long, lists too deep
        raise InputError(f"{path}: cannot be read ({error}); correct it") from error
    objects = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                objects.append(_parse(line))
            except json.JSONDecodeError as error:
                raise _not_json(path, number, error) from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}:{number}: cannot be read ({error})") from error
    return objects


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; JSON itself would silently keep the last of two values."""
    keys = [key for key, _ in items]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{repeated[:40]!r} is there twice")
    return dict(items)


def _not_json(path: Path, line: int, error: json.JSONDecodeError) -> InputError:
    return InputError(
        f"{path}: line {line}, column {error.colno} is not JSON ({error.msg}); give a list of "
        "conversations or one conversation per line"
    )


def field(item: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`item[key]`, which must be there, of the kind, and not blank.

    Args:
      item: an object of a JSON file.
      key: the field.
      kind: the type, or types, that it may have; a bool counts as none.
      where: file and place, the beginning of the message.

    Raises:
      InputError: it is not.
    """
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected an object with {key!r} but found {str(item)[:40]!r}")
    value = item.get(key)
    if value is None:
        raise InputError(f"{where}: it has no {key!r}; add it")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: {key!r} cannot be {str(value)[:40]!r}; correct it")
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{where}: its {key!r} is blank; write what belongs there")
    return value
