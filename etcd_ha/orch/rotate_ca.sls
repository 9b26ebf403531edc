{#- Makes a new CA, and exchanges the certificates of all hosts for its own, step by step. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("rotate_ca") | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
