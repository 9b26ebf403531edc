{%- from "etcd_ha/map.jinja" import host with context %}
include:
  - etcd_ha.install.{{ host.member.install.method }}
