{#- A distribution's package starts its own etcd as soon as it is unpacked (Debian's postinst calls
    deb-systemd-invoke, which leaves masked units alone). So the unit is masked first; etcd_ha.unit
    puts the formula's own unit in the mask's place. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set member = host.member or host.coming.member %}
{%- set unit_file = "/etc/systemd/system/" ~ member.unit %}
the distribution's own {{ member.unit }} does not start by itself:
{%- if salt["file.file_exists"](unit_file) %}
  file.exists:
    - name: {{ unit_file }}
{%- else %}
  file.symlink:
    - name: {{ unit_file }}
    - target: /dev/null
{%- endif %}

the distribution's packages of etcd are installed:
  pkg.installed:
    - pkgs: {{ member.install.packages | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}
    - require:
      - file: the distribution's own {{ member.unit }} does not start by itself
