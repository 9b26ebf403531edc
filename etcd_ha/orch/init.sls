{#- Runs the plan, one Salt state a step, each after the one before it. Decides nothing. -#}
{%- set plan = salt["saltutil.runner"]("etcd_ha.steps", kwarg={"cluster": pillar.get("cluster")}) %}

{%- for refusal in plan.refusals %}
{{ refusal.id | json }}:
  test.fail_without_changes:
    - name: {{ refusal.why | json }}
{%- endfor %}

{%- for step in plan.steps %}
{{ step.id | json }}:
{%- if step.kind == "state" %}
  salt.state:
    - tgt: {{ step.targets | json }}
    - tgt_type: list
    - expect_minions: true
    - sls: {{ step.sls | json }}
    - pillar: {{ step.pillar | json }}
{%- elif step.kind == "function" %}
  salt.function:
    - name: {{ step.function }}
    - tgt: {{ step.targets | json }}
    - tgt_type: list
    - expect_minions: true
    - kwarg: {{ step.arguments | json }}
{%- elif step.kind == "again" %}
  salt.runner:
    - name: state.orchestrate
    - mods: etcd_ha.orch
    - pillar: {{ {"cluster": step.cluster} | json }}
{%- else %}
  salt.runner:
    - name: etcd_ha.remember
    - cluster: {{ step.cluster | json }}
    - members: {{ step.members | json }}
{%- endif %}
{%- if not loop.first %}
    - require:
      - salt: {{ loop.previtem.id | json }}
{%- endif %}
{%- endfor %}

{%- if not plan.refusals and not plan.steps %}
Every cluster is as its pillar says:
  test.succeed_without_changes: []
{%- endif %}
