{#- Restarts the members of a cluster in sync one by one, the leader last, or pillar='{"member": NAME}' alone. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "restart", "member": pillar.get("member", "")} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
