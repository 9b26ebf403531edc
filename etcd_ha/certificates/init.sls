{#- The certificates of a member, and the one with which a balancer checks members. -#}
{%- set host = salt["etcd_ha.host"]() %}
include:
{%- if host.member %}
  - etcd_ha.account
{%- endif %}
{%- if host.balancer and host.balancer.virtual %}
  - etcd_ha.balancer.checker
{%- endif %}
  - etcd_ha.certificates.directories
{%- for part in (host.member, host.balancer) if part and part.pki %}
  - etcd_ha.certificates.{{ part.pki.source }}
{%- endfor %}
