{#- Rules in front of all others, told by their comment. -#}
{%- set host = salt["etcd_ha.host"]() %}
ufw admits only those who need etcd:
  etcd_ha_firewall.ufw:
    - rules: {{ host.firewall.rules | json }}
