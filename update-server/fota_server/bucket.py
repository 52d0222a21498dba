"""Artifacts in a bucket of S3-compatible storage, by obstore; on this machine a cache of those in use.

``<prefix>/ab/<sha256 hex>`` holds an artifact, as below a folder. Every byte that leaves it is checked: an
object becomes a file of the cache only whole, and only if its SHA-256 is its name. Devices are served from
that file, so no slow client holds a connection to the bucket, and one that is away takes nothing from those
who fetch what is here. The cache is no state: whoever deletes it has it filled again.

An upload is verified in the cache's folder and then put in one request, never in parts: the bucket has it
whole or not at all, whoever dies meanwhile, and leaves nothing to abort. Two servers that put the same name
put the same bytes. Credentials come from the environment or the machine's role, as obstore finds them.
"""

import hashlib
import mmap
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from fota_server import artifacts
from fota_server.artifacts import (
    ArtifactsAway,
    ArtifactStore,
    FolderStore,
    Upload,
    missing,
    place,
)
from fota_server.config import ServerConfig
from fota_wire.errors import InputError, VerifyError

PIECE = 4 << 20
"""Bytes of one request to the bucket for a part of an object, and of memory for it."""
FETCHERS = 2
AGAIN_S = 5.0
"""What could not be fetched is not asked for again before this is over, however many devices want it."""
CONNECT_S = 5
_RETRIES = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}
_NOWHERE = "no-artifact-has-this-name"


def open_artifacts(config: ServerConfig) -> ArtifactStore:
    """Return the home of the artifacts of a server: its folder, or the bucket that config.json names."""
    if not config.artifacts:
        return FolderStore(config.data / "artifacts", config.max_artifact, shown=bool(config.front_files))
    cache = FolderStore(config.data / "cache", config.max_artifact, shown=bool(config.front_files))
    return BucketStore(
        config.artifacts,
        cache,
        config.artifacts_cache << 20,
        endpoint=config.artifacts_endpoint,
        region=config.artifacts_region,
    )


