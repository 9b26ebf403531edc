{#- Puts a backup onto all members: pillar='{"confirm": NAME, "backup": NAME OR PATH}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("restore", ["confirm", "backup"]) | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
