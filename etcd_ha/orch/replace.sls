{#- Rebuilds a member from the others, sound or not: pillar='{"confirm": NAME, "member": MEMBER}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "replace", "confirm": pillar.get("confirm")} %}
{%- do asked.update({"member": pillar.get("member", "")}) %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
