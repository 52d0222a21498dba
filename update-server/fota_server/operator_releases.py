"""The operator plane's handlers of what is published: artifacts, releases, the chain of ROOT documents."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, func, insert, select
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from fota_server import components, reach, receipts, release_log, sboms, schema
from fota_server.artifacts import ArtifactStore, aside
from fota_server.campaigns import set_campaign, with_campaigns
from fota_server.catalog import (
    check_release,
    find_release,
    list_releases,
    open_release,
    set_withdrawn,
    show_release,
    store_release,
    unreferenced,
)
from fota_server.certificates import TlsFiles
from fota_server.crypto import Assigner
from fota_server.database import Database, now, record_audit
from fota_server.decide import Release
from fota_server.device_plane import TooLarge, TooSlow, read_body
from fota_server.fits import require_revisions, set_revisions, with_revisions
from fota_server.operator_input import (
    BODY_S,
    MAX_JSON,
    limit_of,
    name_of,
    number_of,
    page,
    query_text,
    read_json,
    text_of,
)
from fota_server.planner import Planner
from fota_server.rehearsals import MAX_ATTESTATION, set_attestation
from fota_server.release_log import LogKeys
from fota_server.root_check import dangers
from fota_server.tokens import Operator
from fota_server.trust import TrustChain
from fota_wire import host_evidence
from fota_wire import root as roots
from fota_wire.checkin import MAX_CAMPAIGN
from fota_wire.errors import FormatError, FotaError, InputError, StorageError, VerifyError
from fota_wire.host_ca import der_certificate, short_name
from fota_wire.release import image_keys
from fota_wire.suit import unsafe_read_manifest, without_receipt

log = logging.getLogger("fota.server")

UPLOAD_STALL_S = 60.0


class ReleaseHandlers:
    """What they need: database, artifacts, the ROOT in force, this server's ASSIGN key and certificates.

    ``image_keys``: x||y of the keys that devices know images by, for as long as ROOT does not name them.
    ``log_keys``: sign the release log, and what devices are shown of it.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        trust: TrustChain,
        signer: Assigner,
        tls_files: Callable[[], TlsFiles],
        planner: Planner,
        image_keys: tuple[bytes, ...],
        log_keys: LogKeys,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._trust = trust
        self._signer = signer
        self._tls_files = tls_files
        self._planner = planner
        self._image_keys = image_keys
        self._log_keys = log_keys
        self._publishing = asyncio.Lock()

    async def put_artifact(self, request: Request, operator: Operator) -> JSONResponse:
        """PUT artifacts/{sha256}: stream to a temporary file, check, rename."""
        digest = name_of(request, "digest")
        if await aside(self._artifacts.keep, digest):
            return JSONResponse({"digest": digest, "created": False})
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:18]) > self._artifacts.max_size:
            raise TooLarge(f"artifact is larger than {self._artifacts.max_size} bytes", "too-large")
        upload = await aside(self._artifacts.receive, digest)
        stream = request.stream()
        try:
            while True:
                async with asyncio.timeout(UPLOAD_STALL_S):
                    chunk = await anext(stream, b"")
                if not chunk:
                    break
                await aside(upload.write, chunk)
            await aside(upload.finish)
        except TimeoutError as exc:
            raise TooSlow("the upload stalled", "too-slow") from exc
        except ClientDisconnect as exc:
            raise FormatError("the connection broke off within the upload", "broken-off") from exc
        finally:
            await aside(upload.discard)
        log.info("artifact %s uploaded by %s", digest, operator.name)
        return JSONResponse({"digest": digest, "created": True}, 201)

    async def publish(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases?hardware: body is the envelope. Nothing is published that a device would refuse.

        ``hardware``: a revision that it fits; again for each.
        """
        revisions = require_revisions(request.query_params.getlist("hardware"))
        envelope = without_receipt(await read_body(request, 4096, BODY_S))  # another log's, or of before
        async with self._publishing:  # or the one that is refused deletes the file of the one that is not
            try:
                release = await self._checked(envelope)
                created, shown = await self._database.write(
                    _store_release, release, revisions, self._trust.current, operator.name, self._log_keys
                )
            except (InputError, VerifyError):
                with contextlib.suppress(StorageError):  # the next one that is refused cleans up
                    await self._clean(envelope)
                raise
        keys = image_keys(self._trust.current, self._image_keys)
        checked = {"created": created, "image_signature": "verified" if keys else "unchecked"}
        return JSONResponse(shown | checked, 201 if created else 200)

    async def _checked(self, envelope: bytes) -> Release:
        root = self._trust.current
        manifest = open_release(envelope, root)
        image = await aside(self._artifacts.read, manifest.digest.hex())
        return check_release(manifest, envelope, image, root, image_keys(root, self._image_keys))

    async def _clean(self, envelope: bytes) -> None:
        """Delete the upload of a refused release, unless another release has it, and forgotten ones.

        Where other servers store, too, one may be publishing the same file: it is left to be forgotten.
        """
        digests = set(await aside(self._artifacts.forgotten))
        with contextlib.suppress(FotaError):
            if not self._artifacts.shared:
                digests.add(unsafe_read_manifest(envelope).digest.hex())
        free = await self._database.read(unreferenced, digests)
        await aside(self._artifacts.remove, free)

    async def set_fits(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/hardware {"hardware": [...]}: what it fits; []: all."""
        revisions = require_revisions((await read_json(request)).get("hardware"))
        name = name_of(request, "version")

        def work(connection: Connection) -> dict[str, Any]:
            release = find_release(connection, name)
            set_revisions(
                connection, _show(connection, release, self._trust.current), revisions, operator.name
            )
            return _show(connection, release, self._trust.current)

        return JSONResponse(await self._database.write(work))

    async def set_campaign(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/campaign: body is its CAMPAIGN, in place of the one before."""
        raw, name = await read_body(request, MAX_CAMPAIGN, BODY_S), name_of(request, "version")
        root, actor = self._trust.current, operator.name
        return JSONResponse(await self._database.write(set_campaign, name, raw, root, actor))

    async def set_sbom(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/sbom {"index", "sbom"}: the SBOM, and the index of evidence by
        which the release's manifest signs it; both as they are in their files.
        """
        body, name = await read_json(request), name_of(request, "version")
        index = (text_of(body, "index", host_evidence.LIMIT) or "").encode()
        sbom = (text_of(body, "sbom", MAX_JSON) or "").encode()
        listed = await aside(sboms.read, sbom)
        actor = operator.name
        return JSONResponse(await self._database.write(components.set_sbom, name, index, sbom, listed, actor))

    async def list_holding(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET components?component&below&after&limit: releases that hold a component, and how many devices
        run each; on the first page also of how many nobody knows.
        """
        limit, after = limit_of(request), number_of(request, "after", 1 << 62, default=0)
        name, below = query_text(request, "component"), query_text(request, "below", sboms.MAX_VERSION)
        if not name or below == "":
            raise InputError("name a component, and below which version, if any", "query")

        def work(connection: Connection) -> dict[str, Any]:
            views = components.holding(connection, name, below, after, limit)
            last = views[-1]["id"] if len(views) == limit else None
            unknown = None if after else components.unknown(connection)
            return {"releases": views, "unknown": unknown, "next": last}

        return JSONResponse(await self._database.read(work))

    async def hand_in_rehearsal(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/rehearsal: body is an attestation, in place of the one before."""
        raw = await read_body(request, MAX_ATTESTATION, BODY_S)
        name, actor = name_of(request, "version"), operator.name
        return JSONResponse(await self._database.write(set_attestation, name, raw, actor))

    async def withdraw(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/withdraw: offered to no device any more."""
        return await self._set_withdrawn(request, operator, True)

    async def restore(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/restore: can be rolled out again."""
        return await self._set_withdrawn(request, operator, False)

    async def _set_withdrawn(self, request: Request, operator: Operator, withdrawn: bool) -> JSONResponse:
        name = name_of(request, "version")

        def work(connection: Connection) -> dict[str, Any]:
            release = set_withdrawn(connection, name, withdrawn, operator.name)
            return _show(connection, release, self._trust.current)

        shown = await self._database.write(work)
        self._planner.wake()  # targets of what was withdrawn
        return JSONResponse(shown)

    async def list_releases(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET releases?after&limit, in the order of their publication; ``after``: an id."""
        limit, after = limit_of(request), number_of(request, "after", 1 << 62, default=0)

        def work(connection: Connection) -> list[dict[str, Any]]:
            root = self._trust.current
            return _with_all(connection, list_releases(connection, root, after, limit), root)

        views = await self._database.read(work)
        return page("releases", views, limit, "id")

    async def show_release(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET releases/{version or digest}."""
        name, root = name_of(request, "version"), self._trust.current
        return JSONResponse(
            await self._database.read(
                lambda connection: _show(connection, find_release(connection, name), root)
            )
        )

    # ROOT

    async def list_roots(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET roots: what the newest one says."""
        root = self._trust.current
        return JSONResponse(
            {
                "version": root.version,
                "min_sequence": root.min_sequence,
                "min_secver": root.min_secver,
                "revoked": [digest.hex() for digest in root.revoked],
                "servers": root.servers,
                "server_cas": [short_name(der_certificate(raw, "server CA")) for raw in root.server_cas],
            }
        )

    async def add_root(self, request: Request, operator: Operator) -> JSONResponse:
        """POST roots?force: body is the next ROOT document. One that would lose devices is refused, unless
        ``force`` is 1.
        """
        force = number_of(request, "force", 1, default=0) == 1
        raw = await read_body(request, roots.MAX_ROOT, BODY_S)
        new = self._trust.check(raw)
        if self._signer.kid not in new.role_keys(roots.ASSIGN):
            raise VerifyError(
                f"ROOT {new.version} does not name this server's ASSIGN key {self._signer.kid.hex()}: "
                "devices that took it would refuse every answer of this server",
                "assign-key",
            )
        lost = await self._database.read(
            dangers, new, self._trust.current, self._tls_files(), self._log_keys.receipts
        )
        if lost and not force:
            raise VerifyError(
                f"ROOT {new.version} is for ever, and {'; '.join(lost)} (--force, if that is meant)",
                "root-danger",
            )
        await self._append_root(raw, new.version, lost, operator)
        return JSONResponse({"version": new.version, "lost": lost}, 201)

    async def _append_root(self, raw: bytes, version: int, lost: list[str], operator: Operator) -> None:
        # To its end, whoever hangs up: what is on the disk and what this process goes by are one.
        await asyncio.shield(asyncio.ensure_future(self._store_root(raw, version, lost, operator)))

    async def _store_root(self, raw: bytes, version: int, lost: list[str], operator: Operator) -> None:
        def work(connection: Connection) -> None:
            table = schema.roots
            newest = connection.execute(select(func.max(table.c.version))).scalar_one()
            if newest != version - 1:  # another one was quicker, of this server or of one beside it
                raise VerifyError(
                    f"ROOT {newest} is in force already: the next one is {newest + 1}", "root-version"
                )
            connection.execute(insert(table).values(version=version, raw=raw, added_at=now()))
            detail = {"lost": lost} if lost else {}
            record_audit(connection, operator.name, "root.add", str(version), **detail)

        await self._database.write(work)
        self._trust.append(raw)
        self._planner.wake()  # releases that it bars


def _store_release(
    connection: Connection,
    release: Release,
    revisions: list[str],
    root: roots.Root,
    actor: str,
    log_keys: LogKeys,
) -> tuple[bool, dict[str, Any]]:
    created = store_release(connection, release, root, actor)
    if created:
        receipts.require_key(root, log_keys.receipts)
        release_log.sign(connection, log_keys)
    shown = _show(connection, release, root)
    if created and revisions:
        set_revisions(connection, shown, revisions, actor)
    elif not created and revisions and revisions != shown["hardware"]:
        fits = ", ".join(shown["hardware"]) or "any hardware"
        raise VerifyError(
            f"release {release.version} is published already, for {fits}: 'fota release fits' changes that",
            "hardware",
        )
    told = {"warnings": reach.warnings(connection, release.class_id.hex(), release.sec_cnt)}
    return created, _show(connection, release, root) | told


def _show(connection: Connection, release: Release, root: roots.Root) -> dict[str, Any]:
    return _with_all(connection, [show_release(connection, release, root)], root)[0]


def _with_all(connection: Connection, views: list[dict[str, Any]], root: roots.Root) -> list[dict[str, Any]]:
    """Return what is shown of releases with what others keep of them."""
    return with_campaigns(connection, with_revisions(connection, views), root)
