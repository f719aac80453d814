"""Pseudonyms: user ids of a data set that is published, which only the owner of a key could trace back.

The key lies beside the prepared data and is never uploaded; the same key gives the same pseudonyms, so a later version
of the data fits the earlier one. Without the key nobody can, the owner included.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

KEY_FILE = ".pseudonym-key"
KEY_BYTES = 32
LENGTH = 16
"""Hexadecimal digits of a pseudonym; among a hundred million users two meet with probability 0.0003."""


def key_of(folder: Path) -> bytes:
    """The key of a prepared data set, drawn when it is first asked for and readable by its owner alone.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the file holds no key.
    """
    path = folder / KEY_FILE
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes, expected a key of {KEY_BYTES}. Remove it to draw another.")
    return key


def pseudonyms(user_ids: Iterable[str], key: bytes) -> dict[str, str]:
    """A pseudonym for each user id.

    Raises:
        ValueError: if two users got the same one.
    """
    found = {
        user: f"user-{hmac.new(key, user.encode('utf-8', 'surrogatepass'), hashlib.sha256).hexdigest()[:LENGTH]}"
        for user in user_ids
    }
    if len(set(found.values())) < len(found):
        raise ValueError(f"Two users got one pseudonym. Remove {KEY_FILE} from the data folder to draw another key.")
    return found
