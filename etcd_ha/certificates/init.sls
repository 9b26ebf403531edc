{#- The certificates of a member, and the one with which a balancer checks members. -#}
{%- from "etcd_ha/map.jinja" import host with context %}
include:
{%- if host.member %}
  - etcd_ha.account
{%- endif %}
  - etcd_ha.certificates.directories
{%- for part in (host.member, host.balancer) if part and part.pki %}
  - etcd_ha.certificates.{{ part.pki.source }}
{%- endfor %}
