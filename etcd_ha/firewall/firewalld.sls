{#- A policy of its own, before the rules of all zones. -#}
{%- set host = salt["etcd_ha.host"]() %}
firewalld admits only those who need etcd:
  etcd_ha_firewall.firewalld:
    - rules: {{ host.firewall.rules | json }}
