{#- Rebuilds a member from the others, sound or not: pillar='{"confirm": NAME, "member": MEMBER}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("replace", ["confirm", "member"]) | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
