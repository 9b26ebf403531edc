"""A balancer's own view of the members: HAProxy's socket, and the request of its checks."""

import http.server
import socket
import threading
import time

import etcd_ha_host_balancer
import pytest
from etcd_ha_host_balancer import Watch

HEADS = "# pxname,svname,status,check_status,lastchg,last_chk,"
READY = [{"method": "GET", "path": "/readyz", "body": "", "expect": "status 200"}]
VOTER = {"method": "POST", "path": "/v3/kv/range", "body": "{}", "expect": '! string "learner"'}


class Member(http.server.BaseHTTPRequestHandler):
    """Answers as etcd does; the server has ``code``, ``said`` and ``age``."""

    def _answer(self, code, said):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(said.encode())

    def do_GET(self):
        if self.path == "/metrics":
            self._answer(200, f"process_start_time_seconds {time.time() - self.server.age:.2f}\n")
            return
        self._answer(self.server.code, "ok")

    def do_POST(self):
        self._answer(200, self.server.said)

    def log_message(self, *_):
        pass


@pytest.fixture
def member():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Member)
    server.code, server.said, server.age = 200, "{}", 100
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def haproxy(tmp_path):
    """A statistics socket; ``rows`` is what it says, one list a question, the last one for ever."""
    path = str(tmp_path / "s")
    link = socket.socket(socket.AF_UNIX)
    link.bind(path)
    link.listen()
    said = type("Said", (), {"path": path, "rows": [["UP,L7OK,500,"]], "asked": 0})

    def serve():
        while True:
            try:
                one, _ = link.accept()
            except OSError:
                return
            with one:
                assert one.recv(100) == b"show stat\n"
                rows = said.rows[min(said.asked, len(said.rows) - 1)]
                said.asked += 1
                lines = [HEADS, "stats,FRONTEND,OPEN,,,,", "members_main,BACKEND,UP,,5,,"]
                lines += [f"members_main,etcd1,{row}," for row in rows]
                one.sendall("\n".join([*lines, ""]).encode())

    threading.Thread(target=serve, daemon=True).start()
    yield said
    link.close()


def balancer(member, kind="haproxy", checks=READY, **more):
    endpoint = f"127.0.0.1:{member.server_address[1]}"
    backends = [{"name": "etcd1", "minion": "e1", "endpoint": endpoint}]
    own = {"cluster": "main", "kind": kind, "checks": checks, "backends": backends}
    times = {"check_interval": 2, "check_timeout": 2}
    return {**own, **times, "ca": None, "certificate": None, "key": None, **more}


def down(given, said, timeout=0.2):
    return Watch(given, said.path).wait(["e1"], timeout)


def test_who_is_up_is_known_at_once(member, haproxy):
    began = time.monotonic()
    assert down(balancer(member), haproxy, 30) == {}
    assert haproxy.asked == 1 and time.monotonic() - began < 5


def test_a_member_that_answers_no_http_is_down_before_haproxy_knows(member, haproxy):
    """The kind of listen-client-http-urls: the port is open, and HAProxy's last word is UP."""
    member.code = 404
    assert "HTTP 404" in down(balancer(member), haproxy)["e1"]
    member.shutdown()
    member.server_close()
    assert "GET /readyz" in down(balancer(member), haproxy)["e1"]


@pytest.mark.parametrize("row", ["DOWN,L7STS,3,HTTP 503", "UP,L4OK,3,", "MAINT,L7OK,3,"])
def test_haproxy_s_word_counts_too(member, haproxy, row):
    haproxy.rows = [[row]]
    assert row.partition(",")[0] in down(balancer(member), haproxy)["e1"]


def test_its_way_up_is_waited_for(member, haproxy):
    haproxy.rows = [["DOWN,L4CON,3,"], ["DOWN,* L4CON,3,"], ["UP,* L7OK,0,"]]
    assert down(balancer(member), haproxy, 30) == {} and haproxy.asked == 3


@pytest.mark.parametrize(
    ("age", "changed", "fresh"), [(1, 500, False), (60, 500, True), (30, 5, True)]
)
def test_a_check_from_before_the_member_s_start_proves_nothing(
    member, haproxy, age, changed, fresh
):
    member.age, haproxy.rows = age, [[f"UP,L7OK,{changed},"]]
    assert (down(balancer(member), haproxy) == {}) is fresh


@pytest.mark.parametrize(("row", "up"), [("UP,L7OK,500,", True), ("UP,INI,0,", False)])
def test_where_no_etcd_was_before_each_check_that_passed_counts(member, haproxy, row, up):
    member.age, haproxy.rows = 1, [[row]]
    found = Watch(balancer(member), haproxy.path, fresh=False).wait(["e1"], 0.2)
    assert (found == {}) is up


def test_it_counts_once_an_interval_is_over(member, haproxy):
    member.age = 0
    began = time.monotonic()
    assert down(balancer(member), haproxy, 30) == {}
    assert time.monotonic() - began > 1.5


def test_a_learner_is_not_up(member, haproxy):
    given = balancer(member, checks=[*READY, VOTER])
    assert down(given, haproxy) == {}
    member.said = "rpc not supported for learner"
    assert "learner" in down(given, haproxy)["e1"]


def test_nginx_is_asked_for_nothing(member, haproxy):
    assert down(balancer(member, kind="nginx"), haproxy) == {} and haproxy.asked == 0
    member.code = 503
    assert "HTTP 503" in down(balancer(member, kind="nginx"), haproxy)["e1"]


def test_a_socket_that_is_not_there_is_no_member_that_is_up(member, haproxy):
    found = Watch(balancer(member), f"{haproxy.path}x").wait(["e1"], 0.2)
    assert f"HAProxy does not answer at {haproxy.path}x (" in found["e1"]


def test_one_of_the_endpoints_of_a_member_that_moves_is_enough(member, haproxy):
    given = balancer(member)
    closed = {"name": "etcd1_until_moved_1", "minion": "e1", "endpoint": "127.0.0.1:1"}
    given["backends"] = [closed, *given["backends"]]
    assert down(given, haproxy) == {}


def test_a_member_that_the_balancer_does_not_know_is_not_up(member, haproxy):
    found = Watch(balancer(member), haproxy.path).wait(["e2"], 0.1)
    assert found == {"e2": "this balancer does not know it"}


def test_statistics_of_a_real_haproxy():
    """HAProxy 2.6; the rows are cut."""
    text = (
        "# pxname,svname,qcur,status,lastchg,check_status,check_code,last_chk,\n"
        "etcd_main,FRONTEND,,OPEN,,,,,\n"
        "members_main,etcd1,0,UP,8,L7OK,200,,\n"
        "members_main,etcd2,0,DOWN 1/2,3,* L7STS,503,Service Unavailable,\n"
        "members_main,BACKEND,0,UP,8,,,,\n"
    )
    found = etcd_ha_host_balancer.statistics(text, "members_main")
    assert list(found) == ["etcd1", "etcd2"]
    assert (found["etcd2"]["status"], found["etcd2"]["check_status"]) == ("DOWN 1/2", "L7STS")
