{#- The cluster's CA among those that every program on this host trusts (opt-in). -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
include:
  - etcd_ha.certificates

the tools of the system's trust store are installed:
  pkg.installed:
    - pkgs: {{ os.trust.packages | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}
{%- for kind, part in (("member", host.member), ("balancer", host.balancer)) if part and part.pki and part.pki.trust_store %}
{%- set anchor = os.trust.dir ~ "/" ~ part.pki.trust_name ~ ".crt" %}

"{{ part.cluster }}: the CA is an anchor of the system's trust store":
  file.symlink:
    - name: {{ anchor }}
    - target: {{ part.pki.ca_certificate }}
    - force: true
    - require:
      - pkg: the tools of the system's trust store are installed
      - id: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
{%- if part.cluster in host.former %}
{%- set former = os.trust.dir ~ "/etcd_ha_" ~ host.former[part.cluster] ~ ".crt" %}

"{{ part.cluster }}: {{ former }} is no anchor any more":
  file.absent:
    - name: {{ former }}
    - require_in:
      - cmd: "{{ part.cluster }}: the system's trust store is made anew"
{%- endif %}

"{{ part.cluster }}: the system's trust store is made anew":
  cmd.run:
    - name: {{ os.trust.command }}
    - env:
      - PATH: /usr/sbin:/usr/bin:/sbin:/bin
    - onchanges:
      - file: "{{ part.cluster }}: the CA is an anchor of the system's trust store"
      - id: "{{ part.cluster }}: the {{ kind }} has the CA's certificate"
{%- endfor %}
