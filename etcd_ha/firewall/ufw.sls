{#- ufw takes the first rule that matches: who needs a port goes in front, everybody else to the end. -#}
{%- set host = salt["etcd_ha.host"]() %}
# It is not switched on from here: who has not yet admitted ssh and Salt would be locked out.
ufw is in force:
  cmd.run:
    - name: >-
        echo "ufw is not active on this host, so its rules protect nothing. Admit ssh and what else
        the host needs, then: ufw enable. Or choose firewall:kind nftables" >&2; exit 1
    - unless: LC_ALL=C ufw status | grep -q '^Status. active'
{% for rule in host.firewall.rules %}
{%- for source in rule.sources %}
ufw admits {{ source }} to port {{ rule.port }}:
  cmd.run:
    - name: ufw prepend allow proto tcp from {{ source }} to any port {{ rule.port }} comment '{{ rule.why }}'
    - unless: ufw show added | grep -qF 'allow from {{ source }} to any port {{ rule.port }} proto tcp'
{% endfor %}
ufw admits nobody else to port {{ rule.port }}:
  cmd.run:
    - name: ufw deny proto tcp from any to any port {{ rule.port }} comment '{{ rule.why }}, nobody else'
    - unless: ufw show added | grep -qF 'deny {{ rule.port }}/tcp'
{%- for source in rule.sources %}
{%- if loop.first %}
    - require:
{%- endif %}
      - cmd: ufw admits {{ source }} to port {{ rule.port }}
{%- endfor %}
{% endfor %}
