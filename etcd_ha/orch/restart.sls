{#- Restarts the members of a cluster in sync one by one, the leader last. -#}
{%- from "etcd_ha/orch/steps.jinja" import run %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "restart"} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
