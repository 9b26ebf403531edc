{#- Goes on from the newest survivor where quorum is lost: pillar='{"confirm": NAME, "lost": [MINION]}'. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked, run with context %}
{%- set words = asked("recover", ["confirm", "lost", "survivor"]) | load_json %}
{{ run(salt["saltutil.runner"]("etcd_ha.steps", kwarg=words)) }}
