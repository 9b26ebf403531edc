{#- Goes on from the newest survivor where quorum is lost: pillar='{"confirm": NAME, "lost": [MINION]}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import run with context %}
{%- set asked = {"cluster": pillar.get("cluster"), "command": "recover", "confirm": pillar.get("confirm")} %}
{%- do asked.update({"lost": pillar.get("lost", []), "survivor": pillar.get("survivor", "")}) %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=asked)) }}
