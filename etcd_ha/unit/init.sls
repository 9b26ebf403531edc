{#- The unit; etcd_ha.running reloads systemd where that is needed, beside its start. -#}
{%- from "etcd_ha/map.jinja" import host with context %}
{%- set member = host.member %}
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
