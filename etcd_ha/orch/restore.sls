{#- Puts a backup onto all members: pillar='{"confirm": NAME, "backup": NAME OR PATH}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "restore", "confirm": pillar.get("confirm")} %}
{%- do asked.update({"backup": pillar.get("backup", "")}) %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
