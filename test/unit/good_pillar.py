"""A small valid pillar, for tests to change."""

PILLAR = {
    "clusters": {
        "main": {
            "version": "3.6.14",
            "members": {
                "etcd1.example.com": {"address": "192.168.200.52"},
                "etcd2.example.com": {"address": "192.168.200.62"},
                "etcd3.example.com": {"address": "192.168.200.63"},
            },
            "load_balancers": {"lb.example.com": {"address": "192.168.200.56"}},
            "tls": {"ca": {"minion": "ca.example.com"}},
        }
    }
}
