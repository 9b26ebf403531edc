"""A plan in which many hosts ask the CA at once needs a master that can answer them."""

import importlib.util
import pathlib

import pytest
from etcd_ha_steps import Plan, Step

RUNNER = pathlib.Path(__file__).parents[2] / "_runners" / "etcd_ha.py"


def load(options):
    spec = importlib.util.spec_from_file_location("etcd_ha_runner", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = options
    return module


def asked(cluster, options, hosts=4):
    step = Step("main: bootstrap", "state", tuple(f"h{n}" for n in range(hosts)), ("etcd_ha",))
    return load(options)._with_workers(cluster, Plan("main", "", (step,)))


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


def test_an_older_salt_takes_no_notice_of_pools(cluster, monkeypatch):
    pools = {
        "peers": {"worker_count": 2, "commands": ["minion_pub"]},
        "default": {"worker_count": 5, "commands": ["*"]},
    }
    assert asked(cluster, {"worker_pools": pools}).steps
    module = load({"worker_threads": 4, "worker_pools": pools})
    older = module.salt.version.SaltStackVersion(3007, 15)
    monkeypatch.setattr(module.salt.version, "__saltstack_version__", older)
    step = Step("main: bootstrap", "state", tuple(f"h{n}" for n in range(4)), ("etcd_ha",))
    plan = module._with_workers(cluster, Plan("main", "", (step,)))
    assert plan.steps == () and "worker_threads: 8" in plan.refusal
