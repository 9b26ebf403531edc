{#- The user's own certificates, out of the pillar. They are named by their pillar key, so that no key
    text stands in a rendered state. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- macro pillar_key(cluster, name, part) -%}
  {%- set own = "etcd_ha:clusters:" ~ cluster ~ ":tls:files:" ~ name ~ ":" ~ part -%}
  {{ own if salt["pillar.get"](own) else "etcd_ha:tls:files:" ~ name ~ ":" ~ part }}
{%- endmacro %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
{%- set pki = part.pki %}
"{{ part.cluster }}: {{ pki.ca_certificate }} is the CA's certificate":
  file.managed:
    - name: {{ pki.ca_certificate }}
    - contents_pillar: {{ pillar_key(part.cluster, "ca", "certificate") }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"
{% for leaf in pki.leaves %}
{%- set name = pki.files[leaf.purpose].name %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is the pillar's":
  file.managed:
    - name: {{ leaf.certificate }}
    - contents_pillar: {{ pillar_key(part.cluster, name, "certificate") }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"

"{{ part.cluster }}: the key of the {{ leaf.purpose }} certificate can be read by {{ leaf.owner }} alone":
  file.managed:
    - name: {{ leaf.key }}
    - contents_pillar: {{ pillar_key(part.cluster, name, "key") }}
    - show_changes: false
    - mode: "0400"
    - user: {{ leaf.owner }}
    - group: {{ leaf.group }}
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"
{% endfor %}
{%- endfor %}
