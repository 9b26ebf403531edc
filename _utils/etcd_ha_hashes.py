"""Whose data is right: the hashes of all members' keys at one revision, compared.

etcd's own alarm CORRUPT does not tell. 3.4 and 3.5 name nobody with it
(https://github.com/etcd-io/etcd/pull/14828), and the leader's periodic check takes itself for right
(PeriodicCheck in server/etcdserver/corrupt.go): where the leader's data is the wrong one, a sound
follower is named. So the majority of the voters decides, as it does in
https://etcd.io/docs/v3.6/op-guide/data_corruption/ (checkPeerHashes).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etcd_ha_etcdctl import called
from etcd_ha_membership import quorum


@dataclass(frozen=True)
class Verdict:
    """What a comparison has found.

    ``right`` is the hash that a quorum of the voters has, empty where there is none; ``odd`` are
    the ids of the members that have another; ``silent`` of the voters that told none.
    """

    right: str
    odd: frozenset[str]
    silent: frozenset[str]

    @property
    def agreed(self) -> bool:
        """Whether all members have the same data."""
        return bool(self.right) and not self.odd and not self.silent


def comparable(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these hashes are of one revision, and of one compaction, which changes them."""
    return len({(row["revision"], row["compact_revision"]) for row in rows}) < 2


def verdict(listed: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Judge the hashes of the members in the list, all told at one revision."""
    told = {str(row["member_id"]): str(row["hash"]) for row in rows}
    voters = [str(member["id"]) for member in listed if not member["learner"]]
    counted = Counter(told[one] for one in voters if one in told)
    right = next((h for h, count in counted.items() if count >= quorum(len(voters))), "")
    return Verdict(
        right,
        frozenset(one for one, found in told.items() if right and found != right),
        # etcd asks no learner (isRPCSupportedForLearner in server/etcdserver/api/v3rpc/util.go).
        frozenset(one for one in voters if one not in told),
    )


def words(listed: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """Each member's hash in one line, for a message."""
    told = {str(row["member_id"]): str(row["hash"]) for row in rows}
    names = {str(member["id"]): called(member) for member in listed}
    return ", ".join(f"{name} {told.get(one, 'no answer')}" for one, name in names.items())
