{#- The unit; etcd_ha.running reloads systemd where that is needed, beside its start. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set member = host.member %}
include:
  - etcd_ha.kept

the unit of etcd is hardened:
  file.managed:
    - name: /etc/systemd/system/{{ member.unit }}
    - source: salt://etcd_ha/unit/etcd.service.jinja
    - template: jinja
    - context:
        member: {{ member | json }}
    - user: root
    - group: root
    - mode: "0644"
    # Before a package is installed a mask lies here: it is replaced, not followed to /dev/null.
    - follow_symlinks: false
    - require:
      - sls: etcd_ha.kept
