{#- Everything that this minion is, in the order in which it can work. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- if host.clusters %}
include:
  - etcd_ha.prepare
{%- if host.firewall %}
  - etcd_ha.firewall
{%- endif %}
{%- if host.member %}
  - etcd_ha.member
{%- endif %}
{%- if host.balancer %}
  - etcd_ha.balancer
{%- endif %}
  - etcd_ha.applied
{%- else %}
{{ host.minion }} has no part in an etcd cluster:
  test.succeed_without_changes: []
{%- endif %}
