"""Units as systemd has them, for tests: ``unit(pid=7)``, or what ``systemctl show`` prints."""

from datetime import datetime, timezone

import etcd_ha_common_systemd
from etcd_ha_common_systemd import Unit


def unit(name="etcd.service", **values):
    """A unit that is stopped, with these values: ``pid=7`` alone makes it one that runs."""
    given = {"state": "active", "sub_state": "running"} if values.get("pid") else {}
    made = {
        "name": name,
        "loaded": "loaded",
        "state": "inactive",
        "sub_state": "dead",
        "file_state": "disabled",
        "path": f"/etc/systemd/system/{name}",
        "pid": 0,
        "started": 0,
        "stale": False,
        "invocation": "",
        "result": "success",
    }
    return Unit(**{**made, **given, **values})


DOWN = unit()
UP = unit(pid=7, started=100, file_state="enabled", invocation="5" * 32)
NOT_FOUND = unit(loaded="not-found", file_state="", path="")


def shown(found):
    """What ``systemctl show`` prints of a unit when it is asked for what we read."""
    when = datetime.fromtimestamp(found.started, timezone.utc)
    stamp = when.strftime("%a %Y-%m-%d %H:%M:%S UTC") if found.started else ""
    pairs = {
        "LoadState": found.loaded,
        "ActiveState": found.state,
        "SubState": found.sub_state,
        "UnitFileState": found.file_state,
        "FragmentPath": found.path,
        "NeedDaemonReload": "yes" if found.stale else "no",
        "InvocationID": found.invocation,
        "MainPID": str(found.pid),
        "ExecMainStartTimestamp": stamp,
        "Result": found.result,
    }
    return "".join(f"{name}={value}\n" for name, value in pairs.items())


def told(monkeypatch, *units):
    """Have systemd tell of these units, one call after the other, of the last one for ever."""
    left = list(units)
    monkeypatch.setattr(
        etcd_ha_common_systemd,
        "unit",
        lambda *_, **__: left.pop(0) if len(left) > 1 else left[0],
    )
