{#- What disturbs no running cluster: it may be applied to all hosts at once, at any time. -#}
{%- set refusal = salt["etcd_ha.refusal"](fit=True) %}
{%- if refusal %}
etcd_ha changes nothing on this host:
  test.fail_without_changes:
    - comment: {{ refusal | json }}
{%- else %}
{%- set host = salt["etcd_ha.host"]() %}
{%- set member, balancer = host.member or host.coming.member, host.balancer or host.coming.balancer %}
{%- if host.clusters or member or balancer %}
include:
  - etcd_ha.in_force
{%- if host.entries or host.hostname %}
  - etcd_ha.hosts
{%- endif %}
{%- if host.authorities %}
  - etcd_ha.authority
{%- endif %}
{%- if member %}
  - etcd_ha.account
  - etcd_ha.install
{%- if member.backup.schedule %}
  - etcd_ha.backup.schedule
{%- endif %}
{%- endif %}
{%- if balancer %}
  - etcd_ha.balancer.package
{%- endif %}
{%- if not member and not balancer %}
  - etcd_ha.applied
{%- endif %}
{%- else %}
this host has nothing to prepare:
  test.succeed_without_changes: []
{%- endif %}
{%- endif %}
