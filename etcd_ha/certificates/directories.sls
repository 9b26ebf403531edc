{%- set host = salt["etcd_ha.host"]() %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
"{{ part.cluster }}: {{ part.pki.dir }} is there":
  file.directory:
    - name: {{ part.pki.dir }}
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: true
{%- if host.member and part is sameas host.member %}
    - require:
      - sls: etcd_ha.account
{%- elif part.virtual %}
    - require:
      - sls: etcd_ha.balancer.checker
{%- endif %}
{% endfor %}
