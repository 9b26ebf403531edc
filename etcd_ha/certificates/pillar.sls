{#- The user's own certificates, out of the pillar. They are named by their pillar key, so that no key
    text stands in a rendered state. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- macro pillar_key(cluster, name, part) -%}
  {%- set own = "etcd_ha:clusters:" ~ cluster ~ ":tls:files:" ~ name ~ ":" ~ part -%}
  {{ own if salt["pillar.get"](own) else "etcd_ha:tls:files:" ~ name ~ ":" ~ part }}
{%- endmacro %}
{%- for kind, part in (("member", host.member), ("balancer", host.balancer)) if part and part.pki %}
{%- set pki = part.pki %}
{%- set next = pki.dir ~ "/next" %}
"{{ part.cluster }}: new keys of the {{ kind }} are root's alone":
  file.directory:
    - name: {{ next }}
    - user: root
    - group: root
    - mode: "0700"
    - require:
      - file: "{{ part.cluster }}: the {{ kind }} has a directory for certificates"

"{{ part.cluster }}: the {{ kind }} has the CA's certificate":
  etcd_ha_ca.trusted:
    - path: {{ pki.ca_certificate }}
    - phase: {{ host.phase | json }}
    - pillar: {{ pillar_key(part.cluster, "ca", "certificate") }}
    - require:
      - file: "{{ part.cluster }}: the {{ kind }} has a directory for certificates"
{%- set leaves = pki.leaves | selectattr("certificate", "in", host.issuing) | list %}
{% for leaf in leaves %}
{%- set name = pki.files[leaf.purpose].name %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is the pillar's":
  file.managed:
    - name: {{ next }}/{{ leaf.purpose }}.crt
    - contents_pillar: {{ pillar_key(part.cluster, name, "certificate") }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: new keys of the {{ kind }} are root's alone"
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"

"{{ part.cluster }}: the key of the {{ leaf.purpose }} certificate is the pillar's":
  file.managed:
    - name: {{ next }}/{{ leaf.purpose }}.key
    - contents_pillar: {{ pillar_key(part.cluster, name, "key") }}
    - show_changes: false
    - mode: "0400"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: new keys of the {{ kind }} are root's alone"
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"

"{{ part.cluster }}: the {{ leaf.purpose }} certificate is in use, its key {{ leaf.owner }}'s alone to read":
  etcd_ha.pair_in_use:
    - certificate: {{ leaf.certificate }}
    - key: {{ leaf.key }}
    - new_certificate: {{ next }}/{{ leaf.purpose }}.crt
    - new_key: {{ next }}/{{ leaf.purpose }}.key
    - ca: {{ pki.ca_certificate }}
    - need: {{ leaf.need | json }}
    - kept: {{ (host.pairs == "keep") | json }}
    - user: {{ leaf.owner | json }}
    - group: {{ leaf.group | json }}
    - require:
      - file: "{{ part.cluster }}: the {{ leaf.purpose }} certificate is the pillar's"
      - file: "{{ part.cluster }}: the key of the {{ leaf.purpose }} certificate is the pillar's"
{% endfor %}
{%- endfor %}
