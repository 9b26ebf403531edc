{%- set host = salt["etcd_ha.host"]() %}
include:
  - etcd_ha.install.{{ (host.member or host.coming.member).install.method }}
