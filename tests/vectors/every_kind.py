"""The bodies of the events in the vectors: one of each kind, for make_vectors.py."""

import hashlib
from collections.abc import Callable

from harmoni.sealing import document
from harmoni.sealing.document import Json

UNKNOWN_KIND = "kind-of-a-later-program"
STUDY = "2.25.1000"
TIME_MS = 1_795_492_800_000
Told = tuple[str, str, dict[str, Json]]
"""Kind, subject and body."""


def every_kind(
    evicted: dict[str, Json],
    seeded: Callable[[str, int], bytes],
    ulid: Callable[[str], str],
    key: str,
) -> list[Told]:
    """One event of each kind that pack-format.md, section 11, describes."""
    sha, other, salt = (seeded(each, 32) for each in ("version", "before", "salt of a study"))
    one: dict[str, Json] = {"sop_instance_uid": "2.25.1", "sha256": sha.hex()}
    held: dict[str, Json] = {**one, "transfer_syntax": "1.2.840.10008.1.2.1"}
    file: dict[str, Json] = {"pack": ulid("three"), "size": 10_752, "sha256": sha.hex()}
    study: dict[str, Json] = {"study_instance_uid": STUDY}
    named: dict[str, Json] = {
        "study": hashlib.sha256(salt + STUDY.encode()).hexdigest(),
        "salt": document.octets_text(salt),
    }
    time = document.time_text(TIME_MS)
    message = document.octets_text(b"MSH|^~\\&|RIS|A|||20261124||ADT^A08|77|P|2.5\rPID|||1\r")
    committed: dict[str, Json] = {
        "transaction": "2.25.9", "copies": 2, "places": ["dc1", "dc2"], "instances": [held],
    }  # fmt: skip
    element: Json = ["00100010", "PN", document.octets_text(b"VECTOR^NEW")]
    hold: dict[str, Json] = {"hold": ulid("hold"), "by": "operator-1"}
    signature: dict[str, Json] = {
        "by": "operator-1", "algorithm": "ed25519", "certificate": document.octets_text(b"DER"),
        "signature": document.octets_text(seeded("signature", 64)),
    }  # fmt: skip
    return [
        ("commitment", STUDY, {"requester": "PACS", **committed}),
        ("commitment", STUDY, {"by": "HARMONI", **committed}),
        ("receipt", STUDY, {
            "gateway": "gw-a", "instances": [{**one, "size": 9, "received": time}],
        }),
        ("eviction", STUDY, {**file, "key": key, "manifest": evicted}),
        ("repair", "", {**file, "from": "dc2", "was": "damaged", "members": ["i/00000001"]}),
        ("copy", "", {**file, "place": "dc2", "verified": time}),
        ("conflict", STUDY, {
            **study, "source": "PACS", "pack": ulid("three"), "difference": "pixels",
            "instances": [{**one, "before": other.hex()}],
        }),
        ("choice", STUDY, {
            **study, "by": "operator-1", "reason": "the later one", "instances": [one],
        }),
        ("overlay", STUDY, {
            **study, "source": "RIS", "type": "ADT^A08", "message": message,
            "character_set": "", "elements": [element],
        }),
        ("overlay", "patient:1^^^A", {
            "patient": ["1", "A"], "source": "RIS", "type": "ADT^A40", "message": message,
            "character_set": "UNICODE UTF-8", "elements": [element],
        }),
        ("rejection", STUDY, {
            **study, "code": ["113001", "DCM", "Rejected for Quality Reasons"], "note": "2.25.8",
            "by": "PACS", "instances": [one],
        }),
        ("hold", STUDY, {**study, **hold, "reason": "court", "until": time}),
        ("release", STUDY, {**study, **hold, "reason": "judgement"}),
        ("tombstone", "", {
            **named, "complete": time, "packs": [{
                "pack": ulid("three"), "kind": "instances", "key": key, "size": 10_752,
                "sha256": sha.hex(), "root": other.hex(), "sealed": time,
            }],
            "events": [{"pack": ulid("events"), "sequence": 0, "key": key}],
        }),
        ("act", "", {
            **named, "act": "erase", "by": ["operator-1", "operator-2"],
            "statement": document.octets_text(b'{"act":"erase"}'), "signatures": [signature],
        }),
        ("key-change", "", {
            "what": "identity", "site": "dc1", "before": "age1pq1old", "after": "age1pq1new",
            "by": "operator-1",
        }),
        ("certificate", "", {
            "holder": "gw-a", "serial": "0a", "sha256": sha.hex(), "not_before": time,
            "not_after": time, "certificate": document.octets_text(b"DER"), "by": "operator-1",
        }),
        ("heartbeat", "", {"from": "gw-a", "sent": time, "report": {"queued": 3}}),
        (UNKNOWN_KIND, STUDY, {"anything": {"deep": [1, None, True, "\u0391"]}}),
    ]  # fmt: skip
