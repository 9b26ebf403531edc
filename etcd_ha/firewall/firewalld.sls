{#- Rich rules in the default zone: sources that need a port are let in, all others are not. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set rules = [] %}
{%- for rule in host.firewall.rules %}
{%- for source in rule.sources %}
{%- set family = "ipv6" if ":" in source else "ipv4" %}
{%- do rules.append('rule family="%s" source address="%s" port port="%s" protocol="tcp" accept'
                    | format(family, source, rule.port)) %}
{%- endfor %}
{#- A positive priority comes after every other rule of the zone. #}
{%- for family in ("ipv4", "ipv6") %}
{%- do rules.append('rule priority="32000" family="%s" port port="%s" protocol="tcp" drop' | format(family, rule.port)) %}
{%- endfor %}
{%- endfor %}
firewalld admits only those who need etcd:
  firewalld.present:
    - name: {{ salt["firewalld.default_zone"]() if salt["cmd.has_exec"]("firewall-cmd") else "public" }}
    - rich_rules: {{ rules | json }}
