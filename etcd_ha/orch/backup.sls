{#- Takes a backup of every cluster, or of the one that pillar='{"cluster": NAME}' names. -#}
{%- set asked = {"cluster": pillar.get("cluster")} %}
{%- set plan = salt["saltutil.runner"]("etcd_ha.backup_steps", kwarg=asked) %}
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
