{%- from "etcd_ha/map.jinja" import host, os with context %}
{%- set balancer = host.balancer %}
the packages of {{ balancer.kind }} are installed:
  pkg.installed:
    - pkgs: {{ ([balancer.package] if balancer.package else os[balancer.kind].packages) | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}
