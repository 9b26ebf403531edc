{#- Makes every cluster as its pillar says, or the one that pillar='{"cluster": NAME}' names. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("converge") | load_json %}
{%- do words.update({"earlier": pillar.get("etcd_ha_again")}) %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
