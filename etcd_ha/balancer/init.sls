{#- A load balancer. It passes TCP through: clients and members speak TLS with each other. -#}
{%- set host = salt["etcd_ha.host"]() %}
include:
  - etcd_ha.in_force
{%- if host.entries or host.hostname %}
  - etcd_ha.hosts
{%- endif %}
{%- if host.balancer.pki %}
  - etcd_ha.certificates
{%- endif %}
{%- if host.balancer.pki and host.balancer.pki.trust_store %}
  - etcd_ha.trust
{%- endif %}
  - etcd_ha.firewall
  - etcd_ha.balancer.package
  - etcd_ha.balancer.{{ host.balancer.kind }}
{%- set balancer = host.balancer %}
{%- if balancer.nonlocal %}
  - etcd_ha.balancer.nonlocal
{%- endif %}
{%- if balancer.virtual %}
  - etcd_ha.balancer.checker
  - etcd_ha.balancer.keepalived
{%- elif salt["etcd_ha_virtual.former"]() %}
  - etcd_ha.balancer.no_keepalived
{%- endif %}
{%- if balancer.pki and balancer.cluster in host.former %}
{%- set former = salt["file.dirname"](balancer.pki.dir) ~ "/" ~ host.former[balancer.cluster] %}

{{ former }} is no longer needed:
  file.absent:
    - name: {{ former }}
    - require:
      - sls: etcd_ha.balancer.{{ balancer.kind }}
{%- endif %}
