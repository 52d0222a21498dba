"""What a ROOT would do to a fleet that runs: asked before it is published, since no step is taken back."""

import ssl

from sqlalchemy import Connection, func, select

from fota_server import campaigns, reach, receipts, schema
from fota_server.catalog import RELEASES, open_release, release_of
from fota_server.certificates import TlsFiles
from fota_server.decide import Release
from fota_wire import host_root, host_tls
from fota_wire.address import parse_address
from fota_wire.errors import FotaError
from fota_wire.host_ca import certificate_der
from fota_wire.host_keys import SigningKey
from fota_wire.root import Root

SHOWN = 5


def dangers(
    connection: Connection, new: Root, current: Root, served: TlsFiles, receipt_key: SigningKey | None
) -> list[str]:
    """Return what would be lost with ``new`` in place of ``current``; none if all is well.

    ``served``: the certificates that devices meet here. ``receipt_key``: signs RECEIPTs here, or None.
    """
    rows = connection.execute(RELEASES).mappings().all()
    return [
        *host_root.root_faults(new),
        *host_root.shared_keys(new),
        *host_root.succession_faults(new, current),
        *server_dangers(new, served),
        *release_dangers([release_of(row) for row in rows], new, current),
        *_device_dangers(connection, new),
        *campaigns.root_dangers(connection, new, current, SHOWN),
        *receipts.root_dangers(connection, new, current, receipt_key, SHOWN),
    ]


def server_dangers(new: Root, served: TlsFiles) -> list[str]:
    """Return why devices that go by ``new`` would not find this server, or not believe it."""
    leaf = certificate_der(served.server_chain[0])
    lost = []
    if new.server_cas and not believes(new.server_cas, served.operator):
        lost.append("this server's certificate comes from none of the server CAs that it names")
    hosts = [parse_address(address)[0] for address in new.servers]
    if hosts and not any(_is_called(leaf, served.operator, host) for host in hosts):
        lost.append(f"this server's certificate is for none of the hosts that it names ({', '.join(hosts)})")
    return lost


def release_dangers(releases: list[Release], new: Root, current: Root) -> list[str]:
    """Return whether ``new`` leaves devices nothing to install; what it revokes or retires is meant so."""
    usable = [release for release in releases if _installable(release, current)]
    meant = [
        release
        for release in usable
        if new.revokes(release.manifest_digest) or release.key_hash in new.retired
    ]
    left = [release for release in usable if _installable(release, new)]
    if left or len(meant) == len(usable):
        return []
    names = ", ".join(release.version for release in usable[-SHOWN:])
    return [
        f"none of the {len(usable)} published releases may be installed any more ({names}): they are below"
        " its minima, or not signed by its RELEASE keys; publish one that may be first"
    ]


def _device_dangers(connection: Connection, new: Root) -> list[str]:
    table, out = schema.devices, schema.retirements
    up = reach.step(connection)
    beyond = table.c.floor < new.min_secver - up
    alive = ~table.c.revoked & ~select(out.c.device_id).where(out.c.device_id == table.c.id).exists()
    count = select(func.count()).select_from(table).where(beyond, alive)
    number = connection.execute(count).scalar_one()
    if not number:
        return []
    first = select(table.c.id).where(beyond, alive).order_by(table.c.id).limit(SHOWN)
    names = ", ".join(connection.execute(first).scalars())
    return [
        f"{number} devices could never install anything again, since its minimum security counter"
        f" {new.min_secver} is more than {up} above their floor ({names})"
    ]


def _installable(release: Release, root: Root) -> bool:
    """Tell whether a device that trusts ``root`` takes the release."""
    try:
        manifest = open_release(release.envelope, root)
    except FotaError:
        return False
    if root.revokes(release.manifest_digest) or release.key_hash in root.retired:
        return False
    return manifest.sequence >= root.min_sequence and release.sec_cnt >= root.min_secver


def believes(anchors: list[bytes], server: ssl.SSLContext) -> bool:
    """Tell whether a device that trusts ``anchors``, DER, believes ``server``."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    try:
        host_tls.trust(client, anchors)
    except (ssl.SSLError, ValueError):
        return False
    return _meet(client, server, None)


def _is_called(leaf: bytes, server: ssl.SSLContext, host: str) -> bool:
    """Tell whether the certificate ``leaf`` of ``server`` is for ``host``, whoever has issued it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=leaf)
    return _meet(client, server, host)


def _meet(client: ssl.SSLContext, server: ssl.SSLContext, host: str | None) -> bool:
    """Tell whether their handshake succeeds, in memory, by the context that devices meet."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ends = (
            client.wrap_bio(to_client, to_server, server_hostname=host),
            server.wrap_bio(to_server, to_client, server_side=True),
        )
        for _ in range(3):  # hello; certificate and finished; finished
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except (ssl.SSLError, ssl.CertificateError, ValueError):
        return False
    return bool(ends[0].version())
