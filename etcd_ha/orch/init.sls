{#- Makes every cluster as its pillar says, or the one that pillar='{"cluster": NAME}' names. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "earlier": pillar.get("etcd_ha_again")} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
