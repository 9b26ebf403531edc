{#- The user's own certificates, out of files that lie on this host already. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
{%- set pki = part.pki %}
"{{ part.cluster }}: {{ pki.ca_certificate }} is the CA's certificate":
  file.managed:
    - name: {{ pki.ca_certificate }}
    - source: {{ pki.files.ca.certificate }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"
{% for leaf in pki.leaves %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is the one at {{ pki.files[leaf.purpose].certificate }}":
  file.managed:
    - name: {{ leaf.certificate }}
    - source: {{ pki.files[leaf.purpose].certificate }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"

"{{ part.cluster }}: the key of the {{ leaf.purpose }} certificate can be read by {{ leaf.owner }} alone":
  file.managed:
    - name: {{ leaf.key }}
    - source: {{ pki.files[leaf.purpose].key }}
    - show_changes: false
    - mode: "0400"
    - user: {{ leaf.owner }}
    - group: {{ leaf.group }}
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"
{% endfor %}
{%- endfor %}
