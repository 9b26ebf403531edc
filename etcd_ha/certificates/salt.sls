{#- Leaves from the CA minion, by Salt's x509 states.

    A renewal makes a new key. Nothing live is touched before the CA has signed: the new key and its
    certificate lie in `next/` first. So a CA that is away leaves a working pair behind.

    One question to the CA for all: it brings the policies, the CA's certificate, and certificates
    for keys that have none yet. A renewal asks for each leaf by itself. Rendering asks nobody. -#}
{%- set host = salt["etcd_ha.host"]() %}
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

{%- set leaves = pki.leaves | selectattr("certificate", "in", host.issuing) | list %}
{%- for leaf in leaves %}
{%- set key = next ~ "/" ~ leaf.purpose ~ ".key" %}
"{{ part.cluster }}: a new key for the {{ leaf.purpose }} certificate is made where it is used":
  etcd_ha.key_made:
    - key: {{ key }}
    - algo: {{ leaf.algo }}
    - keysize: {{ leaf.keysize }}
    - require:
      - file: "{{ part.cluster }}: new keys of the {{ kind }} are root's alone"
{%- if salt["file.file_exists"](key) %}
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
    - prereq:
      - x509: "{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by the CA"
{%- else %}
    - require_in:
      - etcd_ha_ca: "{{ part.cluster }}: the CA is asked for all certificates of the {{ kind }} at once"
{%- endif %}
{% endfor %}
{%- if leaves %}
"{{ part.cluster }}: the CA is asked for all certificates of the {{ kind }} at once":
  etcd_ha_ca.asked:
    - ca_server: {{ pki.ca_server | json }}
    - not_before: {{ host.not_before | json }}
    - leaves:
{%- for leaf in leaves %}
      - policy: {{ leaf.policy | json }}
        key: {{ next }}/{{ leaf.purpose }}.key
        certificate: {{ next }}/{{ leaf.purpose }}.crt
{%- endfor %}
    - require:
      - file: "{{ part.cluster }}: new keys of the {{ kind }} are root's alone"
    - require_in:
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
{%- endif %}

"{{ part.cluster }}: the {{ kind }} has the CA's certificate":
  etcd_ha_ca.trusted:
    - path: {{ pki.ca_certificate }}
    - phase: {{ host.phase | json }}
    - ca_server: {{ pki.ca_server | json }}
    - policy: {{ pki.ca_policy | json }}
    - require:
      - file: "{{ part.cluster }}: the {{ kind }} has a directory for certificates"
{#- One after the other: a question to the CA holds a worker of the master while it needs a second
    one, so hosts that ask several at once can stop a whole master (worker_threads is 5). #}
{%- for leaf in leaves %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by the CA":
  x509.certificate_managed:
    - name: {{ next }}/{{ leaf.purpose }}.crt
    - ca_server: {{ leaf.ca_server | json }}
    - signing_policy: {{ leaf.policy | json }}
    - private_key: {{ next }}/{{ leaf.purpose }}.key
    - not_before: {{ host.not_before | json }}
    - days_valid: {{ leaf.days_valid }}
    - days_remaining: {{ leaf.days_remaining }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: new keys of the {{ kind }} are root's alone"
      - etcd_ha_ca: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
{% endfor %}
{%- for leaf in leaves %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is in use, its key {{ leaf.owner }}'s alone to read":
  etcd_ha.pair_in_use:
    - certificate: {{ leaf.certificate }}
    - key: {{ leaf.key }}
    - new_certificate: {{ next }}/{{ leaf.purpose }}.crt
    - new_key: {{ next }}/{{ leaf.purpose }}.key
    - ca: {{ pki.ca_certificate }}
    - need: {{ leaf.need | json }}
    - user: {{ leaf.owner | json }}
    - group: {{ leaf.group | json }}
    - require:
      - x509: "{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by the CA"
{% endfor %}
{%- endfor %}
