{#- Defragments the databases where it pays, one member at a time, the leader last. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("defrag") | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
