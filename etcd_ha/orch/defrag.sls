{#- Defragments the databases where it pays, one member at a time, the leader last. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "defrag"} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
