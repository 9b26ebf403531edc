{%- set host = salt["etcd_ha.host"]() %}
include:
  - etcd_ha.kept

{%- for kind, part in (("member", host.member), ("balancer", host.balancer)) if part and part.pki %}
"{{ part.cluster }}: the {{ kind }} has a directory for certificates":
  file.directory:
    - name: {{ part.pki.dir }}
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: true
    - require:
      - sls: etcd_ha.kept
{%- if host.member and part is sameas host.member %}
      - sls: etcd_ha.account
{%- elif part.virtual %}
      - sls: etcd_ha.balancer.checker
{%- endif %}
{% endfor %}
