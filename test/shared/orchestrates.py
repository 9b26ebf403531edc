"""The SLS of the orchestrates as text, by Jinja alone: without a master, and with any runner."""

import json
import pathlib

import jinja2

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rendered(command, runner, **context):
    """The YAML of ``etcd_ha/orch/COMMAND.sls``; ``runner`` stands in for ``saltutil.runner``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT),
        extensions=["jinja2.ext.do"],
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"json": json.dumps, "load_json": json.loads}
    template = environment.get_template(f"etcd_ha/orch/{command}.sls")
    return template.render(salt={"saltutil.runner": runner}, **context)
