{#- Who may reach etcd's ports (opt-in). No other port is filtered. -#}
{%- set host = salt["etcd_ha.host"]() %}
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
