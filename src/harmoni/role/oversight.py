"""What an operator sees of a role's holdings; a look at patients is audited.

Beside the running role. Every function gives plain values; the command line prints them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harmoni.audit.event import Act, AuditEvent, Participant
from harmoni.dicom import identifier
from harmoni.dicom.identifier import QueryLevel
from harmoni.holdings.holding import Holding
from harmoni.index import totals
from harmoni.index.packs import PackState
from harmoni.model.errors import ConfigurationError, NotHeld
from harmoni.model.header import STUDY_INSTANCE_UID
from harmoni.model.identifiers import HospitalId
from harmoni.role.node import Node
from harmoni.role.trail import AuditDoor

# What was let go of was sealed before, and is at the centre.
_SEALED: Final = frozenset({PackState.SEALED, PackState.EVICTED})

_ON_ITS_WAY_S: Final = 60.0
"""The keeper takes new keys to their copies once a round."""

_STUDY_TAGS: Final = {
    "PatientID": 0x0010_0020,
    "PatientName": 0x0010_0010,
    "StudyDate": 0x0008_0020,
    "AccessionNumber": 0x0008_0050,
    "ModalitiesInStudy": 0x0008_0061,
    "StudyDescription": 0x0008_1030,
    "NumberOfStudyRelatedSeries": 0x0020_1206,
    "NumberOfStudyRelatedInstances": 0x0020_1208,
    "StudyInstanceUID": STUDY_INSTANCE_UID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HospitalStat:
    """What one hospital holds, as its index says."""

    hospital: HospitalId
    studies: int
    instances: int
    packs_open: int
    packs_sealed: int
    packs_missing: int
    packs_damaged: int
    packs_evicted: int
    """Let go of at a gateway: safe at the centre."""
    packs_erased: int
    """Their keys were destroyed: nobody can open them any more."""
    sealed_bytes: int
    instances_damaged: int


def find_studies(node: Node, hospital_id: str, filters: Mapping[str, str]) -> list[dict[str, str]]:
    """Studies of one hospital by what a C-FIND could ask for; audited before it is answered.

    Args:
        node: the role's node.
        hospital_id: whose.
        filters: keyword to value, as DICOM writes it, such as {"PatientName": "PAP*"}.
    """
    hospital = registered(node, hospital_id)
    audit(node, Act.QUERY, hospital, "study find")
    query = identifier.compose_query(
        "STUDY",
        QueryLevel.STUDY,
        {tag: filters.get(keyword, "") for keyword, tag in _STUDY_TAGS.items()},
    )
    return [
        {keyword: values.get(tag, "") for keyword, tag in _STUDY_TAGS.items()}
        for values in node.holding(hospital).find(query)
    ]


def show_study(node: Node, hospital_id: str, study_uid: str) -> dict[str, object]:
    """One study: what it is, and where and how safe its instances are; audited.

    Raises:
        NotHeld: the hospital holds no such study.
    """
    hospital = registered(node, hospital_id)
    audit(node, Act.RESTRICTED_FUNCTION, hospital, "study show", study_uid)
    holding = node.holding(hospital)
    query = identifier.compose_query(
        "STUDY",
        QueryLevel.STUDY,
        dict.fromkeys(_STUDY_TAGS.values(), "") | {STUDY_INSTANCE_UID: study_uid},
    )
    found = list(holding.find(query))
    if not found:
        raise NotHeld(f"hospital {hospital} holds no study {study_uid}")
    held = holding.plan(query)
    by_pack: dict[str, int] = {}
    for each in held:
        key = f"{each.location.pack_id} ({each.pack_state.value})"
        by_pack[key] = by_pack.get(key, 0) + 1
    facts: dict[str, object] = {
        keyword: found[0].get(tag, "") for keyword, tag in _STUDY_TAGS.items()
    }
    return facts | {
        "instances": len(held),
        "bytes": sum(each.identity.size_bytes for each in held),
        "sealed": all(each.pack_state in _SEALED for each in held),
        "evicted": sum(each.pack_state is PackState.EVICTED for each in held),
        "damaged": sum(each.damaged for each in held),
        "packs": by_pack,
    }


def stat(node: Node, hospital_id: str | None) -> list[HospitalStat]:
    """Packs, instances and bytes of one hospital, or of all."""
    wanted = list(node.hospitals) if hospital_id is None else [registered(node, hospital_id)]
    return [stat_of(node.holding(hospital)) for hospital in wanted]


def key_copy_problems(holding: Holding, now_ms: int) -> list[str]:
    """What is wrong with the copies of a hospital's keys, a sentence for each place."""
    return [
        f"{holding.hospital}: {problem}"
        for problem in holding.key_copies.verify(now_ms=now_ms, grace_s=_ON_ITS_WAY_S)
    ]


def room_problems(holding: Holding) -> list[str]:
    """Why no instance is taken in, if none is."""
    why = holding.room.shortage()
    return [f"{holding.hospital}: {why}"] if why else []


def stat_of(holding: Holding) -> HospitalStat:
    """Packs, instances and bytes of one holding."""
    with holding.index.reader() as connection:
        counts = totals.totals(connection)
        by_state = totals.packs_by_state(connection)
    return HospitalStat(
        hospital=holding.hospital,
        studies=counts.studies,
        instances=counts.instances,
        packs_open=by_state[PackState.OPEN].count,
        packs_sealed=by_state[PackState.SEALED].count,
        packs_missing=by_state[PackState.MISSING].count,
        packs_damaged=by_state[PackState.DAMAGED].count,
        packs_evicted=by_state[PackState.EVICTED].count,
        packs_erased=by_state[PackState.ERASED].count,
        sealed_bytes=by_state[PackState.SEALED].size_bytes,
        instances_damaged=counts.damaged,
    )


def audit(node: Node, act: Act, hospital: HospitalId, reason: str, study_uid: str = "") -> None:
    """Write an operator's act to the audit door, durably, before it is done."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
    with AuditDoor(node.open_spool, node.clock) as door:
        door.write(
            [
                AuditEvent(
                    act=act,
                    at_ms=door.now_ms(),
                    who=Participant(hospital=str(hospital), user=user),
                    reason=reason,
                    study_uids=(study_uid,) if study_uid else (),
                )
            ]
        )


def registered(node: Node, hospital_id: str) -> HospitalId:
    """One of the node's hospitals.

    Raises:
        NotHeld: it has no such hospital.
        ConfigurationError: nor could every file be read that might name it.
    """
    hospital = HospitalId(hospital_id)
    if hospital not in node.hospitals:
        if node.problems:
            raise ConfigurationError(" ".join(node.problems))
        raise NotHeld(f"no hospital {hospital_id} is registered; see `harmoni hospital list`")
    return hospital
