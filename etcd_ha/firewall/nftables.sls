{#- A table of its own, replaced as a whole. nftables drops a packet when any table does, so the
    host's other tables stay in force. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set table, unit = "/etc/nftables.d/etcd_ha.nft", "etcd_ha-firewall.service" %}
the packages of nftables are installed:
  pkg.installed:
    - pkgs: {{ os.nftables.packages | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}

the table etcd_ha admits only those who need etcd:
  file.managed:
    - name: {{ table }}
    - source: salt://etcd_ha/firewall/etcd_ha.nft.jinja
    - template: jinja
    - context:
        rules: {{ host.firewall.rules | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
    - check_cmd: env PATH=/usr/sbin:/usr/bin:/sbin:/bin nft -c -f
    - require:
      - pkg: the packages of nftables are installed

a unit loads the table etcd_ha at boot:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - source: salt://etcd_ha/firewall/etcd_ha-firewall.service.jinja
    - template: jinja
    - context:
        table: {{ table }}
    - user: root
    - group: root
    - mode: "0644"

the table etcd_ha is in force:
  service.running:
    - name: {{ unit }}
    - enable: true
    - reload: true
    - watch:
      - file: the table etcd_ha admits only those who need etcd
      - file: a unit loads the table etcd_ha at boot
