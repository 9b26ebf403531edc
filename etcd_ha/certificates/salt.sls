{#- Leaves from the CA minion, by Salt's x509 states.

    A renewal makes a new key. Nothing live is touched before the CA has signed: the new key waits in
    `next/`, the certificate state writes only on success, and the key follows at once. So a CA that
    is away leaves a working pair behind.

    Round trips to the CA: one for ca.crt, which also leaves the policy in x509's cache, and one for
    each new leaf. The CA's certificate is fetched by a slot, that is while the state runs: rendering
    asks nobody. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
{%- set pki = part.pki %}
{%- set next = pki.dir ~ "/next" %}
"{{ part.cluster }}: {{ next }} is root's alone":
  file.directory:
    - name: {{ next }}
    - user: root
    - group: root
    - mode: "0700"
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"

"{{ part.cluster }}: {{ pki.ca_certificate }} is the CA's certificate":
{%- if opts["test"] and not salt["file.file_exists"](pki.ca_certificate) %}
  {#- On a blank host the CA may not be there to be asked. #}
  file.managed:
    - replace: false
{%- else %}
  x509.pem_managed:
    - text: __slot__:salt:x509.get_signing_policy("{{ pki.ca_policy }}", ca_server="{{ pki.ca_server }}").signing_cert
{%- endif %}
    - name: {{ pki.ca_certificate }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ pki.dir }} is there"
{% for leaf in pki.leaves %}
{%- set key = next ~ "/" ~ leaf.purpose ~ ".key" %}
"{{ part.cluster }}: a new key for the {{ leaf.purpose }} certificate is made where it is used":
  etcd_ha.key_made:
    - key: {{ key }}
    - algo: {{ leaf.algo }}
    - keysize: {{ leaf.keysize }}
    - require:
      - file: "{{ part.cluster }}: {{ next }} is root's alone"
{%- if salt["file.file_exists"](key) %}
    - prereq:
      - x509: "{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by {{ leaf.ca_server }}"
{%- endif %}
{% endfor %}
{#- One after the other: a question to the CA holds a worker of the master while it needs a second
    one, so hosts that ask several at once can stop a whole master (worker_threads is 5). Each key
    follows its certificate before the next one is asked for: until then the two are no pair. #}
{%- for leaf in pki.leaves %}
{%- set key = next ~ "/" ~ leaf.purpose ~ ".key" %}
"{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by {{ leaf.ca_server }}":
  x509.certificate_managed:
    - name: {{ leaf.certificate }}
    - ca_server: {{ leaf.ca_server }}
    - signing_policy: {{ leaf.policy }}
    - private_key: {{ key }}
    - days_valid: {{ leaf.days_valid }}
    - days_remaining: {{ leaf.days_remaining }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ part.cluster }}: {{ next }} is root's alone"

"{{ part.cluster }}: the key of the {{ leaf.purpose }} certificate can be read by {{ leaf.owner }} alone":
  etcd_ha.key_in_use:
    - source: {{ key }}
    - key: {{ leaf.key }}
    - user: {{ leaf.owner }}
    - group: {{ leaf.group }}
    - require:
      - x509: "{{ part.cluster }}: the {{ leaf.purpose }} certificate is signed by {{ leaf.ca_server }}"
{% endfor %}
{%- endfor %}
