{#- Everything that this minion is, in the order in which it can work. -#}
{%- set refusal = salt["etcd_ha.refusal"](fit=True) %}
{%- if refusal %}
etcd_ha changes nothing on this host:
  test.fail_without_changes:
    - comment: {{ refusal | json }}
{%- else %}
{%- set host = salt["etcd_ha.host"]() %}
include:
{%- if host.clusters or host.keeps %}
  - etcd_ha.in_force
{%- endif %}
{%- if host.member or host.balancer or host.cleared %}
  # Also where it is off, or the host has no part any more: rules from before are removed.
  - etcd_ha.firewall
{%- endif %}
{%- if host.clusters or host.coming.member or host.coming.balancer %}
  - etcd_ha.prepare
{%- endif %}
{%- if host.clusters %}
{%- if host.member %}
  - etcd_ha.member
  - etcd_ha.backup
{%- endif %}
{%- if host.balancer %}
  - etcd_ha.balancer
{%- endif %}
  - etcd_ha.applied
{%- elif host.cleared %}

this host has no part in an etcd cluster:
  test.succeed_without_changes: []
{%- endif %}
{%- endif %}
