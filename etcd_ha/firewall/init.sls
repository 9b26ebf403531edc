{#- Who may reach etcd's ports (opt-in). No other port is filtered, and no rule that is not the
    formula's is touched. What it no longer wants is removed, when it is switched off too. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set kinds = ["nftables", "firewalld", "ufw"] %}
{%- if host.firewall %}
{%- set kind = host.firewall.kind %}
{%- if kind == "auto" %}
{%- if salt["service.status"]("firewalld") %}
{%- set kind = "firewalld" %}
{%- elif salt["file.file_exists"]("/etc/ufw/ufw.conf") and salt["file.search"]("/etc/ufw/ufw.conf", "(?i)^ENABLED=yes") %}
{%- set kind = "ufw" %}
{%- else %}
{%- set kind = "nftables" %}
{%- endif %}
{%- endif %}
include:
  - etcd_ha.firewall.{{ kind }}
{% do kinds.remove(kind) %}
{%- endif %}
no rule of etcd_ha is left in {{ kinds | join(" or ") }}:
  etcd_ha_firewall.cleared:
    - kinds: {{ kinds | json }}
