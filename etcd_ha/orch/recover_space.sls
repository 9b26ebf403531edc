{#- The way out of NOSPACE: compacts, defragments each member, disarms that alarm. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("recover_space") | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
