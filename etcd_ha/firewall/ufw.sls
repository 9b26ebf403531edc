{#- ufw takes the first rule that matches: who needs a port goes in front, everybody else to the end. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- for rule in host.firewall.rules %}
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
