"""The key pair of a run: what it generates is signed by it.

`key.pem` is private (PKCS 8, mode 0600) and `key.pub` public (PEM), both as OpenSSL reads them. A
signature proves that whoever held `key.pem` signed exactly these bytes. It does not prove who that
was, when it was, or that the volumes came out of the run's generator: `fastgan replay` shows that.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastgan.durable import put_file
from fastgan.errors import CorruptFile, StateError, UnsafeFile
from fastgan.guarded import open_plain, read_plain

__all__ = ["PRIVATE", "PUBLIC", "holds", "make_key", "public_key", "read_public", "sign"]

PRIVATE, PUBLIC = "key.pem", "key.pub"
_LONGEST = 4096
"""Bytes of a key file; an Ed25519 key has 120."""


def make_key(folder: Path) -> None:
    """Make the pair of a run that has none.

    Raises:
        BadFile, ResourceLimit: the file system refuses, or there is a key already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    put_file(folder / PRIVATE, [private], mode=0o600)
    put_file(folder / PUBLIC, [public])


def public_key(folder: Path) -> str | None:
    """The public key of a run, 64 hex digits; None of a run without one.

    Raises:
        CorruptFile: the file holds no Ed25519 key.
        UnsafeFile, BadFile: it is no regular file, or cannot be read.
    """
    path = folder / PUBLIC
    return read_public(path) if os.path.lexists(path) else None


def read_public(path: Path, *, follow: bool = False) -> str:
    """The key in a `key.pub`, 64 hex digits; `follow`: of a path that the user typed.

    Raises:
        CorruptFile, UnsafeFile, BadFile: as `public_key`; also that it is missing.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = read_plain(path, _LONGEST, follow=follow)
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise CorruptFile(f"{path}: no public key in PEM; copy it again from the run") from None
    if not isinstance(key, Ed25519PublicKey):
        raise CorruptFile(f"{path}: no Ed25519 key, which every run has")
    return key.public_bytes_raw().hex()


def sign(folder: Path, content: bytes) -> bytes | None:
    """64 bytes of signature by the run's private key; None where the folder does not hold it.

    Raises:
        UnsafeFile: others may read the private key.
        CorruptFile: it is no Ed25519 key.
        StateError: it is not the private part of the folder's public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = folder / PRIVATE
    if not os.path.lexists(path):
        return None
    with open_plain(path, most=_LONGEST) as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise UnsafeFile(
                f"{path}: others may read the run's private key: chmod 600 it, or remove it and "
                "what is generated stays unsigned"
            )
        pem = file.read(_LONGEST)
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise CorruptFile(
            f"{path}: no Ed25519 key in PEM; copy it again, or remove it and what is generated "
            "stays unsigned"
        )
    if key.public_key().public_bytes_raw().hex() != public_key(folder):
        raise StateError(f"{path}: not the private part of {PUBLIC} beside it; copy both again")
    return key.sign(content)


def holds(public: str, signature: bytes, content: bytes) -> bool:
    """Whether a signature of exactly these bytes was made by the private part of a key.

    Args:
        public: 64 hex digits.
        signature: 64 bytes; of any other length it does not hold.
        content: what was signed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
