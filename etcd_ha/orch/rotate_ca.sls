{#- Makes a new CA, and exchanges the certificates of all hosts for its own, step by step. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "rotate_ca"} %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
