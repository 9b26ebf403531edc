{#- The user's own certificates, out of files that lie on this host already. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- for kind, part in (("member", host.member), ("balancer", host.balancer)) if part and part.pki %}
{%- set pki = part.pki %}
"{{ part.cluster }}: the {{ kind }} has the CA's certificate":
  etcd_ha_ca.trusted:
    - path: {{ pki.ca_certificate }}
    - phase: {{ host.phase | json }}
    - source: {{ pki.files.ca.certificate }}
    - require:
      - file: "{{ part.cluster }}: the {{ kind }} has a directory for certificates"
{%- set leaves = pki.leaves | selectattr("certificate", "in", host.issuing) | list %}
{% for leaf in leaves %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is in use, its key {{ leaf.owner }}'s alone to read":
  etcd_ha.pair_in_use:
    - certificate: {{ leaf.certificate }}
    - key: {{ leaf.key }}
    - new_certificate: {{ pki.files[leaf.purpose].certificate }}
    - new_key: {{ pki.files[leaf.purpose].key }}
    - ca: {{ pki.ca_certificate }}
    - need: {{ leaf.need | json }}
    - kept: {{ (host.pairs == "keep") | json }}
    - user: {{ leaf.owner | json }}
    - group: {{ leaf.group | json }}
    - require:
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
{% endfor %}
{%- endfor %}
