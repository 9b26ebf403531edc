{#- A member: every file is in place before etcd is started, restarted or looked at. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set member, install = host.member, host.member.install %}
include:
  - etcd_ha.in_force
  - etcd_ha.account
  - etcd_ha.install
{%- if host.entries or host.hostname %}
  - etcd_ha.hosts
{%- endif %}
{%- if member.pki %}
  - etcd_ha.certificates
{%- endif %}
{%- if member.pki and member.pki.trust_store %}
  - etcd_ha.trust
{%- endif %}
  - etcd_ha.firewall
  - etcd_ha.environment
  - etcd_ha.unit
{%- if install.method == "archive" %}

etcd {{ member.version }} is the release in use:
  etcd_ha.switched:
    - dir: {{ install.dir }}
    - current: {{ install.current }}
    - bin_dir: {{ install.bin_dir }}
    - programs: {{ install.programs | json }}
    - require:
      - sls: etcd_ha.install
{%- endif %}
{%- if member.cluster in host.former %}

"{{ member.cluster }}: the record of {{ host.former[member.cluster] }} is the cluster's":
  etcd_ha.renamed:
    - old: {{ salt["file.dirname"](member.record) }}/{{ host.former[member.cluster] }}.json
    - new: {{ member.record }}
    - require_in:
      - etcd_ha: "{{ member.cluster }}: {{ member.name }} runs and is healthy"
{%- endif %}

"{{ member.cluster }}: {{ member.name }} runs and is healthy":
  etcd_ha.running:
    - unit: {{ member.unit }}
    - cluster: {{ member.cluster | json }}
    - environment: {{ member.environment | json }}
    - program: {{ install.program }}
    - record: {{ member.record }}
    - user: {{ member.user | json }}
    - group: {{ member.group | json }}
    - action: {{ host.action | json }}
    - release: {{ member.version | json }}
    - successor: {{ host.successor | json }}
    - endpoints: {{ host.endpoints | json }}
    - restart_before: {{ host.restart_before }}
    - start_timeout: {{ member.start_timeout }}
{%- if install.method == "package" %}
    - version: {{ member.version | json }}
{%- endif %}
    - require:
      - sls: etcd_ha.in_force
      - sls: etcd_ha.account
      - sls: etcd_ha.install
{%- if host.entries or host.hostname %}
      - sls: etcd_ha.hosts
{%- endif %}
{%- if member.pki %}
      - sls: etcd_ha.certificates
{%- endif %}
      - sls: etcd_ha.firewall
      - sls: etcd_ha.environment
      - sls: etcd_ha.unit
{%- if install.method == "archive" %}
      - etcd_ha: etcd {{ member.version }} is the release in use
{%- endif %}
