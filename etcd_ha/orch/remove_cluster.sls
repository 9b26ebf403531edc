{#- Stops a cluster for good and sets its data aside: pillar='{"confirm": NAME}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "remove_cluster", "confirm": pillar.get("confirm")} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
