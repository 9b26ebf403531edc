{#- Stops a cluster for good and sets its data aside: pillar='{"confirm": NAME}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("remove_cluster", ["confirm"]) | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