class BucketStore:
    """Artifacts below a prefix of a bucket. ``where``: ``s3://bucket/prefix``. ``cache_size``: bytes that
    files in ``cache`` take; one that was just asked for is kept, even if it is larger.
    """

    shared = True

    def __init__(
        self, where: str, cache: FolderStore, cache_size: int, *, endpoint: str = "", region: str = ""
    ) -> None:
        from obstore.store import S3Store

        parts = urlsplit(where)
        self.where, self.folder, self.max_size = where, cache.folder, cache.max_size
        self._cache, self._cache_size = cache, cache_size
        self._bucket, self._at = parts.netloc, f" at {endpoint}" if endpoint else ""
        # Of one request: 1 MiB/s is promised to be fast enough for an upload, whatever its size.
        request_s = 30 + (cache.max_size >> 20)
        self._store = S3Store(
            self._bucket,
            prefix=parts.path.strip("/") or None,
            config={
                **({"endpoint": endpoint} if endpoint else {}),
                **({"region": region} if region else {}),
            },
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=request_s),
            },
            retry_config=_RETRIES,  # type: ignore[arg-type] # a plain dict is one
        )
        self._fetchers = ThreadPoolExecutor(FETCHERS, "bucket")
        self._lock = threading.Lock()
        self._used: OrderedDict[str, int] = OrderedDict()  # sizes in the cache, last used last
        self._going: dict[str, Future[None]] = {}  # under way, or failed and not to be tried again yet
        self._again: dict[str, float] = {}  # when those that failed may be tried again (monotonic)

    def prepare(self) -> None:
        """Make the cache's folders; the bucket is not asked."""
        self._cache.prepare()
        self._used.update((digest, size) for _, digest, size in self._cache.ages())

    def has(self, digest: str) -> bool:
        """Return whether the bucket has an object of this name."""
        return self._arrived(digest) is not None

    def keep(self, digest: str) -> bool:
        """Return whether it is there, and young; an older one is to be sent again, which renews it."""
        arrived = self._arrived(digest)
        return arrived is not None and arrived > time.time() - artifacts.FORGOTTEN_S / 2

    def _arrived(self, digest: str) -> float | None:
        import obstore

        name = place(digest)
        try:
            return obstore.head(self._store, name)["last_modified"].timestamp()
        except FileNotFoundError:
            return None
        except Exception as exc:
            raise self._away(exc) from exc

    def read(self, digest: str) -> bytes:
        """Return the whole object from the bucket, its content checked against its name."""
        data = b"".join(self._pieces(digest))
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._damaged(digest)
        return data

    def _pieces(self, digest: str) -> Iterator[bytes]:
        """Give the object's bytes, `PIECE` of them at most at a time, unchecked."""
        import obstore

        name = place(digest)
        try:
            size = obstore.head(self._store, name)["size"]
            # None of more than that was ever taken in; a piece of one is damaged, too.
            for start in range(0, min(size, self.max_size), PIECE):
                length = min(PIECE, size - start)
                yield bytes(obstore.get_range(self._store, name, start=start, length=length))
        except FileNotFoundError as exc:
            raise missing(digest) from exc
        except Exception as exc:
            raise self._away(exc) from exc

    def at_hand(self, digest: str) -> int | None:
        """Return a descriptor of the file in the cache, if it is there."""
        fd = self._cache.at_hand(digest)
        with self._lock:
            if digest in self._used:
                self._used.move_to_end(digest)
        return fd

    def fetch(self, digest: str) -> "Future[None]":
        """Bring it into the cache, once for all who ask meanwhile."""
        with self._lock:
            going = self._going.get(digest)
            if going is None or (going.done() and time.monotonic() >= self._again.get(digest, 0)):
                going = self._going[digest] = self._fetchers.submit(self._bring, digest)
            return going

    def _bring(self, digest: str) -> None:
        try:
            if not self._cache.has(digest):
                self._take_in(digest)
        except BaseException:
            with self._lock:
                self._again[digest] = time.monotonic() + AGAIN_S
            raise
        with self._lock:
            self._again.pop(digest, None)
            self._going.pop(digest)

    def _take_in(self, digest: str) -> None:
        upload, size = self._cache.receive(digest), 0
        try:
            for piece in self._pieces(digest):
                size += len(piece)
                self._make_room(size)
                upload.write(piece)
            upload.finish()
        except VerifyError as exc:
            raise self._damaged(digest) if exc.code == "digest-mismatch" else exc from exc
        finally:
            upload.discard()
        with self._lock:
            self._used[digest] = size

    def _make_room(self, size: int) -> None:
        """Delete from the cache, least recently used first, until ``size`` bytes more fit."""
        with self._lock:
            total = sum(self._used.values())
            while self._used and total + size > self._cache_size:
                digest, freed = self._used.popitem(last=False)
                total -= freed
                self._cache.remove([digest])  # who reads it has it open

    def receive(self, digest: str) -> Upload:
        """Start an upload: verified here, then put into the bucket, then kept in the cache."""
        return self._cache.receive_for(digest, lambda path: self._put(digest, path))

    def _put(self, digest: str, path: Path) -> None:
        import obstore

        size = path.stat().st_size
        try:
            if size:
                with (
                    path.open("rb") as file,
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                ):
                    obstore.put(self._store, place(digest), content, use_multipart=False)
            else:
                obstore.put(self._store, place(digest), b"", use_multipart=False)
        except Exception as exc:
            raise self._away(exc) from exc
        self._make_room(size)
        with self._lock:
            self._used[digest] = size
            self._again.pop(digest, None)  # if it was missed before, it is no more

    def forgotten(self) -> list[str]:
        """Return the digests of objects that arrived more than ``FORGOTTEN_S`` ago."""
        import obstore

        before = time.time() - artifacts.FORGOTTEN_S
        found = []
        try:
            for page in obstore.list(self._store):
                for about in page:
                    digest = about["path"].rpartition("/")[2]
                    with suppress(InputError):  # whatever else somebody keeps there
                        if place(digest) == about["path"] and about["last_modified"].timestamp() < before:
                            found.append(digest)
        except Exception as exc:
            raise self._away(exc) from exc
        return found

    def remove(self, digests: Iterable[str]) -> None:
        """Delete objects, as far as they are there, and their files here; other servers' caches lose theirs
        in time.
        """
        import obstore

        digests = list(digests)
        names = [place(digest) for digest in digests]
        try:
            if names:
                obstore.delete(self._store, names)
        except FileNotFoundError:
            pass
        except Exception as exc:
            raise self._away(exc) from exc
        with self._lock:
            for digest in digests:
                self._used.pop(digest, None)
            self._cache.remove(digests)

    def why_not(self) -> str | None:
        """Return what is wrong with the cache's folder, or with the bucket: can it be looked into?"""
        import obstore

        here = self._cache.why_not()
        if here is None:
            try:
                for _ in obstore.list(self._store, prefix=_NOWHERE):
                    break
            except Exception as exc:
                return self._away(exc).message
        return here

    def _damaged(self, digest: str) -> VerifyError:
        return VerifyError(f"artifact {digest} is damaged in {self.where}", "artifact-damaged")

    def _away(self, exc: Exception) -> ArtifactsAway:
        """Return what is said of a failure: never an answer of the bucket's, which may name keys."""
        text = str(exc)
        status = re.search(r"status code: (\d{3})", text)
        code = re.search(r"<Code>([A-Za-z]{1,64})</Code>", text)
        answer = " ".join(found[1] for found in (status, code) if found)
        if (code and code[1] == "NoSuchBucket") or isinstance(exc, FileNotFoundError):
            why = f"there is no bucket {self._bucket}{self._at}: make it"
        elif status and status[1] in ("401", "403"):
            why = (
                f"access denied{self._at} ({answer}): look at the credentials in the server's environment,"
                " and at what they may"
            )
        elif answer:
            why = f"answers {answer}{self._at}"
        else:
            slow = "imed out" in text or "imeout" in text.partition("Debug source")[2]
            why = f"does not answer{' in time' if slow else ''}{self._at}"
        return ArtifactsAway(f"{self.where}: {why}", "artifacts-away")
