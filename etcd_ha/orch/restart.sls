{#- Restarts the members of a cluster in sync one by one, the leader last, or pillar='{"member": NAME}' alone. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("restart", ["member"]) | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
