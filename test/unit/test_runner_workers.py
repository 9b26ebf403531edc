"""A plan in which many hosts ask the CA at once needs a master that can answer them."""

import etcd_ha_workers
import pytest
from etcd_ha_steps import Plan, Step


def asked(cluster, options, hosts=4, release=3008):
    step = Step("main: bootstrap", "state", tuple(f"h{n}" for n in range(hosts)), ("etcd_ha",))
    return etcd_ha_workers.checked(cluster, Plan("main", "", (step,)), options, release)


@pytest.mark.parametrize(
    "options",
    [
        {"worker_threads": 4},
        {"worker_pools": {"default": {"worker_count": 4, "commands": ["*"]}}},
        {
            "worker_pools_enabled": False,
            "worker_threads": 4,
            "worker_pools": {"peers": {"worker_count": 2, "commands": ["minion_pub"]}},
        },
    ],
)
def test_too_few_workers_are_refused_with_the_cure(cluster, options):
    plan = asked(cluster, options)
    assert plan.steps == ()
    assert "worker_pools" in plan.refusal and "worker_threads: 8" in plan.refusal


@pytest.mark.parametrize(
    "options",
    [
        {"worker_threads": 5},
        {
            "worker_pools": {
                "peers": {"worker_count": 2, "commands": ["minion_pub"]},
                "default": {"worker_count": 2, "commands": ["*"]},
            }
        },
    ],
)
def test_enough_workers_are_not_complained_of(cluster, options):
    assert asked(cluster, options).refusal == ""


def test_an_older_salt_takes_no_notice_of_pools(cluster):
    pools = {
        "peers": {"worker_count": 2, "commands": ["minion_pub"]},
        "default": {"worker_count": 5, "commands": ["*"]},
    }
    assert asked(cluster, {"worker_pools": pools}).steps
    plan = asked(cluster, {"worker_threads": 4, "worker_pools": pools}, release=3007)
    assert plan.steps == () and "worker_threads: 8" in plan.refusal
