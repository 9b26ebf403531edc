{#- The CA of each cluster that this minion signs for. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- for ca in host.authorities %}
{%- set key, certificate = ca.dir ~ "/ca.key", ca.dir ~ "/ca.crt" %}
{%- set dirs = [ca.dir] %}
{%- if ca.cluster in host.former %}
{%- set former = salt["file.dirname"](ca.dir) ~ "/" ~ host.former[ca.cluster] %}
{%- do dirs.append(former) %}
"{{ ca.cluster }}: the CA lies under the cluster's new name":
  etcd_ha.renamed:
    - old: {{ former }}
    - new: {{ ca.dir }}
    - require_in:
      - file: "{{ ca.cluster }}: the CA's directory is root's alone"
{% endif %}
{%- for what, folder in (("the CA's directory", ca.dir), ("the folder of issued certificates", ca.dir ~ "/issued")) %}
"{{ ca.cluster }}: {{ what }} is root's alone":
  file.directory:
    - name: {{ folder }}
    - user: root
    - group: root
    - mode: "0700"
    - makedirs: true
{% endfor %}
"{{ ca.cluster }}: the CA has not lost its key":
  etcd_ha.key_kept:
    - key: {{ key }}
    - certificate: {{ certificate }}

{#- Made once: whatever changes in the pillar, a key that is there is never replaced. (Not by
    `creates`: for a state without mod_run_check Salt then loads every module that it has.) #}
{%- if not host.keeps and salt["etcd_ha_ca.needs_key"](ca.dir) %}
"{{ ca.cluster }}: the CA has a key":
  x509.private_key_managed:
    - name: {{ key }}
    - algo: {{ ca.algo }}
    - keysize: {{ ca.keysize }}
    # What is there is empty: a full disk left it.
    - overwrite: true
    - mode: "0400"
    - user: root
    - group: root
    - require:
      - file: "{{ ca.cluster }}: the CA's directory is root's alone"
      - etcd_ha: "{{ ca.cluster }}: the CA has not lost its key"
    - require_in:
      - file: "{{ ca.cluster }}: the CA's key can be read by root alone"
{%- endif %}

"{{ ca.cluster }}: the CA's key can be read by root alone":
  file.managed:
    - name: {{ key }}
    - mode: "0400"
    - user: root
    - group: root
    - replace: false
    - require:
      - etcd_ha: "{{ ca.cluster }}: the CA has not lost its key"
{%- if not host.keeps %}

"{{ ca.cluster }}: the CA has a certificate that it signed itself":
  x509.certificate_managed:
    - name: {{ certificate }}
    - signing_private_key: {{ key }}
    - CN: {{ salt["etcd_ha_ca.common_name"](ca.cluster, dirs, ca.common_name) | json }}
{%- if ca.organization %}
    - O: {{ ca.organization | json }}
{%- endif %}
    - basicConstraints: critical, CA:true, pathlen:0
    - keyUsage: critical, keyCertSign, cRLSign
    - subjectKeyIdentifier: hash
    - not_before: {{ host.not_before | json }}
    - days_valid: {{ ca.days_valid }}
    - days_remaining: {{ ca.days_remaining }}
    - mode: "0644"
    - user: root
    - group: root
    - require:
      - file: "{{ ca.cluster }}: the CA's key can be read by root alone"
{%- endif %}
{% endfor %}
{#- A CA that no cluster names any more stays as it is: its pillar has policies, but none of it. #}
{%- if not host.keeps or salt["pillar.get"]("x509_signing_policies", none) != {} %}
the CA signs by the present pillar:
  etcd_ha.policies_loaded:
    - require:
{%- for ca in host.authorities %}
      - file: "{{ ca.cluster }}: the folder of issued certificates is root's alone"
{%- if not host.keeps %}
      - x509: "{{ ca.cluster }}: the CA has a certificate that it signed itself"
{%- endif %}
{%- endfor %}
{%- endif %}
