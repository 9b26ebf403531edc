{#- Takes a backup of every cluster, or of the one that pillar='{"cluster": NAME}' names. -#}
{%- from "etcd_ha/orch/steps.jinja" import asked with context %}
{%- set words = asked("backup") | load_json %}
{%- do words.pop("command") %}
{%- set plan = salt["saltutil.runner"]("etcd_ha.backup_steps", kwarg=words) %}
{%- for refusal in plan.refusals %}
{{ refusal.id | json }}:
  test.fail_without_changes:
    - name: {{ refusal.why | json }}
{%- endfor %}

{%- for cluster in plan.clusters %}
{{ cluster.id | json }}:
  salt.runner:
    - name: etcd_ha.backup
    - cluster: {{ cluster.name | json }}
{%- endfor %}
