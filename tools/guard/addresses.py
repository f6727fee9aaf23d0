"""Hosts that may be connected to: decided on the name before it is looked up, and on every address that it resolves to.

Covered: private, loopback, link-local, shared, reserved, unallocated and multicast addresses; IPv6 that carries an IPv4
address inside (mapped, translated, compatible, NAT64, 6to4, Teredo, ISATAP); cloud metadata; decimal, octal, hexadecimal and
shortened spellings; names of an inner network. Not covered: a public address that its owner forwards to a private one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass

from lensgraph.tools.results import Reason, ToolFailure
from lensgraph.tools.safety.one_line import one_line


class Refused(ToolFailure, ValueError):
    """The guard refuses an address or bytes. The message is one line that names the value and the fix."""

    def __init__(self, message: str, reason: Reason = "bad_input") -> None:
        super().__init__(reason, message)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class FetchPolicy:
    """Connections that `fetch` may make."""

    schemes: frozenset[str] = frozenset({"http", "https"})
    """Allowed URL schemes."""
    ports: frozenset[int] = frozenset({80, 443})
    """Allowed ports; other services of a public host are none of a page fetcher's business."""
    networks: tuple[Network, ...] = ()
    """Networks allowed although they are not public, for an intranet. Empty: public addresses only."""


PUBLIC_WEB = FetchPolicy()
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"),)
_ALLOCATED = ipaddress.IPv6Network("2000::/3")
"""The block of all public IPv6 addresses; Python calls `global` every address that it does not know otherwise."""
_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24", "2002::/16", "2001::/32", "64:ff9b:1::/48", "::/96", "fec0::/10",  # relays and translations
        "192.0.0.0/24", "2001:10::/28", "2001:20::/28", "3fff::/20", "5f00::/16",  # not hosts of the web
        "168.63.129.16/32",  # public by its number, and yet the inside of a cloud
    )
)  # fmt: skip
"""Networks whose addresses hide another one, and networks that are not public though Python calls them global."""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""Bits 32 to 63 of an ISATAP address, whose last 32 bits are an IPv4 address of an inner network."""
INNER_NAMES = (
    "localhost", "local", "internal", "lan", "home", "corp", "intranet", "private", "home.arpa", "in-addr.arpa", "ip6.arpa",
    "onion",
)  # fmt: skip
"""Name endings that no public host has (RFC 6761, 6762, 7686, 8375, and those that inner networks use)."""
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def address_allowed(address: str, policy: FetchPolicy = PUBLIC_WEB) -> bool:
    """Whether a connection to this literal address is allowed: public, or in one of the policy's networks."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _NAT64):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if any(ip.version == network.version and ip in network for network in policy.networks):
        return True
    if any(ip.version == network.version and ip in network for network in _NEVER):
        return False
    if ip.version == 6 and (ip not in _ALLOCATED or int(ip) >> 32 & 0xFFFFFFFF in _ISATAP):
        return False
    return ip.is_global and not ip.is_multicast


def check_name(host: str, policy: FetchPolicy = PUBLIC_WEB) -> None:
    """Refuse a host by its spelling, before any name server is asked."""
    name = host.rstrip(".").lower()
    if not name:
        raise Refused(f"{host[:80]!r} names no host; give http://host/...", "refused")
    if ":" in name:
        if "%" in name:
            raise Refused(f"{host[:80]}: an address with a zone is not on the web; remove it.", "refused")
        return
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"{host[:80]!r} is not the name of a host; correct it.", "refused")
    if _NUMBER.fullmatch(labels[-1]):  # browsers take such a name for an IPv4 address
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise Refused(
                f"{host[:80]}: not the usual spelling of an address; write four decimal numbers.", "refused"
            ) from None
        return
    if not policy.networks and (len(labels) == 1 or name.endswith(tuple("." + inner for inner in INNER_NAMES))):
        raise Refused(f"{host[:80]}: a name of an inner network, not of the web.", "refused")


async def resolve(host: str, port: int, policy: FetchPolicy) -> str:
    """One checked address of `host`.

    Raises:
        Refused: any of its addresses is not allowed; a mix of public and inner addresses is a trick.
        ToolFailure: there is no such host.
    """
    check_name(host, policy)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ToolFailure("unavailable", f"{host}: no such host ({one_line(error, 120)}).") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not address_allowed(address, policy):
            raise Refused(
                f"{host}: resolves to {address}, which is not a public address; give a public one.", "refused"
            )
    if not addresses:
        raise ToolFailure("unavailable", f"{host}: no address.")
    return addresses[0]
